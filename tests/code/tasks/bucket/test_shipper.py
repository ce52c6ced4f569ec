"""The shipper of prediction logs: what becomes an object, what waits, and what is not touched."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError
from obstore.store import MemoryStore

from serving.spool import Spool
from tasks.bucket import shipper
from tasks.bucket.held_spools import hold_new, is_held, let_go, remove_held
from tasks.bucket.shipper import key_of, make_room, read_waiting, ship

_DAY = "2026-11-30"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The spool of one version."""
    folder = tmp_path / "wine" / "local" / "v0.0.2"
    folder.mkdir(parents=True)
    return folder


def leave(folder: Path, name: str, content: bytes = b'{"id":"a"}\n', age: float = 0.0) -> Path:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def read_objects(store: Any) -> dict[str, bytes]:
    keys = [item["path"] for batch in obstore.list(store) for item in batch]
    return {key: gzip.decompress(bytes(obstore.get(store, key).bytes())) for key in keys}


def test_files_of_a_server_become_objects_by_day_and_version(tmp_path: Path, folder: Path) -> None:
    spool = Spool(folder, 60.0, 1 << 30, lambda _: None)
    spool.write(_DAY, b'{"id":"a"}\n')
    store = MemoryStore()
    assert ship(tmp_path, store) == 0, "the server has not completed it"
    spool.flush(is_last=True)
    assert ship(tmp_path, store) == 1
    ((key, content),) = read_objects(store).items()
    prefix = f"predictions/wine/local/date={_DAY}/version=v0.0.2/"
    assert key.startswith(prefix)
    assert key.endswith(".jsonl.gz")
    assert content == b'{"id":"a"}\n'
    assert not list(folder.iterdir())


def test_spool_is_held_until_its_version_is_released(tmp_path: Path) -> None:
    spools, new = tmp_path / "spool", tmp_path / "spool" / "wine" / "local" / "v0.0.3"
    hold_new(new)
    new.mkdir()
    leave(new, f"{_DAY}.a.jsonl")
    left = leave(new, f"{_DAY}.b.jsonl.part", age=3600)
    assert ship(spools, MemoryStore()) == 0
    assert read_waiting(spools).files == 0
    assert left.exists()
    hold_new(new)  # by a run that is repeated
    let_go(new)
    hold_new(new)  # what was released stays so
    assert ship(spools, MemoryStore()) == 2


def test_spools_of_refused_versions_are_removed_in_their_environment_only(tmp_path: Path) -> None:
    refused, others = (tmp_path / "wine" / name / "v0.0.3" for name in ("local", "local-eu"))
    released = tmp_path / "wine" / "local" / "v0.0.2"
    released.mkdir(parents=True)
    for spool in (refused, others, released):
        hold_new(spool)
        spool.mkdir(exist_ok=True)
        leave(spool, f"{_DAY}.a.jsonl")
    remove_held(tmp_path, "local")
    assert not refused.exists()
    assert not is_held(refused)
    assert is_held(others)
    assert list(released.iterdir())


def test_file_that_was_shipped_before_a_kill_is_not_shipped_twice(
    tmp_path: Path, folder: Path
) -> None:
    store = MemoryStore()
    leave(folder, f"{_DAY}.host-1.jsonl")
    ship(tmp_path, store)
    first = obstore.head(store, next(iter(read_objects(store))))
    leave(folder, f"{_DAY}.host-1.jsonl")
    ship(tmp_path, store)
    ((key, _),) = read_objects(store).items()
    assert obstore.head(store, key)["last_modified"] == first["last_modified"]
    assert not list(folder.iterdir())


def test_file_of_a_killed_server_is_taken_over_without_its_torn_line(
    tmp_path: Path, folder: Path
) -> None:
    store = MemoryStore()
    leave(folder, f"{_DAY}.host-1.jsonl.part", b'{"id":"a"}\n{"id":', age=120)
    living = leave(folder, f"{_DAY}.host-2.jsonl.part", age=120)
    young = leave(folder, f"{_DAY}.host-3.jsonl.part")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ship(tmp_path, store) == 1
    assert list(read_objects(store).values()) == [b'{"id":"a"}\n']
    assert {*folder.iterdir()} == {living, young}


def test_what_code_of_a_model_puts_there_is_neither_followed_nor_shipped(
    tmp_path: Path, folder: Path
) -> None:
    """Not a secret of the host by a link, not under the name of another model."""
    store = MemoryStore()
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    (folder / f"{_DAY}.host-1.jsonl").symlink_to(secret)
    (folder / f"{_DAY}.host-2.jsonl").mkdir()
    os.mkfifo(folder / f"{_DAY}.host-3.jsonl")
    os.link(secret, folder / "..host-4.jsonl")
    leave(folder, f"{_DAY}.host-5.json")
    assert ship(tmp_path, store) == 0
    assert read_objects(store) == {}
    assert key_of(tmp_path, folder / "2026-11-30.a b.jsonl") is None
    assert key_of(tmp_path, folder / "2026-11-30/../../x.jsonl") is None


class Away:
    """A bucket that does not answer, until it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        self.calls = calls
        self.real = obstore.put
        monkeypatch.setattr(obstore, "put", self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls -= 1
        if self.calls >= 0:
            raise GenericError("no route to host\n\nDebug source: …")
        return self.real(*arguments, **options)


class EndOfTest(BaseException):
    """Ends the endless loop."""


def test_bucket_that_is_away_is_asked_again_and_shows(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, waits = MemoryStore(), []
    leave(folder, f"{_DAY}.host-1.jsonl", age=10)
    Away(monkeypatch, calls=3)
    seen = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        seen.append(read_waiting(tmp_path))
        if len(waits) == 5:
            raise EndOfTest

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(EndOfTest):
        shipper.run(tmp_path, store, tmp_path / "gauges")
    gauges = (tmp_path / "gauges" / "slipway-log-shipper.prom").read_text()
    assert "slipway_log_waiting_files 1.0" in gauges
    assert waits == [2, 4, 8, 1, 1]
    assert (seen[0].files, seen[0].error) == (1, "no route to host")
    assert 9 < seen[0].oldest < 60
    assert (seen[-1].files, seen[-1].error) == (0, "")
    assert len(read_objects(store)) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            GenericError("Error performing PUT http://x/y - HTTP error: it ends\n\nDebug"),
            "HTTP error",
        ),
        (PermissionDeniedError("403 for http://x/y"), "it denies access"),
    ],
)
def test_error_of_the_bucket_is_said_in_few_words(error: BaseError, words: str) -> None:
    assert shipper._explain(error).startswith(words)
    assert "http://" not in shipper._explain(error)


def test_failed_file_stays(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leave(folder, f"{_DAY}.host-1.jsonl")
    Away(monkeypatch, calls=1)
    with pytest.raises(BaseError):
        ship(tmp_path, MemoryStore())
    assert path.exists()


def test_spool_is_bounded_while_the_bucket_is_away(tmp_path: Path, folder: Path) -> None:
    for number in range(4):
        leave(folder, f"{_DAY}.host-{number}.jsonl", b"x" * 10, age=100 - number)
    assert make_room(tmp_path, most=25) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{_DAY}.host-2.jsonl", f"{_DAY}.host-3.jsonl"
    ]  # fmt: skip
    (tmp_path / shipper.STATE).write_text(json.dumps({"error": "away", "dropped": 2}))
    waiting = read_waiting(tmp_path)
    assert (waiting.files, waiting.size, waiting.dropped) == (2, 20, 2)


def test_files_that_nothing_ships_are_a_problem(tmp_path: Path, folder: Path) -> None:
    leave(folder, f"{_DAY}.host-1.jsonl", age=60)
    (folder / f"{_DAY}.host-2.jsonl").mkdir()
    os.utime(folder / f"{_DAY}.host-2.jsonl", (0, 0))
    assert read_waiting(tmp_path).problem == ""
    leave(folder, f"{_DAY}.host-1.jsonl", age=7200)
    assert (
        "the oldest of 120 min) wait for the bucket: the shipper" in read_waiting(tmp_path).problem
    )
