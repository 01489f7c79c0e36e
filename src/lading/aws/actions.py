"""IAM's name for an API call. Source: service authorization reference, per service; only the exceptions are listed."""

from __future__ import annotations

PREFIXES = {"resourcegroupstaggingapi": "tag", "cloudwatch": "cloudwatch", "events": "events"}
"""boto's name of a service → IAM's prefix, where they differ."""

_EXCEPTIONS = {
    ("lambda", "Invoke"): "lambda:InvokeFunction",
    ("lambda", "ListLayers"): "lambda:ListLayers",
    ("s3", "HeadBucket"): "s3:ListBucket",
    ("s3", "PutBucketLifecycleConfiguration"): "s3:PutLifecycleConfiguration",
    ("s3", "PutPublicAccessBlock"): "s3:PutBucketPublicAccessBlock",
    ("s3", "GetBucketNotificationConfiguration"): "s3:GetBucketNotification",
    ("s3", "PutBucketNotificationConfiguration"): "s3:PutBucketNotification",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
}


def action_of(service: str, operation: str) -> str:
    """ "lambda:CreateFunction" for ("lambda", "CreateFunction")."""
    return _EXCEPTIONS.get((service, operation), f"{PREFIXES.get(service, service)}:{operation}")
