"""The proxy's counters of a release: requests, errors and durations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

DURATION = "traefik_service_request_duration_seconds"
# Predictions; pages, probes and documentation have other durations.
_METHOD = "POST"
# The client hung up; how long it had waited is counted all the same.
_HUNG_UP = "499"


@dataclass(frozen=True)
class Counters:
    """Requests for predictions, since the proxy has started or between two readings.

    Attributes:
        requests: Number that were answered, or given up by their clients.
        errors: Number that were refused or failed. A refusal counts as a failure: the live version
            gets the same requests from the same clients, so it shows a changed interface.
        seconds: Total duration.
        within: Number that took at most so many seconds, by the bounds of the proxy's histogram.
    """

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    within: Mapping[float, int] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Seconds that a request took on average."""
        return self.seconds / self.requests if self.requests else 0.0

    def since(self, before: Counters) -> Counters:
        """Subtract an earlier reading."""
        if self.requests < before.requests:  # the proxy was started again
            return self
        return Counters(
            self.requests - before.requests,
            self.errors - before.errors,
            self.seconds - before.seconds,
            {bound: count - before.within.get(bound, 0) for bound, count in self.within.items()},
        )

    def plus(self, more: Counters) -> Counters:
        """Add another reading."""
        bounds = sorted({*self.within, *more.within})
        return Counters(
            self.requests + more.requests,
            self.errors + more.errors,
            self.seconds + more.seconds,
            {bound: self.within.get(bound, 0) + more.within.get(bound, 0) for bound in bounds},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counters as JSON values, which know no infinity."""
        within = {str(bound): count for bound, count in self.within.items()}
        return asdict(replace(self, within={})) | {"within": within}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Counters:
        """Read what `to_json` has returned; what is missing is 0."""
        within = {float(bound): int(count) for bound, count in values.get("within", {}).items()}
        return cls(**{**values, "within": within})

    def slower_than(self, bound: float) -> int:
        """Count the requests that took longer than one of the histogram's bounds."""
        return self.requests - self.within.get(bound, self.requests)

    def quantile(self, share: float) -> float:
        """Estimate the seconds within which a share of the requests was answered.

        Within a bucket, durations are taken to be spread evenly, as Prometheus'
        `histogram_quantile` does.

        Args:
            share: For instance 0.95.

        Returns:
            The seconds; infinite beyond the last bound, 0 without requests.
        """
        rank, below, lower = share * self.requests, 0, 0.0
        for bound, count in sorted(self.within.items()):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return bound
                return lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return 0.0


def read_counters(text: str, release: str) -> Counters:
    """Read what Traefik says of a release.

    Args:
        text: Its counters, as Prometheus reads them.
        release: Name of the release, and of Traefik's service for it.

    Returns:
        The counters; all 0 before the first request.
    """
    codes: Counter[str] = Counter()
    within: Counter[float] = Counter()
    seconds = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("service") != f"{release}@file" or labels.get("method") != _METHOD:
                continue
            if sample.name == f"{DURATION}_count":
                codes[labels["code"]] += int(sample.value)
            elif sample.name == f"{DURATION}_sum":
                seconds += sample.value
            elif sample.name == f"{DURATION}_bucket":
                within[float(labels["le"])] += int(sample.value)
    errors = sum(count for code, count in codes.items() if code >= "400" and code != _HUNG_UP)
    return Counters(codes.total(), errors, seconds, dict(within))
