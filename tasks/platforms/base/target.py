"""What the deploy flow asks of a platform, the same for all of them.

    preflight -> release -> verify -> settle -> tidy, and rollback from any point before tidy

Every call may be repeated. What is live is read from the platform at the start of each deploy;
an adapter remembers nothing but what its own deploy has started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from tasks.package.package import Package


@dataclass(frozen=True)
class Live:
    """What a platform says is live in an environment.

    Attributes:
        release: Name of the release.
        model: Name of the model.
        commit: Commit it was made from.
        md5: md5 of the model file that is loaded.
        serving: Fingerprint of its serving code and packages.
        version: Name of the model version, None if it has none.
        healthy: Whether it answers, as what it says it is.
    """

    release: str
    model: str
    commit: str
    md5: str
    serving: str
    version: str | None
    healthy: bool

    @property
    def label(self) -> str:
        """Model and commit, for people."""
        return f"{self.model}@{self.commit[:7]}"

    def runs(self, package: Package) -> bool:
        """Whether this is the same model version with the same serving code."""
        return (self.md5, self.serving) == (package.md5, package.serving)


def name_of_release(package: Package) -> str:
    """Name a new release of a package: unique, and sorted by time."""
    moment = datetime.now(UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{package.commit[:7]}-{uuid4().hex[:4]}"


class Target(Protocol):
    """One environment on one platform."""

    @property
    def url(self) -> str:
        """The public URL of the live model."""

    @property
    def page(self) -> str | None:
        """Where people try the live model, with its API at `/docs`; None if browsers cannot."""

    async def check(self) -> Sequence[str]:
        """Prove, changing nothing, that a release could be made: access, rights, what it needs.

        Returns:
            What was found, each in one sentence.

        Raises:
            SlipwayError: The first thing that is wrong, with how to mend it.
        """

    async def status(self) -> Live | None:
        """What is live, None if nothing is."""

    async def preflight(self, package: Package, file: Path) -> None:
        """Boot what would be released, in isolation, and prove it.

        Args:
            package: The package.
            file: Its verified model file.

        Raises:
            TerminalError: It crashes, does not get ready, or predicts something else.
        """

    async def release(self, version: str) -> None:
        """Start the new version beside the old one, which keeps serving.

        Args:
            version: Name of the model version, for `/version` to answer.
        """

    async def verify(self) -> None:
        """Prove the new version where it runs: ready, itself, predicting as it was saved.

        Raises:
            TerminalError: It is not.
        """

    async def settle(self) -> None:
        """Move the traffic and prove the new version at the public URL; the old one stays up.

        Raises:
            TerminalError: The public URL does not serve the new version rightly.
        """

    async def tidy(self) -> None:
        """Stop what is not live, and drop releases beyond those kept for rollback."""

    async def rollback(self) -> None:
        """Give the traffic back to what was live before, and stop what this run has started."""

    async def remove(self) -> None:
        """Take the environment down; nothing of it is left on the platform."""
