"""The newest records of a prediction log, from the bucket and from what waits for it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from deployments.catalogue.block_variables import ObjectStorage, S3Identity
from deployments.cli import predictions
from deployments.cli.predictions import describe_record, read_newest
from tasks.core.errors import TransientError

_STORAGE = ObjectStorage("models", S3Identity("a", "b"), S3Identity("c", "d"))


def make_record(number: int, kind: str = "prediction", day: int = 30) -> dict[str, Any]:
    return {
        "id": f"request-{number}",
        "type": f"slipway.{kind}",
        "time": f"2026-11-{day}T12:00:{number:02}.000Z",
        "subject": "v0.0.2",
        "data": {"method": "predict", "status": 200, "milliseconds": 1.5, "outputs": [number]},
    }


def pack(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore()
    monkeypatch.setattr(predictions, "open_store", lambda *_, **__: store)
    return store


def put(store: MemoryStore, name: str, content: bytes, day: int = 30, place: str = "local") -> None:
    key = f"predictions/wine/{place}/date=2026-11-{day}/version=v0.0.2/{name}.jsonl.gz"
    obstore.put(store, key, gzip.compress(content))


def read_numbers(spool: Path | None, count: int) -> list[int]:
    records = read_newest(_STORAGE, spool, "local", count)
    return [record["data"]["outputs"][0] for record in records]


def test_newest_are_shown_whether_they_wait_or_not(tmp_path: Path, store: MemoryStore) -> None:
    put(store, "a", pack(make_record(1, day=29)), day=29)
    put(store, "b", pack(make_record(2), make_record(3), make_record(9, "proof")))
    put(store, "c", pack(make_record(8)), place="local-eu")
    spool = tmp_path / "wine" / "local" / "v0.0.2"
    spool.mkdir(parents=True)
    (spool / "x.jsonl").write_bytes(pack(make_record(3), make_record(4)))
    (spool / "y.jsonl.part").write_bytes(pack(make_record(5)) + b'{"id":')
    assert read_numbers(tmp_path, 10) == [1, 2, 3, 4, 5]
    assert read_numbers(tmp_path, 2) == [4, 5]
    assert read_numbers(None, 2) == [2, 3]


def test_forged_record_is_stepped_over_or_shown_without_raw_signs(store: MemoryStore) -> None:
    forged = {**make_record(1), "id": "\x1b[2J", "subject": ["\x1b]0;"]}
    put(store, "a", b'[]\n{"data": 1}\nnothing\n' + pack(forged))
    put(store, "b", b"")
    obstore.put(store, "predictions/wine/local/date=2026-11-30/version=v/c.jsonl.gz", b"no gzip")
    (record,) = read_newest(_STORAGE, None, "local", 10)
    assert "\x1b" not in describe_record(record)


def test_link_or_pipe_in_the_spool_is_not_opened(tmp_path: Path, store: MemoryStore) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(pack(make_record(1)))
    folder = tmp_path / "spool" / "wine" / "local" / "v0.0.2"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").symlink_to(secret)
    os.mkfifo(folder / "y.jsonl")
    assert read_numbers(tmp_path / "spool", 10) == []


def test_file_that_grows_beyond_measure_is_left_out(
    monkeypatch: pytest.MonkeyPatch, store: MemoryStore
) -> None:
    monkeypatch.setattr(predictions, "_MOST_FILE_BYTES", 100)
    put(store, "a", pack(make_record(1), make_record(2)))
    assert read_numbers(None, 10) == []


def test_bucket_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GenericError("403\nhush")

    monkeypatch.setattr(predictions, "open_store", refuse)
    with pytest.raises(TransientError, match="prediction log in bucket models: 403") as no:
        read_newest(_STORAGE, None, "local", 10)
    assert "hush" not in str(no.value)
