"""AWS as the rest of lading sees it: the only importer of boto3. One thin client per service; no decisions here."""
