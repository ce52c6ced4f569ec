"""How often the watch is wrong, and how soon it is right: a simulation of its own judgement.

    python -m benchmarks.watch_errors --runs 400 --seed 1

Each run draws an hour of the version before and half an hour of the new one, and asks
`judge_later` every 5 s as the watch does. No server takes part.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from tasks.platforms.host.counters import Counters
from tasks.platforms.host.judgement import CERTAIN, OBVIOUS, Limits, judge_later

_LIMITS = Limits(requests=50, errors=0.01, slower=2.0)
_HOUR, _WATCH, _LOOK = 3600, 1800, 5
# Bounds of the histogram: a usual request takes less than the first, a slow one more than the
# second.
_USUAL, _TWICE, _SLOW = 0.01, 0.02, 0.05


@dataclass(frozen=True)
class Load:
    """Requests to one version.

    Attributes:
        rate: Requests a second.
        errors: Share of requests that fail.
        slow: Share of requests that take long.
        burst: Number of failures in a row, as of a client that sends nonsense.
        spread: Deviation of the logarithm of the share of failures between two hours.
    """

    rate: float
    errors: float = 0.0
    slow: float = 0.02
    burst: int = 1
    spread: float = 0.0


def _events(dice: random.Random, share: float, total: int) -> Iterator[int]:
    """Yield which of so many requests are of a kind that has this share."""
    position = -1
    while share > 0:
        position += 1 + int(math.log(1 - dice.random()) / math.log(1 - share))
        if position >= total:
            return
        yield position


def _requests(dice: random.Random, load: Load, seconds: int) -> list[Counters]:
    """Return the counters after each look of so many seconds."""
    total, looks = round(load.rate * seconds), seconds // _LOOK
    share = min(0.99, load.errors * math.exp(dice.gauss(0.0, load.spread)))
    failed, slow = [0] * (looks + 1), [0] * (looks + 1)
    for event in _events(dice, share / load.burst, total):
        failed[event * looks // total] += load.burst
    for event in _events(dice, load.slow, total):
        slow[event * looks // total] += 1
    readings, errors, late = [], 0, 0
    for look in range(looks):
        errors, late = errors + failed[look], late + slow[look]
        count = total * (look + 1) // looks
        within = {_USUAL: count - late, _TWICE: count - late, _SLOW: count, math.inf: count}
        readings.append(Counters(count, min(errors, count), 0.009 * count, within))
    return readings


def _watch(dice: random.Random, before: Load, new: Load) -> float | None:
    """Return after how many seconds the new version is rolled back, None if it is not."""
    baseline = _requests(dice, before, _HOUR)[-1]
    readings = _requests(dice, new, _WATCH)
    for look, reading in enumerate(readings, start=1):
        certainty = CERTAIN if look == len(readings) else OBVIOUS
        if judge_later(baseline, reading, _LIMITS, certainty):
            return float(look * _LOOK)
    return None


def _row(title: str, before: Load, new: Load, runs: int, seed: int) -> str:
    dice = random.Random(f"{seed} {title}")  # a simulation
    ends = [_watch(dice, before, new) for _ in range(runs)]
    times = [end for end in ends if end is not None]
    after = f"{median(times):.0f} s" if times else "-"
    return f"| {title} | {len(times) / runs:.1%} | {after} |"


def main() -> None:
    """Print two tables: false rollbacks, and detection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args()
    header = "| case | rolled back | after (median) |\n|---|---|---|"
    print(f"No difference between the versions, {parsed.runs} runs each\n\n{header}")
    for rate in (0.1, 1.0, 10.0):
        for errors in (0.0, 0.001, 0.01, 0.05):
            load = Load(rate, errors)
            title = f"{rate:g} requests/s, {errors:.1%} fail"
            print(_row(title, load, load, parsed.runs, parsed.seed), flush=True)
    for title, load in {
        "1 request/s, 1% fail, 20 in a row": Load(1.0, 0.01, burst=20),
        "10 requests/s, 1% fail, 20 in a row": Load(10.0, 0.01, burst=20),
        "10 requests/s, 1% fail, twice as many in one of three hours": Load(10.0, 0.01, spread=0.7),
        "10 requests/s, 0.1% fail, twice as many in one of three hours": Load(
            10.0, 0.001, spread=0.7
        ),
    }.items():
        print(_row(title, load, load, parsed.runs, parsed.seed), flush=True)
    print(f"\nThe new version is worse\n\n{header}")
    for rate in (0.1, 1.0, 10.0):
        before = Load(rate, 0.001)
        for errors in (0.02, 0.05, 0.2, 0.99):
            title = f"{rate:g} requests/s, {errors:.0%} fail instead of 0.1%"
            print(_row(title, before, Load(rate, errors), parsed.runs, parsed.seed), flush=True)
        for slow in (0.1, 0.5):
            title = f"{rate:g} requests/s, {slow:.0%} slow instead of 2%"
            new = Load(rate, 0.001, slow)
            print(_row(title, before, new, parsed.runs, parsed.seed), flush=True)


if __name__ == "__main__":
    main()
