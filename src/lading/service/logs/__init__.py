"""CloudWatch Logs of this service: groups, streams and events in a SQLite file of their own, and the API over them."""
