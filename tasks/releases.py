"""Releases: what a deploy run tells of itself, however it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import anyio

from tasks import commands, report
from tasks.errors import ConfigurationError
from tasks.packaging import Package, read_metrics

Outcome = Literal["live", "rolled_back", "rejected", "superseded"]


@dataclass
class Release:
    """One deployment of a model version to an environment.

    Attributes:
        package: What is deployed.
        environment: Where to.
        url: Public URL of the environment.
        outcome: How it ends, as far as it has come.
        previous: What was live before.
        version: Name of the model version.
        reason: Why it ends so.
    """

    package: Package
    environment: str
    url: str
    outcome: Outcome = "rejected"
    previous: str = "-"
    version: str = "-"
    reason: str = ""

    def describe(self) -> dict[str, str]:
        """The release as plain values, which is what the deploy flow returns."""
        return {
            "model": self.package.model,
            "version": self.version,
            "commit": self.package.commit,
            "md5": self.package.md5,
            "environment": self.environment,
            "url": self.url,
            "outcome": self.outcome,
            "reason": self.reason,
        }


@asynccontextmanager
async def reported(package: Package, environment: str, url: str) -> AsyncIterator[Release]:
    """Publish the release note, the metrics and the link of a deploy, however it ends.

    Args:
        package: What is deployed.
        environment: Where to.
        url: Public URL of the environment.

    Yields:
        The release, for the flow to write down how far it has come.
    """
    started = time.monotonic()
    release = Release(package, environment, url)
    try:
        yield release
    except BaseException as error:
        release.reason = f"{release.reason}\n\n{error or type(error).__name__}".strip()
        raise
    finally:
        with anyio.CancelScope(shield=True):  # a cancelled deploy has a note too
            await _publish(release, time.monotonic() - started)


async def _publish(release: Release, seconds: float) -> None:
    package = release.package
    try:
        metrics = read_metrics(package.workspace)
    except ConfigurationError:  # a release without metrics has a note without metrics
        metrics = {}
    key = report.artifact_key(package.model, release.environment)
    note = report.release_note(
        model=package.model,
        version=release.version,
        commit=package.commit,
        environment=release.environment,
        outcome=release.outcome,
        url=release.url,
        previous=release.previous,
        metrics=metrics,
        seconds=seconds,
        reason=release.reason,
    )
    title = f"{package.label} {release.outcome} in {release.environment}"
    await report.publish_markdown(f"{key}-release", note, title)
    if release.outcome == "live":
        rows = [{"metric": name, "value": value} for name, value in metrics.items()]
        await report.publish_table(f"{key}-metrics", rows, f"Metrics of {package.label}")
        await report.publish_link(f"{key}-page", release.url, f"Try {package.label}")
    commands.run_logger().info("%s: %s", title, release.url)
