"""The contract of a target, on each platform; the flows on it are in `test_flows.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.core.errors import TerminalError, TransientError
from tasks.package.package import Package
from tests.code.platforms.bad_models import (
    ENDS_UNDER_TRAFFIC,
    in_main,
    other_prediction,
    when_released,
)
from tests.code.platforms.places import Place, RemotePlace
from tests.stand_ins.faults import Kind

_SAME = "the trial on the worker is the same for all platforms"


@pytest.fixture
async def live(place: Place, models: list[Package]) -> Package:
    """The model that is live when a test begins, whichever it is."""
    return await place.ensure_live(models)


@pytest.fixture
def others(live: Package, models: list[Package]) -> list[Package]:
    """The models that are not live."""
    return [model for model in models if model is not live]


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


@pytest.mark.parametrize(
    ("deed", "soak"),
    [
        ("raise SystemExit('no room here')", 0.3),
        (ENDS_UNDER_TRAFFIC, 60.0),
    ],
    ids=["at start", "during soak"],
)
async def test_failure_after_preflight_is_rolled_back(
    place: Place,
    live: Package,
    make_package: Callable[..., Package],
    deed: str,
    soak: float,
) -> None:
    fault = when_released(deed)
    before, bad = await place.snapshot(), make_package("bad", **{"serving/__main__.py": fault})
    with place.traffic(live) as traffic, pytest.raises(TerminalError):
        await place.deploy(bad, soak_seconds=soak)
    # A server that ends under traffic loses some of it, whatever the target does.
    never_served = soak < 1
    assert not (never_served and traffic.failures), traffic.failures
    assert await place.snapshot() == before
    await place.assert_live(live)


async def test_next_run_completes_after_kill_at_any_step(
    place: Place, live: Package, others: list[Package]
) -> None:
    if place.killed_in_flows:
        pytest.skip("runs are killed on it, at every step, by the tests of flows")
    new = others[0]
    # Preflight leaves something only on the worker's host.
    steps = ["release", "settle"] if place.proves_on_worker else ["preflight", "release", "settle"]
    with place.traffic(live) as traffic:
        for step in steps:
            await place.deploy(new, until=step)
            assert (await place.live_version())["commit"] in {live.commit, new.commit}
        await place.deploy(new)
    assert traffic.failures == []
    await place.assert_live(new)


async def test_steps_may_be_repeated(place: Place, others: list[Package]) -> None:
    if isinstance(place, RemotePlace):
        pytest.skip("each step is repeated where any call may fail")
    target, new = place.target(), others[0]
    staged = await target.preflight(new, new.workspace.path / "model" / "wine")
    for _ in range(2):
        released = await target.release(staged, "v2")
    for _ in range(2):
        await target.verify(released)
    for _ in range(2):
        await target.settle(released)
    for _ in range(2):
        await target.tidy()
    await place.assert_live(new)


async def test_dead_live_server_is_reported_and_replaced(place: Place, live: Package) -> None:
    await place.break_live()
    status = await place.target().status()
    assert status
    assert not status.healthy
    await place.deploy(live)
    await place.assert_live(live)


async def test_variables_reach_the_server_of_every_step(
    place: Place, make_package: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_secret(block: str) -> str:
        return f"hush, {block}!"

    monkeypatch.setattr("tasks.runs.secrets.read_secret", read_secret)
    plain = {"SLIPWAY_SERVING_MAX_ROWS": "500", "PRICE": "5 $$ and $(SLIPWAY_SERVING_MAX_ROWS)"}
    expected = {**plain, "API_TOKEN": "hush, our-token!"}
    # Neither the trial nor a server on the platform starts without them.
    check = f"import os\nassert {expected!r}.items() <= os.environ.items(), 'variables'"
    package = make_package("variables", **{"serving/__main__.py": in_main(check)})
    await place.deploy(
        package,
        variables=plain,
        secrets={"API_TOKEN": "our-token"},
    )
    await place.assert_live(package)


@pytest.mark.usefixtures("live")
async def test_remove_leaves_nothing(place: Place) -> None:
    await place.target().remove()
    assert not any((await place.snapshot()).values())
    assert await place.target().status() is None
    with pytest.raises(AssertionError, match="404"):
        await place.live_version()


# The contract of platforms elsewhere


@pytest.fixture
async def live_elsewhere(remote_place: RemotePlace, models: list[Package]) -> Package:
    """The model that is live there when a test begins."""
    return await remote_place.ensure_live(models)


# Calls that hang have a shorter time-out here, so they are tried by themselves.
@pytest.mark.parametrize("kinds", [("429", "500", "drop"), ("hang",)], ids="-".join)
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
    assert len((await remote_place.snapshot())["servers"]) == 1


async def test_permanent_platform_failure_is_rolled_back(
    remote_place: RemotePlace, live_elsewhere: Package, models: list[Package]
) -> None:
    (new, *_) = [model for model in models if model is not live_elsewhere]
    before = await remote_place.snapshot()
    for call in remote_place.necessary_calls:
        remote_place.faults.always("500", call)
        try:
            with pytest.raises(TransientError):
                await remote_place.deploy(new)
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
