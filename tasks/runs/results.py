"""Storage of the results that must survive a worker: the S3 block, as JSON."""

from __future__ import annotations

from typing import Literal, TypedDict


class _Persisted(TypedDict):
    persist_result: Literal[True]
    result_storage: str
    result_serializer: str


# A retried flow run reads the results of its subflows from here, on whatever worker it runs.
PERSISTED: _Persisted = {
    "persist_result": True,
    "result_storage": "s3-bucket/slipway-results",
    "result_serializer": "json",
}
