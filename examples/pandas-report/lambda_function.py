"""Groups the rows of a CSV and says what it would send where. Works without a network and without credentials."""

import io
import platform
from importlib.metadata import version

import boto3
import pandas
import requests
from botocore import UNSIGNED
from botocore.config import Config

STORE = boto3.client("s3", region_name="eu-central-1", config=Config(signature_version=UNSIGNED))
started_cold = True


def lambda_handler(event, context):
    """Event: `csv` (text), `group_by` and `value` (column names), and optionally `bucket` and `webhook`."""
    table = pandas.read_csv(io.StringIO(event["csv"]))
    report = summarize(table, event["group_by"], event["value"])
    return {
        "rows": len(table),
        "report": report,
        "would_store_at": address_of(event.get("bucket", "reports"), context.aws_request_id),
        "would_send_bytes": size_of(event.get("webhook", "https://example.com/reports"), report),
        "cold": is_cold(),
        "versions": versions(),
    }


def summarize(table, group_by, value):
    """One entry per group: how many rows, their sum and their mean, the largest sum first."""
    groups = table.groupby(group_by)[value].agg(["count", "sum", "mean"]).sort_values("sum", ascending=False)
    return [
        {group_by: name, "count": int(row["count"]), "sum": round(row["sum"], 2), "mean": round(row["mean"], 2)}
        for name, row in groups.iterrows()
    ]


def address_of(bucket, request_id):
    return STORE.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": f"{request_id}.json"})


def size_of(url, report):
    """Bytes of the request's body as requests prepares it; nothing is sent."""
    return len(requests.Request("POST", url, json=report).prepare().body)


def is_cold():
    """True for the first event of an execution environment."""
    global started_cold
    was_cold, started_cold = started_cold, False
    return was_cold


def versions():
    installed = {name: version(name) for name in ("boto3", "numpy", "pandas", "requests")}
    return {"python": platform.python_version(), **installed}
