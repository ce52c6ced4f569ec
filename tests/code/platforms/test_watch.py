"""When the watch after the switch calls a version worse, from numbers alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.core.errors import ConfigurationError, TransientError
from tasks.platforms.catalogue import load_environment, make_target
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.judgement import CERTAIN, OBVIOUS, Limits, judge_later
from tasks.platforms.host.route import Route
from tasks.platforms.host.samples import HOUR, newest_sample, read_last_hour, write_sample
from tasks.platforms.host.watch import Watch

_LIMITS = Limits(requests=50, errors=0.01, slower=2.0)
_NEW, _NEWER = Route("new", (1,)), Route("newer", (2,))


def _counted(requests: int, errors: int = 0, slow: int = 0) -> Counters:
    within = {0.005: requests - slow, 0.01: requests - slow, 0.05: requests, math.inf: requests}
    return Counters(requests, errors, requests * 0.004, within)


@pytest.mark.parametrize(
    ("before", "new"),
    [
        (_counted(3600, errors=36), _counted(1800, errors=20)),
        (_counted(10), _counted(1800, errors=1800)),  # nobody asked the version before
        (Counters(), _counted(1800, errors=1800)),
        (_counted(3600), _counted(40, errors=40)),
        (_counted(3600), Counters()),
    ],
)
def test_equal_or_unknown_version_is_no_worse(before: Counters, new: Counters) -> None:
    assert judge_later(before, new, _LIMITS, CERTAIN) is None


def test_worse_version_is_named_with_its_numbers() -> None:
    failing = judge_later(_counted(3600), _counted(600, errors=60), _LIMITS, OBVIOUS)
    assert failing == "60 of 600 (10.0%) failed, of the version before's 0 of 3600 (0.0%)"
    slow = judge_later(_counted(3600), _counted(600, slow=300), _LIMITS, OBVIOUS)
    assert slow
    assert slow.startswith("300 of 600 (50.0%) took more than 10 ms, of the version before's 0 of")


class _Proxy(Gateway):
    """Answers in turn: a route with what is counted of it, or an error."""

    def __init__(self, *answers: tuple[Route | None, Counters] | TransientError) -> None:
        self._answers = list(answers)
        self._counters = Counters()

    def route(self) -> Route | None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, TransientError):
            raise answer
        route, self._counters = answer
        return route

    def counters(self, *routes: Route) -> list[Counters]:
        return [self._counters]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.platforms.host.watch._LOOK_SECONDS", 0.0)


async def _watch(seconds: float, *answers: tuple[Route | None, Counters] | TransientError) -> str:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    result = await Watch(_Proxy(*answers), _LIMITS).run("new", _counted(3600), until)
    return f"{result.outcome}: {result.numbers}"


async def test_watch_ends_at_once_if_obvious() -> None:
    bad = (_NEW, _counted(200, errors=100))
    assert (await _watch(600, (_NEW, _counted(10)), bad)).startswith("worse: 100 of 200")


async def test_watch_ends_when_another_release_is_live() -> None:
    assert (await _watch(600, (_NEW, _counted(9)), (_NEWER, _counted(9)))).startswith("superseded")
    assert (await _watch(600, (_NEW, _counted(9)), (None, Counters()))).startswith("superseded")


async def test_good_version_is_watched_to_the_end() -> None:
    result = await _watch(0.1, (_NEW, _counted(10)), (_NEW, _counted(1800, errors=1)))
    assert result.startswith("no worse: new 1800 requests, 1 failed")
    assert result.endswith(": no worse")
    assert (await _watch(0.1, (_NEW, _counted(3)))).endswith("too few to compare")
    # A worker that comes too late judges all the same, once.
    late = await _watch(-600, (_NEW, _counted(200, errors=100)))
    assert late.startswith("worse")


async def test_proxy_may_be_started_again_meanwhile() -> None:
    away = TransientError("the proxy does not answer")
    again = ((_NEW, _counted(30, errors=20)), away, (_NEW, _counted(25, errors=20)))
    assert (await _watch(600, *again)).startswith("worse: 40 of 55")
    with pytest.raises(TransientError, match="does not answer"):
        await _watch(0.05, away)


def test_last_hour_is_counted_from_the_newest_sample_that_is_as_old(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    assert read_last_hour(tmp_path, "a", _counted(100), now) == _counted(100)
    assert newest_sample(tmp_path) is None
    for age, requests in ((3 * HOUR, 1), (1.2 * HOUR, 20), (1.1 * HOUR, 30), (0.5 * HOUR, 60)):
        labels = 'code="200",method="POST",service="a@file"'
        text = f"other 1\ntraefik_service_request_duration_seconds_count{{{labels}}} {requests}\n"
        write_sample(tmp_path, text, now - age)
    assert len(list(tmp_path.iterdir())) == 3  # the oldest is dropped
    assert read_last_hour(tmp_path, "a", _counted(100), now).requests == 70
    assert read_last_hour(tmp_path, "b", _counted(100), now).requests == 100
    assert newest_sample(tmp_path) == now - 0.5 * HOUR


def test_counters_survive_json() -> None:
    counted = _counted(100, errors=3, slow=9)
    assert Counters.from_json(counted.to_json()) == counted
    assert Counters.from_json({}) == Counters()
    assert counted.plus(counted).since(counted) == counted


async def test_platform_without_counters_refuses() -> None:
    target = make_target(load_environment("heroku"))
    assert await target.plan_watch() is None
    with pytest.raises(ConfigurationError, match="cannot be counted"):
        await target.watch("a", {}, datetime.now(UTC))
