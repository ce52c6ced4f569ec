"""Releases: what a deploy run tells of itself, however it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import anyio
from prefect.exceptions import Pause
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from tasks.core import commands
from tasks.core.errors import ConfigurationError
from tasks.core.settings import Settings
from tasks.package.package import Package, read_metrics
from tasks.platforms.base.target import AnyTarget, Live
from tasks.reports import markdown
from tasks.reports.model_reports import metrics_at
from tasks.reports.timeline import timeline
from tasks.repository.release_history import read_history
from tasks.runs import artifacts
from tasks.training.gate import Metrics

Outcome = Literal["live", "rolled_back", "rejected", "superseded", "failed"]


@dataclass
class Release:
    """One deployment of a model version to an environment.

    Attributes:
        package: What is deployed.
        environment: Where to.
        target: The platform that it goes to.
        outcome: How it ends, as far as it has come.
        before: What was live before.
        version: Name of the model version.
        reason: Why it ends so.
        approval: What the person who was asked has answered.
        rollback: Whether it goes back to an earlier version.
        started: When the deploy began, by a clock that only goes forward.
    """

    package: Package
    environment: str
    target: AnyTarget
    outcome: Outcome = "rejected"
    before: Live | None = None
    version: str = "-"
    reason: str = ""
    approval: str = ""
    rollback: bool = False
    started: float = field(default_factory=time.monotonic)

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

    @property
    def url(self) -> str:
        """Public URL of the environment, which some platforms say only once there is an app."""
        return self.target.url

    @property
    def previous(self) -> str:
        """Label of what was live before."""
        return self.before.label if self.before else "-"

    @property
    def metrics(self) -> Metrics:
        """Metrics of what is deployed; a release without any has a note without any."""
        try:
            return read_metrics(self.package.workspace)
        except ConfigurationError:
            return {}

    async def metrics_before(self) -> Metrics | None:
        """Metrics of what was live before, None if nothing was or it has none."""
        if self.before is None:
            return None
        return await metrics_at(self.package.workspace, self.before.commit)

    async def note(self, title: str) -> str:
        """The release note, in markdown."""
        ui, page = get_current_settings().ui_url, self.target.page
        facts = {
            "outcome": f"**{self.outcome}**",
            "environment": self.environment,
            "version": self.version,
            "commit": markdown.commit_link(Settings().origin, self.package.commit),
            "before": self.previous,
            "rollback": f"takes {self.previous} back" if self.rollback else "",
            "approval": self.approval,
            "page": f"[{page}]({page}), its API: [{page}/docs]({page}/docs)" if page else "",
            "url": "" if page else self.url,
            "run": f"[{flow_run.get_name()}]({ui}/runs/flow-run/{flow_run.get_id()})",
            "took": f"{time.monotonic() - self.started:.1f} s",
        }
        return markdown.release_note(
            title=title,
            facts={name: value for name, value in facts.items() if value},
            metrics=self.metrics,
            before=await self.metrics_before(),
            reason=self.reason,
        )


@asynccontextmanager
async def reported(
    package: Package, environment: str, target: AnyTarget, *, rollback: bool
) -> AsyncIterator[Release]:
    """Publish the release note, the timeline and the link of a deploy, however it ends.

    Args:
        package: What is deployed.
        environment: Where to.
        target: The platform that it goes to.
        rollback: Whether it goes back to an earlier version.

    Yields:
        The release, for the flow to write down how far it has come.
    """
    release = Release(package, environment, target, rollback=rollback)
    try:
        yield release
    except Pause:  # it has not ended: it waits for a person
        raise
    except BaseException as error:
        release.reason = f"{release.reason}\n\n{error or type(error).__name__}".strip()
        await _publish(release)
        raise
    else:
        await _publish(release)


async def _publish(release: Release) -> None:
    with anyio.CancelScope(shield=True):  # a cancelled deploy has a note too
        package, environment = release.package, release.environment
        key = artifacts.artifact_key(package.model, environment)
        title = f"{package.label} {release.outcome} in {environment}"
        with artifacts.best_effort("the release note"):
            name = package.model if release.version == "-" else f"{package.model} {release.version}"
            note = await release.note(f"{name} to {environment}: {release.outcome}")
            await artifacts.publish_markdown(f"{key}-release", note, title)
        with artifacts.best_effort("the timeline of releases"):
            entries = await read_history(package.workspace, environment)
            ui, origin = get_current_settings().ui_url or "", Settings().origin
            history = timeline(entries, ui=ui, origin=origin)
            about = f"Releases of {package.model} to {environment}"
            await artifacts.publish_markdown(f"{key}-timeline", history, about)
        if release.outcome == "live" and (page := release.target.page):
            await artifacts.publish_link(f"{key}-page", page, f"Try {package.label}")
        commands.run_logger().info("%s: %s", title, release.url)
