"""Judge whether a new version is worse than the live one, from the proxy's counters of both.

Both answer the same clients at the same time, so that load, time of day and neighbours are the same
for both, and only the difference counts. Two shares of the requests are compared:

- *errors*: refused or failed;
- *slow ones*: longer than `slower` times what 95 in 100 of the live version's requests took, at
  least 10 ms, rounded up to the next bound of the proxy's histogram. A quantile is tested by
  counting what is beyond it, because a histogram knows nothing between its bounds, and because the
  mean of durations is made by a few of them. Requests that the new version must have been sent,
  given those of the live one, and has not answered in that time are slow, too: of a server that
  hangs, nothing is counted.

A share is worse if the lower end of the confidence interval of (new share - live share) is above
the margin. The interval is Newcombe's (Interval estimation for the difference between independent
proportions, Statistics in Medicine 17, 1998, method 10):

    lower = d - sqrt((p1 - l1)**2 + (u2 - p2)**2),   d = p1 - p2

with Wilson's interval (l, u) of each share. Other than the usual z-test it holds for few requests,
and for shares of 0, which is how often a good version fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from tasks.platforms.base.settings import HostEnvironment
from tasks.platforms.host.counters import Counters

# How certain it has to be after a step, and earlier: a look every second would else find by chance
# what is not there.
CERTAIN, OBVIOUS = 0.95, 0.999
_USUAL = 0.95
_SLOW_MARGIN = 1 - _USUAL
# Differences below that are the scheduler's.
_LEAST_SECONDS = 0.01


@dataclass(frozen=True)
class Limits:
    """Bounds for the errors and the latency of a new version.

    Attributes:
        requests: Number of requests that each of the two needs for a judgement.
        errors: By how much its share of errors may be above the live one's, between 0 and 1.
        slower: Factor by which its requests may take longer.
    """

    requests: int
    errors: float
    slower: float

    @classmethod
    def of(cls, environment: HostEnvironment) -> Limits:
        """Return those of an environment."""
        return cls(
            environment.canary_requests,
            environment.canary_errors / 100,
            environment.canary_slower,
        )


@dataclass(frozen=True)
class Exposure:
    """The share of the predictions that a new version got, and for how long.

    Attributes:
        percent: Its share of the requests.
        seconds: Since when it gets them.
    """

    percent: int
    seconds: float


@dataclass(frozen=True)
class Share:
    """A number of requests among all."""

    part: int
    total: int

    @property
    def value(self) -> float:
        """The share, between 0 and 1."""
        return self.part / self.total

    def __str__(self) -> str:
        return f"{self.part} of {self.total} ({self.value:.1%})"


def judge(
    live: Counters, new: Counters, exposure: Exposure, limits: Limits, certainty: float = CERTAIN
) -> str | None:
    """Say in what a new version is worse.

    Args:
        live: Counters of the live version.
        new: Counters of the new version in the same time.
        exposure: The share that the new version got, and for how long.
        limits: How much worse it may be.
        certainty: Required certainty, between 0 and 1.

    Returns:
        What is worse, with numbers; None if nothing is, or if there were too few requests.
    """
    sent = live.requests * exposure.percent / (100 - exposure.percent)
    if min(live.requests, max(new.requests, sent)) < limits.requests:
        return None
    # What was sent less than `bound` ago is not slow yet.
    bound = slow_from(live, limits.slower)
    due = round(sent * max(0.0, 1 - bound / exposure.seconds))
    unanswered = max(0, due - new.requests)
    return _difference(live, new, "the live version's", limits, certainty, unanswered=unanswered)


def judge_later(before: Counters, new: Counters, limits: Limits, certainty: float) -> str | None:
    """Say in what a version is worse than the one before it, which it has replaced.

    Args:
        before: Counters of the version before it, from when that had the traffic.
        new: Counters of the version since.
        limits: How much worse it may be.
        certainty: Required certainty, between 0 and 1.

    Returns:
        What is worse, with numbers; None if nothing is, or if there were too few requests.
    """
    if min(before.requests, new.requests) < limits.requests:
        return None
    return _difference(before, new, "the version before's", limits, certainty)


def _difference(
    old: Counters,
    new: Counters,
    whose: str,
    limits: Limits,
    certainty: float,
    *,
    unanswered: int = 0,
) -> str | None:
    failed, failed_old = Share(new.errors, new.requests), Share(old.errors, old.requests)
    if exceeds(failed, failed_old, limits.errors, certainty):
        return f"{failed} failed, of {whose} {failed_old}"
    bound = slow_from(old, limits.slower)
    slow = Share(new.slower_than(bound) + unanswered, new.requests + unanswered)
    slow_old = Share(old.slower_than(bound), old.requests)
    if exceeds(slow, slow_old, _SLOW_MARGIN, certainty):
        return f"{slow} took more than {bound * 1000:g} ms, of {whose} {slow_old}"
    return None


def slow_from(live: Counters, slower: float) -> float:
    """Choose the seconds from which a request is slow: a bound of the histogram, or infinite."""
    seconds = max(_LEAST_SECONDS, slower * live.quantile(_USUAL))
    return min((bound for bound in live.within if bound >= seconds), default=math.inf)


def exceeds(new: Share, live: Share, margin: float, certainty: float) -> bool:
    """Test whether one share is above another by more than a margin, and not by chance.

    Args:
        margin: The difference that is allowed, between 0 and 1.
        certainty: Required certainty, between 0 and 1.

    Returns:
        Whether Newcombe's interval lies above the margin; never if one of the two is of nothing.
    """
    if not new.total or not live.total:
        return False
    low, _ = wilson(new, certainty)
    _, high = wilson(live, certainty)
    difference = new.value - live.value
    return difference - math.hypot(new.value - low, high - live.value) > margin


def wilson(share: Share, certainty: float) -> tuple[float, float]:
    """Bound a share by Wilson's score interval, one-sided at each end.

    Args:
        share: The share, of at least one.
        certainty: Required certainty of each end, between 0 and 1.

    Returns:
        Lower and upper end, between 0 and 1.
    """
    z, value, total = NormalDist().inv_cdf(certainty), share.value, share.total
    centre = value + z**2 / (2 * total)
    half = z * math.sqrt(value * (1 - value) / total + (z / (2 * total)) ** 2)
    scale = 1 + z**2 / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def describe(counters: Counters) -> str:
    """Describe the numbers of one version, for people."""
    return (
        f"{counters.requests} requests, {counters.errors} failed, {counters.mean * 1000:.1f} ms on"
        f" average, {_USUAL:.0%} within {counters.quantile(_USUAL) * 1000:.1f} ms"
    )
