"""The report of a release: its data, its note, the timeline and a link, however it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from prefect.exceptions import Pause
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from tasks.core.commands import run_logger
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError
from tasks.monitoring.shadow_report import ShadowReport
from tasks.package.package import Package, metrics_at, read_metrics
from tasks.platforms.base.target import AnyTarget, Live
from tasks.reports import markdown
from tasks.reports.milestones import Milestone, describe_state, outcome_of
from tasks.reports.mlflow_bridge import log_version
from tasks.reports.release_data import KEY_SUFFIX, Outcome, PreviousRelease, ReleaseData
from tasks.reports.shadow_report import describe_shadow
from tasks.reports.timeline import timeline
from tasks.repository.forge import own_forge
from tasks.repository.release_history import read_history
from tasks.runs import artifacts
from tasks.training.gate import Verdict
from tasks.training.rules import Metrics


@dataclass
class Release:
    """One deployment of a model version to an environment, under way.

    Attributes:
        milestone: The last point that it has passed.
        outcome: How it ended; failed as long as it has not.
        metrics: Metrics of the candidate; empty if its commit has none.
        before: What was live when it began.
        metrics_before: Its metrics, None if nothing was live or its commit has none.
        version: Name of the model version, None before the commit is registered as one.
        reason: Why it ended so.
        approval: What the person who decided about it answered.
        force_reason: Why the deploy was forced; empty if it was not.
        replace: Whether it may have another interface than what was live before.
        verdict: The gate's verdict, None before the gate was asked and for a rollback.
        shadow: What shadow traffic has shown, None if there was none.
        shadow_absence: That there was none although the environment has it; else empty.
        rollback: Whether it goes back to an earlier version.
        rollback_reason: Why it goes back; empty if nobody said.
        rolled_back: Whether what was live before serves again, None if nothing had to be undone.
        started: When it began, by a clock that only goes forward.
        seconds: Time from then until the outcome was known.
    """

    package: Package
    environment: str
    target: AnyTarget
    metrics: Metrics
    milestone: Milestone = Milestone.STARTED
    outcome: Outcome = "failed"
    before: Live | None = None
    metrics_before: Metrics | None = None
    version: str | None = None
    reason: str = ""
    state: str = ""
    next_step: str = ""
    approval: str = ""
    force_reason: str = ""
    replace: bool = False
    verdict: Verdict | None = None
    shadow: ShadowReport | None = None
    shadow_absence: str = ""
    rollback: bool = False
    rollback_reason: str = ""
    rolled_back: bool | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """Model and version, or commit where it has no version yet."""
        if self.version:
            return f"{self.package.model} {self.version}"
        return self.package.label

    @property
    def label_before(self) -> str:
        """Label of what was live before; empty if nothing was."""
        return self.before.label if self.before else ""

    async def compare_with(self, live: Live | None) -> None:
        """Note what is live before the release, with its metrics if it is a model of that name."""
        self.before, self.milestone = live, Milestone.COMPARED
        if live and live.model == self.package.model:
            with artifacts.best_effort(f"the metrics of {live.label}"):
                self.metrics_before = await metrics_at(self.package.workspace, live.commit)

    def end(self, outcome: Outcome, reason: str) -> None:
        """Note the outcome of a release that no error ended."""
        self.outcome, self.reason = outcome, reason
        self.seconds = round(time.monotonic() - self.started, 1)

    def fail(self, error: BaseException) -> None:
        """Note how an error ended the release, and make the error say what serves now.

        What the error itself says of the state was true where it was raised. Since then the
        release may have been rolled back.
        """
        before = self.before
        self.outcome = outcome_of(self.milestone, error, rolled_back=self.rolled_back)
        self.state = describe_state(
            self.milestone,
            self.label,
            self.label_before,
            healthy_before=before is None or before.healthy,
            rolled_back=self.rolled_back,
        )
        again = "run this flow again" if self.rolled_back is False else ""
        if isinstance(error, SlipwayError):
            self.next_step = "; then ".join(filter(None, [again, error.next_step]))
            error.state, error.next_step = self.state, self.next_step
            self.reason = error.what
        else:
            self.reason, self.next_step = str(error) or type(error).__name__, again
        self.seconds = round(time.monotonic() - self.started, 1)

    def data(self) -> ReleaseData:
        """Return the release as data."""
        before = None
        if live := self.before:
            before = PreviousRelease(live.version, live.commit, self.metrics_before)
        return ReleaseData(
            outcome=self.outcome,
            model=self.package.model,
            version=self.version,
            commit=self.package.commit,
            md5=self.package.md5,
            environment=self.environment,
            url=self.target.url,
            page=self.target.page,
            reason=self.reason,
            state=self.state,
            next_step=self.next_step,
            metrics=self.metrics,
            before=before,
            rollback=self.rollback,
            run=flow_run.get_id(),
            seconds=self.seconds,
        )

    def note(self, data: ReleaseData) -> str:
        """Return the release note, in markdown."""
        ui, page = get_current_settings().ui_url, data.page
        before = self.label_before or "-"
        reason = f": {self.rollback_reason}" if self.rollback_reason else ""
        facts = {
            "outcome": f"**{data.outcome}**",
            "environment": data.environment,
            "version": data.version or "-",
            "commit": markdown.commit_link(own_forge(), data.commit),
            "before": before,
            "rollback": f"rolls back {before}{reason}" if data.rollback else "",
            "gate": self.verdict.text if self.verdict else "",
            "shadow traffic": self.shadow.summary if self.shadow else self.shadow_absence,
            "forced": self.force_reason,
            "approval": self.approval,
            "page": f"[{page}]({page}), its API: [{page}/docs]({page}/docs)" if page else "",
            "url": "" if page else data.url,
            "run": f"[{flow_run.get_name()}]({ui}/runs/flow-run/{data.run})",
            "took": f"{data.seconds:.1f} s",
        }
        name = f"{data.model} {data.version}" if data.version else data.model
        return markdown.release_note(
            title=f"{name} to {data.environment}: {data.outcome}",
            facts={name: value for name, value in facts.items() if value},
            metrics=data.metrics,
            before=data.before.metrics if data.before else None,
            reason=str(SlipwayError(data.reason, state=data.state, next_step=data.next_step)),
            more=describe_shadow(self.shadow) if self.shadow else "",
        )


@dataclass
class ReleaseReport:
    """The report of a deploy; it is published if the deploy got as far as a candidate."""

    environment: str
    target: AnyTarget
    rollback: bool = False
    release: Release | None = None

    def begin(self, package: Package) -> Release:
        """Return a new release of a package, to be reported when it ends."""
        self.release = Release(
            package,
            self.environment,
            self.target,
            _metrics_of(package),
            rollback=self.rollback,
        )
        return self.release

    async def publish(self) -> None:
        """Publish the data, the note, the timeline and the link; a failure is logged only."""
        if self.release is None:
            return
        with anyio.CancelScope(shield=True):  # a deploy that is cancelled meanwhile has them too
            await self._publish(self.release)

    async def _publish(self, release: Release) -> None:
        package = release.package
        key = artifacts.artifact_key(package.model, self.environment)
        title = f"{package.label} {release.outcome} in {self.environment}"
        with artifacts.best_effort("the release note"):
            data = release.data()
            await artifacts.publish_json(f"{key}{KEY_SUFFIX}", data.to_json(), title)
            await artifacts.publish_markdown(f"{key}-release", release.note(data), title)
        with artifacts.best_effort("the timeline of releases"):
            entries = await read_history(package.workspace, self.environment)
            ui = get_current_settings().ui_url or ""
            history = timeline(entries, ui=ui, forge=own_forge())
            about = f"Releases of {package.model} to {self.environment}"
            await artifacts.publish_markdown(f"{key}-timeline", history, about)
        if release.outcome == "live" and (page := self.target.page):
            await artifacts.publish_link(f"{key}-page", page, f"Try {package.label}")
        if release.outcome == "live" and release.version:
            await log_version(package, release.version, self.environment)
        run_logger().info("%s: %s", title, self.target.url)


def _metrics_of(package: Package) -> Metrics:
    try:
        return read_metrics(package.workspace)
    except ConfigurationError:  # a model without metrics can be released by hand
        return {}


@asynccontextmanager
async def release_report(
    environment: str, target: AnyTarget, *, rollback: bool = False
) -> AsyncIterator[ReleaseReport]:
    """Publish the report of a deploy at its end, and decide whether an error fails the run.

    It goes around the environment's lock, so that no other deploy waits for a note.

    Args:
        environment: Name of the environment.
        target: Its platform.
        rollback: Whether the deploy goes back to an earlier version.

    Yields:
        The report, which the flow tells its candidate.
    """
    report = ReleaseReport(environment, target, rollback)
    try:
        yield report
    except Pause:  # the run is suspended until a person answers, and has no outcome yet
        raise
    except BaseException as error:
        release = report.release
        outage = isinstance(error, TransientError | TimeoutError)
        if release and release.milestone is Milestone.RECORDED and outage:
            # The lock was lost, or a call took too long. All that is missing is the removal of old
            # releases, which the next deploy does: no reason to call a release failed that is live
            # and recorded.
            run_logger().warning(
                "%s is live, but old releases were not removed: %s", release.label, error
            )
        else:
            if release:
                release.fail(error)
            await report.publish()
            raise
    await report.publish()
