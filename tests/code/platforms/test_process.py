"""The properties of processes on the worker's host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import psutil
from obstore.store import MemoryStore

from tasks.bucket.held_spools import is_held
from tasks.bucket.shipper import ship
from tasks.package.package import Package
from tests.code.platforms.places import Place, ProcessPlace, Progress

_FIRST_VICTIM = "500"


def _victim_scores(process: int) -> set[str]:
    """Return how gladly the kernel would end a server, for each process of its box."""
    box = psutil.Process(process)
    members = (box, *box.children(recursive=True))
    return {Path(f"/proc/{member.pid}/oom_score_adj").read_text().strip() for member in members}


async def _preflight(
    place: Place, models: Sequence[Package], version: str
) -> tuple[Progress, Package]:
    """Take the first step of the release of a model that is not live."""
    live = await place.ensure_live(models)
    new = next(model for model in models if model is not live)
    target = place.target()
    staged = await target.preflight(new, new.workspace.path / "model" / "wine", version)
    return Progress(target, staged), new


async def test_server_that_passed_preflight_is_the_released_one(
    process_place: ProcessPlace, models: list[Package], home: Path
) -> None:
    await process_place.ensure_live(models)
    before, version = process_place.processes(), f"v{uuid4().hex[:6]}"
    progress, new = await _preflight(process_place, models, version)
    (proven,) = process_place.processes() - before
    own = Path("/proc/self/oom_score_adj").read_text().strip()
    # Until then it has no traffic, goes first when memory ends, and nothing it writes is shipped.
    assert _victim_scores(proven) == {_FIRST_VICTIM}
    spool = home / "spool" / "wine" / "process" / version
    while not (files := list(spool.glob("*.jsonl"))):
        await asyncio.sleep(0.1)
    ship(home / "spool", MemoryStore())
    assert files[0].exists()

    released = await progress.target.release(progress.staged, version)
    assert process_place.processes() == before | {proven}
    assert _victim_scores(proven) == {own}
    assert not is_held(spool)
    with process_place.traffic(new) as traffic:
        await progress.target.verify(released)
        await progress.target.settle(released)
        while traffic.answered < 3:
            await asyncio.sleep(0.05)
    await progress.target.tidy()
    assert process_place.processes() == {proven}
    await process_place.assert_live(new)
    assert (await process_place.live_version())["version"] == version
    # The golden predictions of preflight are no traffic, as those of the other proofs.
    records = [json.loads(line) for line in files[0].read_bytes().splitlines()]
    assert {record["type"] for record in records} == {"slipway.proof"}
    assert ship(home / "spool", MemoryStore()) > 0


async def test_server_of_preflight_is_replaced_if_it_ended_or_has_another_version(
    process_place: ProcessPlace, models: list[Package], home: Path
) -> None:
    live = await process_place.ensure_live(models)
    before, expected = process_place.processes(), f"v{uuid4().hex[:6]}"
    progress, _ = await _preflight(process_place, models, expected)
    (proven,) = process_place.processes() - before
    await progress.target.release(progress.staged, f"{expected}-other")
    spools = {path.name for path in (home / "spool" / "wine" / "process").iterdir()}
    assert not {name for name in spools if name in {expected, f"{expected}.held"}}
    (renamed,) = process_place.processes() - before
    assert renamed != proven

    psutil.Process(renamed).kill()
    while renamed in process_place.processes():
        await asyncio.sleep(0.05)
    released = await progress.target.release(progress.staged, f"{expected}-other")
    await progress.target.verify(released)
    await progress.target.rollback(progress.staged)
    assert process_place.processes() == before
    await process_place.assert_live(live)


async def test_next_run_removes_what_a_kill_after_preflight_left(
    process_place: ProcessPlace, models: list[Package], home: Path
) -> None:
    live = await process_place.ensure_live(models)
    before, version = await process_place.snapshot(), f"v{uuid4().hex[:6]}"
    await _preflight(process_place, models, version)
    spool = home / "spool" / "wine" / "process" / version
    assert len(await process_place.servers()) == 2
    assert is_held(spool)
    await process_place.target().tidy()  # the first thing that a run does with what is live already
    assert await process_place.servers() == before["servers"]
    assert not is_held(spool)
    assert not spool.exists()
    await process_place.assert_live(live)


async def test_logs_of_dropped_release_are_removed_alone(
    process_place: ProcessPlace, home: Path
) -> None:
    release = "20260101T000000-abcdef1-12ab"
    (home / "bundles" / "process" / release).mkdir(parents=True)
    names = {"ours": f"model-process-{release}.log", "others": f"model-process-eu-{release}.log"}
    for name in (*names.values(), f"{names['ours']}.1"):
        (home / "log" / name).touch()
    await process_place.target(keep=1).tidy()
    left = {path.name for path in (home / "log").glob(f"model-*{release}*")}
    assert left == {names["others"]}
    (home / "log" / names["others"]).unlink()
