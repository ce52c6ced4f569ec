"""Samples of the proxy's counters, from which an hour of a release can be told.

The proxy counts since it has started. A program of the worker's host keeps what it says every
minute, if an environment has `watch`:

    python -m tasks.platforms.host.samples --api URL --folder "$SLIPWAY_HOME/counters"
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from tasks.core.errors import SlipwayError
from tasks.platforms.host.counters import DURATION, Counters, read_counters
from tasks.platforms.host.proxy_api import read_metrics

HOUR = 3600.0
_EVERY = 60.0
_KEPT = 2 * HOUR
_SUFFIX = ".prom"

log = logging.getLogger(__name__)


def write_sample(folder: Path, text: str, now: float) -> None:
    """Keep what the proxy says of its services, and drop what is older than two hours.

    Args:
        folder: Folder of the samples.
        text: Its counters, as Prometheus reads them.
        now: Seconds since 1970.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in text.splitlines() if line.startswith(DURATION)]
    path = folder / f"{now:.0f}{_SUFFIX}"
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join([*lines, ""]))
    partial.replace(path)
    for old in folder.glob(f"*{_SUFFIX}"):
        if _second(old) < now - _KEPT:
            old.unlink(missing_ok=True)


def read_last_hour(folder: Path, release: str, counters: Counters, now: float) -> Counters:
    """Return what the proxy has counted of a release in the last hour.

    Args:
        folder: Folder of the samples.
        release: Name of the release.
        counters: Its counters now.
        now: Seconds since 1970.

    Returns:
        The counters since the newest sample that is an hour old; where there is none, since the
        proxy or the release has started.
    """
    old = [path for path in folder.glob(f"*{_SUFFIX}") if _second(path) <= now - HOUR]
    if not old:
        return counters
    return counters.since(read_counters(max(old, key=_second).read_text(), release))


def newest_sample(folder: Path) -> float | None:
    """Return when the newest sample was taken, in seconds since 1970; None if there is none."""
    return max(map(_second, folder.glob(f"*{_SUFFIX}")), default=None)


def describe_samples(folder: Path) -> str:
    """Describe what the watch has to compare a version with."""
    newest = newest_sample(folder)
    if newest and newest > time.time() - HOUR:
        return "the proxy's counters are kept, for the watch to compare with the last hour"
    return (
        "the proxy's counters are not kept, so the watch compares with all since the proxy"
        " has started"
    )


def _second(path: Path) -> float:
    return float(path.stem)


def main() -> None:
    """Take a sample every minute, for ever; a proxy that does not answer is asked again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", required=True, help="URL of the proxy's API")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the samples")
    parsed = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    while True:
        try:
            write_sample(parsed.folder, read_metrics(parsed.api), time.time())
        except (SlipwayError, OSError) as error:
            log.warning("no sample: %s", error)
        time.sleep(_EVERY)


if __name__ == "__main__":
    main()
