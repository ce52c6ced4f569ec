"""The number of servers of a release; without Prefect, which commands that only ask do without."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Replicas:
    """The servers of the live release, where its platform says so.

    Attributes:
        ready: Number of those that get requests.
        total: Number of those that should.
    """

    ready: int
    total: int

    def __str__(self) -> str:
        return f"{self.ready} of {self.total}"
