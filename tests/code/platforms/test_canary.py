"""Canary steps with real traffic: what is good passes, what is worse gives the traffic back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tasks.core.errors import ConfigurationError, TerminalError
from tasks.package.package import Package
from tasks.platforms.base.proof import version
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.host_target import GatewaySettings
from tasks.platforms.host.route import Route
from tests.code.platforms.places import Place
from tests.stand_ins.serve import serving

# Limits that no good version of this model meets, however busy the machine is.
_STEPS = {"canary": (30, 60), "canary_seconds": 2, "canary_requests": 30, "canary_slower": 20}
# What is obvious ends a step early.
_LONG = {**_STEPS, "canary_seconds": 300, "canary_requests": 10, "canary_slower": 2}

# What golden predictions do not find: they are asked for all at once, clients ask for one row.
_WITH_ONE_ROW = """
import time
_make_answer = Predictor.make_answer
def _answer(self, rows, predictions):
    if len(rows) == 1:
        DEED
    return _make_answer(self, rows, predictions)
Predictor.make_answer = _answer
"""


@pytest.fixture
def gateway(process_place: Place) -> Gateway:
    """The proxy in front of the place."""
    host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
    return Gateway(host.gateway, host.gateway_api, process_place.environment.name)


@pytest.fixture
async def live(process_place: Place, models: list[Package]) -> Package:
    """The model that is live when a test begins, whichever it is."""
    return await process_place.ensure_live(models)


async def test_version_that_passes_all_steps_replaces_killed_canary(
    process_place: Place,
    live: Package,
    models: list[Package],
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other, new = (item for item in models if item is not live)
    with process_place.traffic(live) as traffic:
        stays = {**_STEPS, "canary_seconds": 300}
        killed = await process_place.deploy(other, until="verify", **stays)
        settling = asyncio.create_task(killed.target.settle(killed.released))
        while not gateway.shares():
            await asyncio.sleep(0.05)
        settling.cancel()
        shares = gateway.shares()
        assert sorted(shares.values()) == [30, 70]
        # Exactly one is live, whatever share the other one has.
        status = await process_place.target().status()
        assert status
        assert status.healthy
        assert status.runs(live)
        assert shares[status.release] == 70
        versions = [await version(process_place.url) for _ in range(10)]
        assert {item and item["commit"] for item in versions} == {live.commit}

        with caplog.at_level(logging.INFO, "slipway"):
            await process_place.deploy(new, **_STEPS)
    assert traffic.failures == []
    assert gateway.shares() == {}
    await process_place.assert_live(new)
    steps = [item.getMessage() for item in caplog.records if "canary at" in item.getMessage()]
    assert [item.split(": ")[0] for item in steps] == ["canary at 30 %", "canary at 60 %"]
    assert all("requests, 0 failed" in item for item in steps)


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        (
            "raise RequestError(500, 'asked for one row', kind='test')",
            r"at 30 % .*\(100.0%\) failed",
        ),
        (
            "time.sleep(0.3)",
            r"at 30 % .* took more than [\d.]+ ms, of the live version's \d+ of \d+",
        ),
    ],
    ids=["fails", "is slow"],
)
async def test_worse_canary_gives_all_traffic_back(
    process_place: Place,
    live: Package,
    make_package: Callable[..., Package],
    gateway: Gateway,
    deed: str,
    says: str,
) -> None:
    fault = _WITH_ONE_ROW.replace("DEED", deed)
    bad = make_package("bad", **{"serving/predictor.py": lambda source: source + fault})
    before = await process_place.snapshot()
    with (
        process_place.traffic(live) as traffic,
        pytest.raises(TerminalError, match=says) as refusal,
    ):
        await process_place.deploy(bad, **_LONG)
    assert "the new version is worse" in refusal.value.what
    assert traffic.answered
    # The live version has failed nobody, and neither has the way there and back.
    assert [item for item in traffic.failures if "asked for one row" not in item] == []
    assert bool(traffic.failures) is ("RequestError" in deed)
    assert gateway.shares() == {}
    assert await process_place.snapshot() == before
    await process_place.assert_live(live)


def test_proxy_without_counters_names_next_step(tmp_path: Path) -> None:
    with (
        serving(Starlette()) as url,
        pytest.raises(ConfigurationError, match="does not count") as refusal,
    ):
        Gateway(tmp_path, url, "staging").counters(Route("a", (1,)))
    assert "remove `canary`, `shadow` and `watch`" in refusal.value.next_step
