"""The protocol of a target: the steps of a deploy, the same on all platforms.

    staged = preflight(package)     prove it without traffic
    shadow(staged)                  ask it what clients ask the live one, if the environment says so
    released = release(staged)      start it beside the live release
    verify(released)                prove it where it runs
    settle(released)                move the traffic, prove it again
    tidy()                          stop what is not live

`rollback(staged)` undoes a deploy from any point before `tidy`. A step takes what an earlier one
has returned, so the type checker refuses another order.

Every step may be repeated. What is live is read from the platform at the start of each deploy. A
target remembers only what its own deploy has changed: a step that fails half-way returns nothing,
and `rollback` has to undo it all the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import uuid4

from tasks.core.errors import ConfigurationError
from tasks.monitoring.shadow import Traffic
from tasks.package.package import Package
from tasks.platforms.base.replicas import Replicas
from tasks.platforms.base.watch import WatchPlan, WatchResult


@dataclass(frozen=True)
class Live:
    """The release that is live in an environment, as its platform says.

    Attributes:
        release: Name of the release.
        model: Name of the model.
        commit: Commit it was made from.
        md5: md5 of the model file that is loaded.
        serving: Fingerprint of its serving code and packages.
        version: Name of the model version, None if it has none.
        healthy: True if the server at the public URL answers as this release.
        replicas: Its servers, None where only one answers or the platform does not count them.
    """

    release: str
    model: str
    commit: str
    md5: str
    serving: str
    version: str | None
    healthy: bool
    replicas: Replicas | None = None

    @property
    def label(self) -> str:
        """Model and commit, for people."""
        return f"{self.model}@{self.commit[:7]}"

    def runs(self, package: Package) -> bool:
        """Return whether this is the same model version with the same serving code."""
        return (self.md5, self.serving) == (package.md5, package.serving)


def name_of_release(package: Package) -> str:
    """Name a new release of a package: unique, and sorted by time."""
    moment = datetime.now(UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{package.commit[:7]}-{uuid4().hex[:4]}"


@dataclass(frozen=True)
class Staged:
    """A package that preflight has proven.

    Attributes:
        release: Name of the release that it is to become.
    """

    package: Package
    release: str


StagedT = TypeVar("StagedT", bound=Staged)


@dataclass(frozen=True)
class Released(Generic[StagedT]):
    """A release that was started; it has no traffic yet.

    Attributes:
        staged: The package that preflight has proven.
        version: Name of the model version, for `/version` to answer.
    """

    staged: StagedT
    version: str


ReleasedT = TypeVar("ReleasedT", bound=Released[Any])


class Target(Protocol[StagedT, ReleasedT]):
    """One environment on one platform."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The public URL of the live model."""

    @property
    @abstractmethod
    def page(self) -> str | None:
        """The page to try the live model, with its API at `/docs`; None if browsers cannot."""

    @abstractmethod
    async def check(self) -> Sequence[str]:
        """Prove, changing nothing, that a release could be made: access, rights, what it needs.

        Returns:
            The findings, each in one sentence.

        Raises:
            SlipwayError: The first thing that is wrong, with how to mend it.
        """

    @abstractmethod
    async def status(self) -> Live | None:
        """Return the release that is live, None if there is none."""

    @abstractmethod
    async def preflight(self, package: Package, file: Path, version: str) -> StagedT:
        """Boot what would be released, without traffic, and prove it.

        Args:
            file: Its verified model file.
            version: The name that its version has, or is expected to get.

        Raises:
            TerminalError: It crashes, does not get ready, or predicts something else.
        """

    async def shadow(self, staged: StagedT, private: Collection[str]) -> Traffic | None:
        """Ask the new version, for a while, what clients ask the live one.

        Args:
            staged: What preflight left.
            private: Private columns of the live version; the log of the new one leaves them out,
                too, whatever it names itself.

        Returns:
            What both have recorded; None if the environment has no `shadow`, or nothing is live
            that answers.

        Raises:
            TerminalError: The new version crashes, does not get ready, or predicts otherwise than
                it was saved.
        """
        return None

    @abstractmethod
    async def release(self, staged: StagedT, version: str) -> ReleasedT:
        """Start the new version beside the old one, which keeps serving."""

    @abstractmethod
    async def verify(self, released: ReleasedT) -> None:
        """Prove the new version where it runs: ready, itself, predicting as it was saved.

        Raises:
            TerminalError: It is not.
        """

    @abstractmethod
    async def settle(self, released: ReleasedT) -> None:
        """Move the traffic and prove the new version at the public URL; the old one stays up.

        Raises:
            TerminalError: The public URL does not serve the new version rightly.
        """

    async def plan_watch(self) -> WatchPlan | None:
        """Return what a release is compared with after its switch, as read before it.

        Returns:
            The plan; None if the environment has no watch, or nothing is live to compare with.
        """
        return None

    async def watch(
        self, release: str, baseline: Mapping[str, Any], until: datetime
    ) -> WatchResult:
        """Compare a live release with the version before it, until it is worse or time is up.

        Args:
            release: Name of the release.
            baseline: What it is compared with, as `plan_watch` has returned it.
            until: The end of the watch.

        Raises:
            ConfigurationError: The platform does not let its requests be counted.
        """
        raise ConfigurationError(
            f"the requests to {self.url} cannot be counted: only the targets `process` and `docker`"
            " have a proxy of ours",
            state="nothing is watched",
            next_step="watch it with the platform's own means",
        )

    @abstractmethod
    async def tidy(self) -> None:
        """Stop what is not live, and drop releases beyond those kept for rollback."""

    @abstractmethod
    async def rollback(self, staged: StagedT) -> None:
        """Give the traffic back to the release that had it, and stop what this deploy started."""

    @abstractmethod
    async def remove(self) -> None:
        """Take the environment down; nothing of it is left on the platform."""


# A target whose values only its own steps know, as the catalogue gives it.
AnyTarget: TypeAlias = Target[Any, Any]
