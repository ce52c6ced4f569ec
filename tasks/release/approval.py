"""Approval: a person says yes or no to a release, in the Prefect UI, before it happens.

The run is suspended while it waits: its process ends, and it holds no worker slot, no lock and no
place in its deployment's queue. Answered, it runs again from the start, at the commit that was
shown, wherever its branch has got to meanwhile.
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
from tasks.training.gate import judge, read_rules

_KEY = "approve-"
# How Prefect calls what was answered to a suspended run, after the key it was suspended with.
_STORED, _ANSWER = f"suspended-{_KEY}", "-response"
_INPUTS = 100  # three per question: schema, description, response


class Answer(RunInput):
    """The form that a person fills in.

    Attributes:
        decision: Whether it may be released.
        reason: Why, for the release note.
    """

    decision: Literal["approve", "reject"] = Field(
        description="approve: release it now. reject: what is live stays as it is.",
        json_schema_extra={"position": 0},
    )
    reason: str = Field(
        "",
        max_length=500,
        description="Who decided, and why. It goes into the release note and the history.",
        json_schema_extra={"position": 1},
    )


@dataclass(frozen=True)
class Approval:
    """Where a deploy run is with being approved.

    Attributes:
        environment: The environment, which says whether anybody is asked.
        commit: The commit that was shown, None if nobody was asked yet.
        answer: What was answered.
    """

    environment: Environment
    commit: str | None = None
    answer: Answer | None = None

    @property
    def rejected(self) -> bool:
        """Whether the answer was no."""
        return self.answer is not None and self.answer.decision == "reject"

    @property
    def text(self) -> str:
        """The answer in words; nothing if nobody was asked."""
        if self.answer is None:
            return ""
        verb = "rejected" if self.rejected else "approved"
        return f"{verb}: {self.answer.reason.strip() or 'no reason given'}"


async def read_approval(environment: Environment) -> Approval:
    """Find out whether this run needs approval, and whether it has been answered already.

    Args:
        environment: Where it deploys to.

    Returns:
        Where the run is with being approved.

    Raises:
        ConfigurationError: It needs approval, and is no run of a deployment: Prefect could not
            start it again after the answer.
    """
    if deployment.id:
        async with get_client() as client:
            stored = await client.filter_flow_run_input(
                UUID(flow_run.get_id()), _STORED, limit=_INPUTS, exclude_keys=set()
            )
        for each in stored:
            if each.key.endswith(_ANSWER):
                commit = each.key.removeprefix(_STORED).partition("-")[0]
                return Approval(environment, commit, Answer(**each.decoded_value))
    elif environment.approval == "suspend":
        raise ConfigurationError(
            f"a release to {environment.name} is to be approved, which only a run of a deployment"
            " can wait for",
            state="nothing was started",
            next_step=f"prefect deployment run deploy/{environment.name} --param ref=<ref>",
        )
    return Approval(environment)


def approval_not_needed(environment: Environment) -> Approval:
    """The approval of what its starter has decided already: a rollback asks nobody.

    Args:
        environment: Where it goes to, whether or not releases there are approved.
    """
    return Approval(environment.model_copy(update={"approval": "none"}))


async def wait_for_answer(
    approval: Approval,
    release: Release,
    target: Target[StagedT, ReleasedT],
    staged: StagedT,
) -> None:
    """Suspend the run until somebody approves or rejects, unless that is done or not asked for.

    Args:
        approval: Where the run is with being approved.
        release: What is to be released.
        target: The target, on which preflight has proven it.
        staged: What preflight has proven.
    """
    if approval.answer or approval.environment.approval == "none":
        return
    await target.rollback(staged)  # what was made for preflight is made again after the answer
    hours = timedelta(hours=approval.environment.approval_hours)
    description = await _shown(release, datetime.now(UTC) + hours)
    await asuspend_flow_run(
        wait_for_input=Answer.with_initial_data(description=description),
        # Prefect asks once per key; a run that is tried again after nobody answered asks again.
        key=f"{_KEY}{release.package.commit}-{flow_run.get_run_count()}",
        timeout=ceil(hours.total_seconds()),
    )


async def _shown(release: Release, until: datetime) -> str:
    """What a person needs to know to decide, in markdown."""
    package = release.package
    old = release.metrics_before
    verdict = judge(release.metrics, old, read_rules(package.workspace.parameters))
    live = release.before.label if release.before else "nothing"
    return "\n\n".join(
        filter(
            None,
            [
                f"**Release {package.label} to {release.environment}?** Live now: {live}.",
                f"Gate: **{'passed' if verdict.passed else 'NOT passed'}**;"
                f" {'; '.join(verdict.reasons)}.",
                "Preflight: **passed**; the hashes agree, and booted in isolation it predicts what"
                " it did when it was saved.",
                f"No answer until {until:%Y-%m-%d %H:%M} UTC is a no: the run fails,"
                f" and {live} goes on serving.",
                markdown.comparison_table(release.metrics, old),
                await picture_of(
                    package.workspace,
                    package.commit,
                    release.before.commit if release.before else None,
                ),
            ],
        )
    )
