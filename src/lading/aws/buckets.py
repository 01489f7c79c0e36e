"""S3 as it is read."""

from __future__ import annotations

from typing import Any

from lading.aws.account import Account


def find_bucket_tags(account: Account, name: str) -> dict[str, str] | None:
    """None where the bucket isn't there; raises DeniedError where it is another account's."""
    if account.find("s3", "HeadBucket", Bucket=name) is None:
        return None
    found = account.find("s3", "GetBucketTagging", Bucket=name)
    return {tag["Key"]: tag["Value"] for tag in found["TagSet"]} if found else {}


def find_notifications(account: Account, bucket: str) -> dict[str, Any] | None:
    """The whole configuration; None where the bucket isn't there."""
    return account.find("s3", "GetBucketNotificationConfiguration", Bucket=bucket)


def is_empty(account: Account, bucket: str) -> bool:
    return not account.call("s3", "ListObjectsV2", Bucket=bucket, MaxKeys=1).get("Contents")
