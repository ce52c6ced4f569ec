"""What every target does, on each platform: the flows around it have tests of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tasks.errors import TerminalError
from tasks.packaging import Package
from tests.code.targets.places import STEPS, Place

# Whether a server is the one that was released, not that of preflight: only that has a version.
_RELEASED = """
import json, os, sys, pathlib
_told = json.loads(os.environ.get("SLIPWAY_RELEASE") or "{}")
if "--bundle" in sys.argv:
    _bundle = pathlib.Path(sys.argv[sys.argv.index("--bundle") + 1])
    _told = json.loads((_bundle / "release.json").read_text())
if _told.get("version"):
    DEED
"""


def _says(package: Package) -> dict[str, str]:
    return {"commit": package.commit, "md5": package.md5}


async def _served(place: Place) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"{place.url}/version")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def _is_live(place: Place, package: Package) -> None:
    """Exactly this one is live, as the platform says and as it answers."""
    live = await place.target().status()
    assert live
    assert live.healthy
    assert live.runs(package)
    assert live.commit == package.commit
    assert (await _served(place)).items() >= _says(package).items()
    assert len(await place.servers()) == 1


@pytest.fixture
async def _one_is_live(place: Place, one: Package) -> None:
    live = await place.target().status()
    if not (live and live.healthy and live.runs(one)):
        await place.deploy(one)


def _in_main(code: str) -> Callable[[str], str]:
    def change(source: str) -> str:
        doc, _, rest = source.partition('"""\n')
        return f'{doc}"""\n{code}\n{rest}'

    return change


def _other_prediction(text: str) -> str:
    golden = json.loads(text)
    golden["outputs"]["predict"][3] = (golden["outputs"]["predict"][3] + 1) % 3
    return json.dumps(golden)


async def test_nothing_becomes_live(place: Place, one: Package) -> None:
    await place.target().remove()
    assert await place.target().status() is None
    await place.deploy(one)
    await _is_live(place, one)
    said = await _served(place)
    assert (said["version"], said["environment"]) == ("v1", place.environment.name)


@pytest.mark.usefixtures("_one_is_live")
async def test_a_new_version_takes_over_without_a_lost_request(
    place: Place, one: Package, two: Package, three: Package
) -> None:
    with place.traffic(one) as traffic:
        for package in (two, three):
            await place.deploy(package)
            await _is_live(place, package)
    assert traffic.answered
    assert traffic.failures == []


@pytest.mark.usefixtures("_one_is_live")
@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("serving/__main__.py", _in_main("raise SystemExit('cannot go on')"), "cannot go on"),
        ("serving/__main__.py", _in_main("import time; time.sleep(600)"), "not get ready within"),
        ("model/wine.golden.json", _other_prediction, "golden"),
    ],
    ids=["crashes", "never ready", "predicts differently"],
)
async def test_preflight_refuses_and_leaves_nothing(
    place: Place,
    one: Package,
    make_package: Callable[..., Package],
    path: str,
    change: Callable[[str], str],
    says: str,
) -> None:
    before, bad = await place.seen(), make_package("bad", **{path: change})
    with place.traffic(one) as traffic, pytest.raises(TerminalError, match=says):
        await place.deploy(bad, ready_seconds=5 if "ready" in says else 60)
    assert traffic.failures == []
    assert await place.seen() == before
    await _is_live(place, one)


@pytest.mark.usefixtures("_one_is_live")
@pytest.mark.parametrize(
    ("deed", "soak"),
    [
        ("raise SystemExit('no room here')", 0.3),
        ("import threading; threading.Timer(6.0, lambda: os._exit(1)).start()", 30.0),
    ],
    ids=["at start", "during soak"],
)
async def test_what_fails_after_preflight_is_rolled_back(
    place: Place,
    one: Package,
    make_package: Callable[..., Package],
    deed: str,
    soak: float,
) -> None:
    fault = _in_main(_RELEASED.replace("DEED", deed))
    before, bad = await place.seen(), make_package("bad", **{"serving/__main__.py": fault})
    with pytest.raises(TerminalError):
        await place.deploy(bad, soak_seconds=soak)
    assert await place.seen() == before
    await _is_live(place, one)


@pytest.mark.usefixtures("_one_is_live")
@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_any_step_the_next_run_completes(
    place: Place, one: Package, two: Package, step: str
) -> None:
    with place.traffic(one) as traffic:
        await place.deploy(two, until=step)
        assert (await _served(place))["commit"] in {one.commit, two.commit}
        await place.deploy(two)
    assert traffic.failures == []
    await _is_live(place, two)


@pytest.mark.usefixtures("_one_is_live")
async def test_a_step_may_be_repeated(place: Place, two: Package) -> None:
    target = place.target()
    await target.preflight(two, two.workspace.path / "model" / "wine")
    for _ in range(2):
        await target.release("v2")
    for _ in range(2):
        await target.verify()
    for _ in range(2):
        await target.settle()
    for _ in range(2):
        await target.tidy()
    await _is_live(place, two)


@pytest.mark.usefixtures("_one_is_live")
async def test_no_more_is_kept_than_asked_for(
    place: Place, one: Package, two: Package, three: Package
) -> None:
    for package in (two, three, one):
        await place.deploy(package)
    seen = await place.seen()
    assert len(seen["kept"]) == 2
    assert len(seen["servers"]) == 1
    if "images" in seen:
        assert len(seen["images"]) == 2
        # Each with its own tag, and that of its bill of materials.
        assert len(seen["tags"]) == 4


@pytest.mark.usefixtures("_one_is_live")
async def test_a_live_server_that_died_is_seen_and_replaced(place: Place, one: Package) -> None:
    await place.break_live()
    live = await place.target().status()
    assert live
    assert not live.healthy
    await place.deploy(one)
    await _is_live(place, one)


@pytest.mark.usefixtures("_one_is_live")
async def test_removed_it_leaves_nothing(place: Place) -> None:
    await place.target().remove()
    assert not any((await place.seen()).values())
    assert await place.target().status() is None
    with pytest.raises(AssertionError, match="404"):
        await _served(place)
