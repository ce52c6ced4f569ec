"""Storage of the results that must survive a worker: a block of the bucket, as JSON."""

from __future__ import annotations

from typing import Literal, TypedDict

from tasks.core.settings import BLOCK_TYPES, Settings


class _Persisted(TypedDict):
    persist_result: Literal[True]
    result_storage: str
    result_serializer: str


# A retried flow run reads the results of its subflows from here, on whatever worker it runs.
PERSISTED: _Persisted = {
    "persist_result": True,
    # Of another kind of store, opening the bucket says what is wrong.
    "result_storage": f"{BLOCK_TYPES.get(Settings().store, 's3-bucket')}/slipway-results",
    "result_serializer": "json",
}
