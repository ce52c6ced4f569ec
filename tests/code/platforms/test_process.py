"""The properties of processes on the worker's host."""

from __future__ import annotations

from pathlib import Path

from tests.code.platforms.places import ProcessPlace


async def test_logs_of_dropped_release_are_removed_alone(
    process_place: ProcessPlace, home: Path
) -> None:
    release = "20260101T000000-abcdef1-12ab"
    (home / "bundles" / "process" / release).mkdir(parents=True)
    names = {"ours": f"model-process-{release}.log", "others": f"model-process-eu-{release}.log"}
    for name in (*names.values(), f"{names['ours']}.1"):
        (home / "log" / name).touch()
    await process_place.target(keep=1).tidy()
    left = {path.name for path in (home / "log").glob("model-*")}
    assert left == {names["others"]}
