"""Approval: a person approves or rejects a release in the Prefect UI before it happens.

The run is suspended while it waits: its process ends, and it holds no worker slot, no lock and no
place in its deployment's queue. After the answer it starts anew, at the commit that the person
saw, even if its branch has moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import Field

from tasks.core.errors import ConfigurationError
from tasks.platforms.base.settings import Environment
from tasks.platforms.base.target import ReleasedT, StagedT, Target
from tasks.reports import markdown
from tasks.reports.model_reports import picture_of
from tasks.reports.release_report import Release
from tasks.reports.shadow_report import describe_shadow

_KEY = "approve-"
# Prefect stores the answer to a suspended run under the key of the suspension, with these around.
_STORED, _ANSWER = f"suspended-{_KEY}", "-response"
_INPUTS = 100  # three per question: schema, description, response


class Answer(RunInput):
    """The form that a person fills in."""

    decision: Literal["approve", "reject"] = Field(
        description="approve: release this version now. reject: keep what is live.",
        json_schema_extra={"position": 0},
    )
    reason: str = Field(
        "",
        max_length=500,
        description="Who decided, and why. Shown in the release note and the history.",
        json_schema_extra={"position": 1},
    )


@dataclass(frozen=True)
class Approval:
    """The approval of a deploy run, as far as it has come.

    Attributes:
        environment: The environment, whose settings say whether an approval is needed.
        commit: The commit that the person saw, None before the run was suspended.
        answer: The answer, None before there is one.
    """

    environment: Environment
    commit: str | None = None
    answer: Answer | None = None

    @property
    def rejected(self) -> bool:
        """True if a person rejected the release."""
        return self.answer is not None and self.answer.decision == "reject"

    @property
    def text(self) -> str:
        """The answer in words; empty if there is none."""
        if self.answer is None:
            return ""
        verb = "rejected" if self.rejected else "approved"
        return f"{verb}: {self.answer.reason.strip() or 'no reason given'}"


async def read_approval(environment: Environment) -> Approval:
    """Read the approval of this run, with the answer if there is one.

    Raises:
        ConfigurationError: An approval is needed, and this is not a run of a deployment: Prefect
            could not start it again after the answer.
    """
    if deployment.id:
        async with get_client() as client:
            stored = await client.filter_flow_run_input(
                UUID(flow_run.get_id()), _STORED, limit=_INPUTS, exclude_keys=set()
            )
        for item in stored:
            if item.key.endswith(_ANSWER):
                commit = item.key.removeprefix(_STORED).partition("-")[0]
                return Approval(environment, commit, Answer(**item.decoded_value))
    elif environment.approval == "suspend":
        raise _no_deployment(environment)
    return Approval(environment)


def _no_deployment(environment: Environment) -> ConfigurationError:
    return ConfigurationError(
        f"a release to {environment.name} needs an approval, for which only a run of a"
        " deployment can wait",
        state="nothing was released",
        next_step=f"prefect deployment run deploy/{environment.name} --param ref=<ref>",
    )


def approval_not_needed(environment: Environment) -> Approval:
    """Return the approval of a release that its starter has decided, which is a rollback."""
    return Approval(environment.model_copy(update={"approval": "none"}))


async def wait_for_answer(
    approval: Approval,
    release: Release,
    target: Target[StagedT, ReleasedT],
    staged: StagedT,
) -> None:
    """Suspend the run until a person answers, unless one has, or no approval is needed.

    One is needed where the environment says so, and where its gate is required and leaves the
    decision to a person.

    Args:
        approval: The approval as read at the start of the run.
        release: The release to approve.
        target: Its platform.
        staged: What preflight left on it.

    Raises:
        ConfigurationError: This is not a run of a deployment, and the gate leaves the decision to a
            person.
    """
    environment, verdict = approval.environment, release.verdict
    asks = environment.gate == "required" and verdict is not None and verdict.asks
    if approval.answer or release.rollback or (environment.approval == "none" and not asks):
        return
    await target.rollback(staged)  # an answer may take days; preflight is repeated after it
    if not deployment.id:
        raise _no_deployment(environment)
    hours = timedelta(hours=environment.approval_hours)
    description = await _description(release, datetime.now(UTC) + hours)
    await asuspend_flow_run(
        wait_for_input=Answer.with_initial_data(description=description),
        # Prefect suspends once per key; a run that is retried after a time-out has to ask again.
        key=f"{_KEY}{release.package.commit}-{flow_run.get_run_count()}",
        timeout=ceil(hours.total_seconds()),
    )


async def _description(release: Release, until: datetime) -> str:
    """Return what a person needs for the decision, in markdown."""
    package = release.package
    old = release.metrics_before
    live = release.before.label if release.before else "nothing"
    return "\n\n".join(
        filter(
            None,
            [
                f"**Release {package.label} to {release.environment}?** Live now: {live}.",
                f"Gate: {release.verdict.text}." if release.verdict else "",
                f"Forced: {release.force_reason}." if release.force_reason else "",
                "Preflight: **passed**. The hashes agree, and the booted server predicts what"
                " the model predicted when it was saved.",
                f"Without an answer by {until:%Y-%m-%d %H:%M} UTC the run fails,"
                f" and {live} keeps serving.",
                markdown.findings_table(release.verdict.findings) if release.verdict else "",
                markdown.comparison_table(release.metrics, old),
                describe_shadow(release.shadow) if release.shadow else "",
                f"Shadow traffic: {release.shadow_absence}." if release.shadow_absence else "",
                await picture_of(
                    package.workspace,
                    package.commit,
                    release.before.commit if release.before else None,
                ),
            ],
        )
    )
