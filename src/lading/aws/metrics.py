"""What CloudWatch knows of a version that takes traffic: its errors, and alarms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from lading.aws.account import Account


def errors_since(account: Account, function: str, alias: str, version: str, begin: dt.datetime) -> int:
    """Errors of a version, invoked through an alias, as far as CloudWatch has them (a minute or two late)."""
    dimensions = [
        {"Name": "FunctionName", "Value": function},
        {"Name": "Resource", "Value": f"{function}:{alias}"},
        {"Name": "ExecutedVersion", "Value": version},
    ]
    answer = account.call(
        "cloudwatch",
        "GetMetricStatistics",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=dimensions,
        StartTime=begin.replace(second=0, microsecond=0),
        EndTime=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    return int(sum(point["Sum"] for point in answer["Datapoints"]))


def alarms_ringing(account: Account, names: Sequence[str]) -> list[str]:
    """Those of the alarms that are in ALARM."""
    if not names:
        return []
    answer = account.call("cloudwatch", "DescribeAlarms", AlarmNames=list(names), StateValue="ALARM")
    return [alarm["AlarmName"] for kind in ("MetricAlarms", "CompositeAlarms") for alarm in answer.get(kind, ())]


def sum_since(account: Account, metric: str, function: str, begin: dt.datetime) -> int:
    """Of "Invocations", "Errors" or "Throttles" of a whole function."""
    end = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    answer = account.call(
        "cloudwatch",
        "GetMetricStatistics",
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=begin,
        EndTime=end,
        Period=3600,
        Statistics=["Sum"],
    )
    return int(sum(point["Sum"] for point in answer["Datapoints"]))
