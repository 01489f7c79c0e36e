# /// script
# requires-python = ">=3.9"
# dependencies = ["python-dateutil"]
# ///
"""The next working days after a date: one file, its requirements in its head (PEP 723)."""

from datetime import date
from itertools import islice

from dateutil.parser import isoparse
from dateutil.rrule import DAILY, FR, MO, TH, TU, WE, rrule


def lambda_handler(event, context):
    after = isoparse(event["after"]) if "after" in event else isoparse(date.today().isoformat())
    days = rrule(DAILY, byweekday=(MO, TU, WE, TH, FR), dtstart=after)
    following = (day for day in days if day > after)
    return [day.date().isoformat() for day in islice(following, event.get("count", 3))]
