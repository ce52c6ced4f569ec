"""The place of prediction logs in the bucket, for programs that must be small: without boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import S3Store

PREFIX = "predictions"


def open_store(
    bucket: str, endpoint: str, region: str, key: tuple[str, str] | None = None, timeout: float = 60
) -> S3Store:
    """Open the bucket; it is asked twice at most.

    Args:
        bucket: Its name, and after a slash a folder, if the records are to be in one.
        endpoint: Its address; empty for AWS.
        region: Its region.
        key: Id and secret of a key; None for the credentials of the variables.
        timeout: Seconds for one request.
    """
    from datetime import timedelta

    from obstore.store import S3Store

    name, _, folder = bucket.partition("/")
    return S3Store(
        name,
        prefix=folder or None,
        endpoint=endpoint or None,
        region=region,
        config={"access_key_id": key[0], "secret_access_key": key[1]} if key else None,
        client_options={
            "allow_http": endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=timeout),
        },
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=60)},
    )
