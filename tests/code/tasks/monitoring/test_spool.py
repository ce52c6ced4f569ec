"""A report on today counts what was asked a second ago."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tasks.monitoring import spool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.setattr(spool, "_QUEUE_SECONDS", 0.1)
    folder = spool.Settings().spool / "wine" / "local" / "v0.0.1"
    folder.mkdir(parents=True)
    return folder


async def test_records_that_are_written_are_waited_for_until_they_are_shipped(folder: Path) -> None:
    part, whole = folder / "2026-11-30.a.jsonl.part", folder / "2026-11-30.a.jsonl"
    part.touch()
    done = asyncio.create_task(spool.wait_for_shipment("/wine/local"))
    await asyncio.sleep(0.4)
    part.rename(whole)
    await asyncio.sleep(0.3)
    (folder / "2026-11-30.b.jsonl.part").touch()  # begun after the run: of the next report
    assert not done.done()
    whole.unlink()
    async with asyncio.timeout(5):
        await done


async def test_records_that_stay_are_not_waited_for_long(folder: Path) -> None:
    (folder / "2026-11-30.a.jsonl").touch()
    began = time.monotonic()
    async with asyncio.timeout(5):
        await spool.wait_for_shipment("/wine/local", seconds=0.3)
        await spool.wait_for_shipment("/wine/elsewhere")
    assert time.monotonic() - began >= 0.3
