"""The newest records of a prediction log, for `slipway logs --predictions`."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.catalogue.block_variables import ObjectStorage
from tasks.bucket.log_store import PREFIX, open_store
from tasks.bucket.shipper import read_lines
from tasks.core.errors import TransientError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Store

_PROOF = "slipway.proof"
_MOST_FILES = 200  # looked through for the newest records
_MOST_FILE_BYTES = 64 << 20


def read_newest(
    storage: ObjectStorage, spool: Path | None, environment: str, count: int
) -> list[dict[str, Any]]:
    """Read the newest records of an environment, the oldest of them first.

    Records of proofs, which no client has asked for, are left out.

    Args:
        storage: The bucket.
        spool: Folder of the records that wait for it on this host, if there is one.
        environment: Name of the environment.
        count: How many to return at most.

    Raises:
        TransientError: The bucket does not answer, or refuses.
    """
    from obstore.exceptions import BaseError

    records = _Newest(count)
    for path in spool.glob(f"*/{environment}/*/*.jsonl*") if spool else ():
        # It was shipped, and is in the bucket; or it is not a file, but a model's code made it.
        with suppress(OSError):
            records.add(read_lines(path))
    try:
        store = open_store(
            storage.bucket,
            storage.endpoint_url or "",
            storage.region,
            (storage.read.key_id, storage.read.secret),
            timeout=30,
        )
        for number, item in enumerate(_newest_objects(store, environment)):
            if records.is_full(item["last_modified"].isoformat()) or number >= _MOST_FILES:
                break
            records.add(_unpack(bytes(store.get(item["path"]).bytes())))
    except BaseError as error:
        raise TransientError(
            f"cannot read the prediction log in bucket {storage.bucket}:"
            f" {str(error).splitlines()[0]}",
            state="nothing was changed",
            next_step="check SLIPWAY_S3_ENDPOINT_URL and SLIPWAY_S3_READ_KEY_ID, or: slipway up",
        ) from error
    return records.sort()


def describe_record(record: dict[str, Any]) -> str:
    """Describe a record in a line, all of it escaped: clients have written it."""
    data = record["data"]
    words = [str(record.get("time", "")), record.get("subject", ""), data.get("method", "")]
    words += [str(data.get("status", "")), f"{data.get('milliseconds', '')} ms"]
    facts = {
        name: data[name]
        for name in ("outputs", "probabilities", "problems", "prediction", "actual", "inputs")
        if name in data
    }
    line = f"{' '.join(map(str, words))} {record.get('id', '')}"
    return f"{json.dumps(line)[1:-1]} {json.dumps(facts)}"


class _Newest:
    """The newest records, each once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._records: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, lines: bytes) -> None:
        """Add the records of a file; step over other lines."""
        for line in lines.splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            is_record = isinstance(record, dict) and isinstance(record.get("data"), dict)
            if is_record and record.get("type") != _PROOF:
                self._records[_key(record)] = record
        self._records = {_key(record): record for record in self.sort()}

    def is_full(self, before: str) -> bool:
        """Tell if files that were written before a moment have no newer record."""
        return len(self._records) >= self._count and _time(self.sort()[0]) > before

    def sort(self) -> list[dict[str, Any]]:
        """Return the newest, by their own time."""
        return sorted(self._records.values(), key=_time)[-self._count :]


def _key(record: dict[str, Any]) -> tuple[str, str]:
    return str(record.get("id")), str(record.get("type"))


def _time(record: dict[str, Any]) -> str:
    return str(record.get("time", ""))


def _newest_objects(store: S3Store, environment: str) -> Iterator[ObjectMeta]:
    """List the files of an environment's log day by day, the newest first."""
    models = store.list_with_delimiter(f"{PREFIX}/")["common_prefixes"]
    days = [
        day
        for model in models
        for day in store.list_with_delimiter(f"{model}/{environment}/")["common_prefixes"]
    ]
    for day in sorted(days, key=lambda day: day.rpartition("/")[2], reverse=True):
        items = [item for batch in store.list(f"{day}/") for item in batch]
        yield from sorted(items, key=lambda item: item["last_modified"], reverse=True)


def _unpack(content: bytes) -> bytes:
    try:
        # Whole files are smaller: another was made to fill the memory.
        return gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MOST_FILE_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""
