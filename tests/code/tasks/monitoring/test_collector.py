"""Records that servers print become files of the spool, wherever a platform cuts their lines."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from tasks.bucket.shipper import ship
from tasks.monitoring.collector import Collector, collect
from tasks.monitoring.records import RECORD_END, RECORD_START
from tests.code.tasks.monitoring.logs import SOURCE, make_line

_PREFIX = b"2026-11-30T12:00:00.000000+00:00 app[web.1]: "
_BEFORE = b"2026-11-30T11:59:59.123456+00:00 app[web.1]: "


def _print(record: bytes, cut: int = 10_000) -> list[bytes]:
    """Print a record as Heroku does."""
    line = json.dumps(json.loads(record), separators=(",", ":")).encode()
    assert line.startswith(RECORD_START.encode())
    assert line.endswith(RECORD_END.encode())
    return [_PREFIX + line[begin : begin + cut] for begin in range(0, len(line), cut)]


def _read(spool: Path) -> dict[str, list[str]]:
    """Return the ids of the records in each folder of the spool."""
    ids: dict[str, list[str]] = {}
    for path in sorted(spool.rglob("*.jsonl")):
        names = [json.loads(line)["id"] for line in path.read_bytes().splitlines()]
        ids.setdefault(str(path.parent.relative_to(spool)), []).extend(names)
    return ids


def test_records_among_other_lines_are_shipped_by_day_and_version(tmp_path: Path) -> None:
    lines = [
        _BEFORE + b"INFO started",
        *_print(make_line(1)),
        *_print(make_line(2, [{"note": "a {}} line  " * 2000}])),
        _BEFORE + b"WARNING {}}",
        *_print(make_line(3, subject="v0.0.2", time="2026-11-30T00:30:00+01:00")),
    ]
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(b"\n".join(lines))
    collector = Collector(tmp_path, "local")
    try:
        collect(collector, reading)
    finally:
        os.close(reading)
    collector.flush()
    assert (collector.count, collector.dropped) == (3, 0)
    assert _read(tmp_path) == {"wine/local/v0.0.1": ["r1", "r2"], "wine/local/v0.0.2": ["r3"]}
    store = MemoryStore()
    assert ship(tmp_path, store) == 2
    keys = [item["path"] for batch in obstore.list(store) for item in batch]
    assert [key.rpartition("/")[0] for key in sorted(keys)] == [
        "predictions/wine/local/date=2026-11-29/version=v0.0.1",
        "predictions/wine/local/date=2026-11-29/version=v0.0.2",
    ]
    (first, *_) = sorted(keys)
    text = gzip.decompress(bytes(obstore.get(store, first).bytes()))
    assert json.loads(text.splitlines()[0])["id"] == "r1"


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "/wine/production"},
        {"source": "/../local"},
        {"source": "/wine/local/more"},
        {"source": "wine"},
        {"subject": "../../x"},
        {"subject": ""},
    ],
)
def test_record_of_another_place_is_dropped(tmp_path: Path, changes: dict[str, str]) -> None:
    collector = Collector(tmp_path, "local")
    for line in _print(make_line(1, **changes)):
        collector.add(line)
    collector.flush()
    assert (collector.count, collector.dropped) == (0, 1)
    assert not list(tmp_path.iterdir())


def test_record_of_an_impossible_time_does_not_end_the_collector(tmp_path: Path) -> None:
    collector = Collector(tmp_path, "local")
    for line in (*_print(make_line(1, time="0001-01-01T00:00:00+14:00")), *_print(make_line(2))):
        collector.add(line)
    collector.flush()
    assert _read(tmp_path) == {f"{SOURCE[1:]}/v0.0.1": ["r2"]}
    assert (collector.count, collector.dropped) == (1, 1)


def test_torn_record_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    collector = Collector(tmp_path, "local")
    torn = _print(make_line(1, [{"note": "x" * 900}]), cut=300)
    for line in (*torn[:2], *_print(make_line(2)), *[_PREFIX + b"}}"] * 500, *torn[2:]):
        collector.add(line)
    for line in (torn[0], *[_PREFIX + b"}}"] * 1000, *_print(make_line(3))):
        collector.add(line)
    collector.flush()
    assert _read(tmp_path) == {f"{SOURCE[1:]}/v0.0.1": ["r2", "r3"]}
    assert (collector.count, collector.dropped) == (2, 2)


def test_full_disk_is_counted(tmp_path: Path) -> None:
    (tmp_path / "wine").write_text("in the way")
    collector = Collector(tmp_path, "local")
    for line in _print(make_line(1)):
        collector.add(line)
    collector.flush()
    assert (collector.count, collector.dropped, collector.size) == (0, 1, 0)
