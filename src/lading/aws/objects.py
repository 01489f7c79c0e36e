"""Objects in a bucket of any S3 endpoint: put, get, size, list, delete, copy. Credentials and region as boto3 finds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from lading.errors import DownloadError

CONNECTIONS = 64
TRIES = 5
PAGE = 1000
"""Keys of one answer to a listing."""
_MISSING = {"NoSuchKey", "404", "NotFound"}


class BucketError(DownloadError):
    """The bucket can't be reached, doesn't exist, or refuses."""


class NoSuchObjectError(DownloadError):
    """The bucket has no object of that key."""


class Bucket:
    """Thread-safe. Keys are below `prefix`, which ends with a slash or is empty."""

    def __init__(self, name: str, prefix: str = "", endpoint: str = "") -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise BucketError(
                "an S3 store needs the package boto3, which is not installed",
                hint="install it: pip install 'lading[deploy]'",
            ) from None
        self.name, self.prefix = name, prefix
        # Checksums by default (2025) are trailers that other makers' endpoints refuse; contents are verified here anyway.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path"} if endpoint else None,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.session.Session()
            region = session.region_name or "us-east-1"
            self._client: Any = session.client("s3", region_name=region, endpoint_url=endpoint or None, config=config)
        except (BotoCoreError, ValueError) as error:
            self._fail(error, "")

    def put(self, key: str, data: bytes) -> None:
        self._call("PutObject", key, Body=data)

    def get(self, key: str) -> bytes:
        """Raises NoSuchObjectError."""
        answer = self._call("GetObject", key)
        try:
            data: bytes = answer["Body"].read()
        except Exception as error:  # urllib3's and botocore's, which share no base
            self._fail(error, key)
        return data

    def size(self, key: str) -> int | None:
        """Bytes; None where it isn't there."""
        try:
            return int(self._call("HeadObject", key)["ContentLength"])
        except NoSuchObjectError:
            return None

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin so."""
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": PAGE}
        )
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"][len(self.prefix) :]
        except (BotoCoreError, ClientError) as error:
            self._fail(error, prefix)

    def delete(self, key: str) -> None:
        self._call("DeleteObject", key)

    def copy(self, source: str, target: str) -> None:
        """Within the bucket, by the server. Raises NoSuchObjectError."""
        self._call("CopyObject", target, CopySource={"Bucket": self.name, "Key": self.prefix + source})

    def _call(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            method = getattr(self._client, xform_name(operation))
            answer: dict[str, Any] = method(Bucket=self.name, Key=self.prefix + key, **parameters)
        except (BotoCoreError, ClientError) as error:
            self._fail(error, key)
        return answer

    def _fail(self, error: Exception, key: str) -> NoReturn:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        if code in _MISSING:
            raise NoSuchObjectError(
                f"s3://{self.name} has no object {self.prefix}{key}", hint="check the store's address"
            ) from None
        raise BucketError(
            f"s3://{self.name}/{self.prefix}{key}: {error}", hint="check bucket, endpoint and credentials"
        ) from error
