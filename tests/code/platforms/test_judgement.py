"""When a canary counts as worse, from numbers alone."""

from __future__ import annotations

import math

import pytest

from tasks.platforms.host.counters import Counters, read_counters
from tasks.platforms.host.judgement import (
    OBVIOUS,
    Exposure,
    Limits,
    Share,
    describe,
    exceeds,
    judge,
    wilson,
)

_LIMITS = Limits(requests=50, errors=0.01, slower=2.0)
_EXPOSURE = Exposure(percent=10, seconds=20)
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, math.inf)


def _counted(*took: int, errors: int = 0) -> Counters:
    """Make the counters of a version from its requests in each bucket."""
    within = {bound: sum(took[: i + 1]) for i, bound in enumerate(_BOUNDS)}
    return Counters(sum(took), errors, sum(took) * 0.004, within)


@pytest.mark.parametrize(
    ("live", "new"),
    [
        (_counted(900), _counted(100)),
        (_counted(900), _counted(100, errors=1)),  # may happen to a good one
        (
            _counted(900, errors=90),
            _counted(100, errors=10),
        ),  # both are asked for the same nonsense
        (_counted(900), _counted(0, 100)),  # 10 ms are no difference
        (_counted(0, 900), _counted(0, 0, 100)),  # twice as long is allowed
        (_counted(0, 0, 900), _counted(100, errors=1)),  # faster is no fault
        (_counted(850, 0, 0, 0, 0, 50), _counted(90, 0, 0, 0, 0, 10)),  # slow ones are usual here
        (_counted(0, 0, 0, 0, 0, 900), Counters()),  # nor is the live version any quicker
        (_counted(30), _counted(40, errors=40)),  # too few to compare with
        (Counters(), Counters()),
    ],
)
def test_equal_version_passes(live: Counters, new: Counters) -> None:
    assert judge(live, new, _EXPOSURE, _LIMITS) is None


@pytest.mark.parametrize(
    ("live", "new", "says"),
    [
        (
            _counted(900),
            _counted(100, errors=5),
            "5 of 100 (5.0%) failed, of the live version's 0 of 900 (0.0%)",
        ),
        (_counted(900, errors=90), _counted(100, errors=30), "30 of 100 (30.0%) failed"),
        (
            _counted(900),
            _counted(80, 0, 20),
            "20 of 100 (20.0%) took more than 10 ms, of the live version's 0 of 900 (0.0%)",
        ),
        (
            _counted(0, 0, 900),
            _counted(0, 0, 0, 0, 100),
            "100 of 100 (100.0%) took",
        ),
        # Of what it was sent, most is not answered at all.
        (_counted(900), _counted(10), "90 of 100 (90.0%) took more than 10 ms"),
        (_counted(900), Counters(), "100 of 100 (100.0%) took more than 10 ms"),
    ],
)
def test_worse_version_is_refused(live: Counters, new: Counters, says: str) -> None:
    verdict = judge(live, new, _EXPOSURE, _LIMITS)
    assert verdict
    assert verdict.startswith(says)


def test_recent_requests_do_not_count_as_slow() -> None:
    live, new = _counted(0, 0, 0, 900), _counted(0, 0, 0, 60)
    assert judge(live, new, Exposure(percent=10, seconds=10), _LIMITS)
    assert judge(live, new, Exposure(percent=10, seconds=0.2), _LIMITS) is None


def test_step_ends_early_only_if_obvious() -> None:
    live, new = _counted(900), _counted(100, errors=4)
    assert judge(live, new, _EXPOSURE, _LIMITS)
    assert judge(live, new, _EXPOSURE, _LIMITS, OBVIOUS) is None
    assert judge(live, _counted(100, errors=40), _EXPOSURE, _LIMITS, OBVIOUS)


def test_wilson_interval_matches_published_values() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3:
    # 95 % two-sided is 97.5 % at each end.
    for share, low, high in (
        (Share(81, 263), 0.2553, 0.3662),
        (Share(15, 148), 0.0624, 0.1605),
        (Share(0, 20), 0.0, 0.1611),
        (Share(1, 29), 0.0061, 0.1718),
    ):
        assert wilson(share, 0.975) == pytest.approx((low, high), abs=5e-5)


def test_newcombe_interval_matches_published_values() -> None:
    # Newcombe, Interval estimation for the difference (1998), table II, method 10: 56/70 - 48/80
    # lies in 0.0524 to 0.3339, 9/10 - 3/10 in 0.1705 to 0.8090.
    for new, live, low in (
        (Share(56, 70), Share(48, 80), 0.0524),
        (Share(9, 10), Share(3, 10), 0.1705),
        (Share(10, 10), Share(0, 20), 0.6791),
    ):
        assert exceeds(new, live, low - 1e-4, 0.975)
        assert not exceeds(new, live, low + 1e-4, 0.975)


# What the proxy says

_TEXT = """
# TYPE DURATION histogram
DURATION_bucket{code="200",method="POST",service="a@file",le="0.01"} 6
DURATION_bucket{code="200",method="POST",service="a@file",le="0.1"} 8
DURATION_bucket{code="200",method="POST",service="a@file",le="+Inf"} 8
DURATION_sum{code="200",method="POST",service="a@file"} 0.5
DURATION_count{code="200",method="POST",service="a@file"} 8
DURATION_count{code="200",method="GET",service="a@file"} 100
DURATION_count{code="422",method="POST",service="a@file"} 1
DURATION_count{code="502",method="POST",service="a@file"} 2
DURATION_count{code="499",method="POST",service="a@file"} 4
DURATION_count{code="500",method="POST",service="ab@file"} 100
""".replace("DURATION", "traefik_service_request_duration_seconds")


def test_only_predictions_of_the_release_count() -> None:
    counted = read_counters(_TEXT, "a")
    assert counted == Counters(15, 3, 0.5, {0.01: 6, 0.1: 8, math.inf: 8})
    assert read_counters(_TEXT, "b") == Counters()


def test_only_requests_since_last_reading_count() -> None:
    before = _counted(10, 5, errors=1)
    assert _counted(30, 6, errors=4).since(before) == Counters(
        21, 3, pytest.approx(0.084), dict.fromkeys(_BOUNDS, 21) | {0.005: 20}
    )
    assert _counted(3).since(before) == _counted(3)  # the proxy was started again


def test_quantile_lies_in_its_bucket() -> None:
    assert _counted(0, 100).quantile(0.5) == pytest.approx(0.0075)
    assert _counted(90, 0, 10).quantile(0.95) == pytest.approx(0.015)
    assert _counted(90, 0, 0, 0, 0, 10).quantile(0.95) == math.inf
    assert Counters().quantile(0.95) == 0
    assert describe(_counted(200, errors=1)) == (
        "200 requests, 1 failed, 4.0 ms on average, 95% within 4.8 ms"
    )
