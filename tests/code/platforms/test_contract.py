"""The contract of a target, on each platform; the flows on it are in `test_flows.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.core.errors import TerminalError, TransientError
from tasks.package.package import Package
from tests.code.platforms.bad_models import (
    end_under_traffic,
    end_when_proven_again,
    in_main,
    other_prediction,
    when_released,
)
from tests.code.platforms.conftest import ELSEWHERE
from tests.code.platforms.places import Place, RemotePlace
from tests.stand_ins.faults import Kind

_PLAIN = {"SLIPWAY_SERVING_MAX_ROWS": "500", "PRICE": "5 $$ and $(SLIPWAY_SERVING_MAX_ROWS)"}
_SAME = "the trial on the worker is the same for all platforms"


@pytest.fixture
async def live(place: Place, models: list[Package]) -> Package:
    """The model that is live when a test begins, whichever it is."""
    return await place.ensure_live(models)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of an environment with variables, one of them a secret."""

    async def read_secret(block: str) -> str:
        return f"hush, {block}!"

    monkeypatch.setattr("tasks.runs.secrets.read_secret", read_secret)
    return {"variables": _PLAIN, "secrets": {"API_TOKEN": "our-token"}}


@pytest.fixture(scope="session")
def strict(make_package: Callable[..., Package]) -> Package:
    """A model whose server starts nowhere without its variables, be it for a trial or for good."""
    expected = {**_PLAIN, "API_TOKEN": "hush, our-token!"}
    check = f"import os\nassert {expected!r}.items() <= os.environ.items(), 'variables'"
    return make_package("strict", **{"serving/__main__.py": in_main(check)})


async def test_check_reports_findings_and_changes_nothing(place: Place) -> None:
    before = await place.snapshot()
    assert await place.target().check()
    assert await place.snapshot() == before


async def test_first_release_becomes_live(place: Place, models: list[Package]) -> None:
    await place.target().remove()
    assert await place.target().status() is None
    await place.deploy(models[0])
    await place.assert_live(models[0])
    version = await place.live_version()
    assert (version["version"], version["environment"]) == ("v1", place.environment.name)


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("serving/__main__.py", in_main("raise SystemExit('cannot go on')"), "cannot go on"),
        (
            "serving/__main__.py",
            in_main("import time; print('waiting for Godot', flush=True); time.sleep(600)"),
            r"not get ready within 5 s: \S+/readyz says .+\nwaiting for Godot",
        ),
        ("model/wine.golden.json", other_prediction, "golden"),
    ],
    ids=["crashes", "never ready", "predicts differently"],
)
async def test_refused_preflight_leaves_nothing(
    place: Place,
    live: Package,
    make_package: Callable[..., Package],
    path: str,
    change: Callable[[str], str],
    says: str,
) -> None:
    if place.proves_on_worker and says != "golden":
        pytest.skip(_SAME)
    before, bad = await place.snapshot(), make_package("bad", **{path: change})
    with place.traffic(live) as traffic, pytest.raises(TerminalError, match=says):
        await place.deploy(bad, ready_seconds=5 if "ready" in says else 60)
    assert traffic.failures == []
    assert await place.snapshot() == before
    await place.assert_live(live)


@pytest.mark.parametrize("when", ["before traffic", "during soak"])
async def test_failure_after_preflight_is_rolled_back(
    place: Place,
    live: Package,
    make_package: Callable[..., Package],
    when: str,
) -> None:
    never_served = when == "before traffic"
    path, change = "serving/predictor.py", end_under_traffic
    if never_served and place.proves_on_worker:
        path, change = "serving/__main__.py", when_released("raise SystemExit('no room here')")
    elif never_served:
        change = end_when_proven_again
    before, bad = await place.snapshot(), make_package("bad", **{path: change})
    with place.traffic(live) as traffic, pytest.raises(TerminalError):
        await place.deploy(bad, soak_seconds=0.3 if never_served else 60.0)
    # A server that ends under traffic loses some of it, whatever the target does.
    assert not (never_served and traffic.failures), traffic.failures
    assert await place.snapshot() == before
    await place.assert_live(live)


async def test_dead_live_server_is_reported_and_replaced(place: Place, live: Package) -> None:
    await place.break_live()
    status = await place.target().status()
    assert status
    assert not status.healthy
    await place.deploy(live)
    await place.assert_live(live)


async def test_next_run_completes_after_kill_at_any_step(
    place: Place, live: Package, strict: Package, given: dict[str, Any]
) -> None:
    # Preflight leaves something only on the worker's host.
    steps = ["release", "settle"] if place.proves_on_worker else ["preflight", "release", "settle"]
    if place.killed_in_flows:
        steps = []  # real runs are killed on it, at every step, by the tests of flows
    with place.traffic(live) as traffic:
        for step in steps:
            await place.deploy(strict, until=step, **given)
            assert (await place.live_version())["commit"] in {live.commit, strict.commit}
        # Each step may be repeated, as a flow does whose step was not told that it succeeded.
        target = place.target(**given)
        staged = await target.preflight(strict, strict.workspace.path / "model" / "wine", "v2")
        for _ in range(2):
            released = await target.release(staged, "v2")
        for step in (target.verify, target.settle):
            for _ in range(2):
                await step(released)
        for _ in range(2):
            await target.tidy()
    assert traffic.failures == []
    await place.assert_live(strict)
    # No more is kept than asked for.
    seen = await place.snapshot()
    assert len(seen["kept"]) == 2
    assert len(seen["servers"]) == 1
    if "images" in seen:
        assert len(seen["images"]) <= 2  # releases of one model share theirs
        # Each with its own tag, and that of its bill of materials.
        assert len(seen["tags"]) == 2 * len(seen["images"])


# The contract of platforms elsewhere


@pytest.fixture
async def live_elsewhere(
    remote_place: RemotePlace, models: list[Package], strict: Package
) -> Package:
    """The model that is live there when a test begins."""
    return await remote_place.ensure_live([*models, strict])


# Calls that hang have a shorter time-out here, so they are tried by themselves. Those of Heroku go
# through the client of Fly.io's; those of Kubernetes hang in its own tests.
@pytest.mark.parametrize(
    ("remote_place", "kinds"),
    [
        *((name, ("429", "500", "drop")) for name in ELSEWHERE),
        *((name, ("hang",)) for name in ELSEWHERE if name not in {"heroku", "kubernetes"}),
    ],
    indirect=["remote_place"],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_any_call_may_fail(
    remote_place: RemotePlace,
    live_elsewhere: Package,
    models: list[Package],
    kinds: tuple[Kind, ...],
) -> None:
    (new, *_) = [model for model in models if model is not live_elsewhere]
    remote_place.faults.fail_each_call(*kinds)
    try:
        await remote_place.deploy(new)
        assert remote_place.faults.met > len(kinds)
    finally:
        remote_place.faults.clear()
    await remote_place.assert_live(new)
    # An image that stayed in the registry, for which no deploy fails, goes with the next one.
    await remote_place.target().tidy()
    seen = await remote_place.snapshot()
    assert len(seen["servers"]) == 1
    assert len(seen.get("images", ())) <= 2


async def test_permanent_platform_failure_is_rolled_back(
    remote_place: RemotePlace, live_elsewhere: Package, models: list[Package]
) -> None:
    (new, *_) = [model for model in models if model is not live_elsewhere]
    before = await remote_place.snapshot()
    for call in remote_place.necessary_calls:
        remote_place.faults.always("500", call)
        try:
            with pytest.raises(TransientError):
                await remote_place.deploy(new, tries=2)
            assert remote_place.faults.calls[call] > 1
        finally:
            remote_place.faults.clear()
        assert await remote_place.snapshot() == before
    await remote_place.assert_live(live_elsewhere)


async def test_wrong_credentials_are_explained_and_change_nothing(
    remote_place: RemotePlace, live_elsewhere: Package
) -> None:
    before = await remote_place.snapshot()
    settings, says = remote_place.wrong_credentials
    with pytest.raises(TerminalError, match=says) as refusal:
        await remote_place.deploy(live_elsewhere, **settings)
    assert refusal.value.next_step
    assert await remote_place.snapshot() == before


async def test_status_only_reads(remote_place: RemotePlace, live_elsewhere: Package) -> None:
    remote_place.faults.clear()
    status = await remote_place.target().status()
    assert status
    assert status.runs(live_elsewhere)
    assert {call.split()[0] for call in remote_place.faults.calls} == {"GET"}
    assert sum(remote_place.faults.calls.values()) < 10


async def test_remove_leaves_nothing(place: Place, models: list[Package], strict: Package) -> None:
    await place.ensure_live([*models, strict])
    await place.target().remove()
    assert not any((await place.snapshot()).values())
    assert await place.target().status() is None
    with pytest.raises(AssertionError, match="404"):
        await place.live_version()
