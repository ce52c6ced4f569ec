"""Shadow traffic of a release: asked for once a run, kept over an approval, and judged."""

from __future__ import annotations

import asyncio

from prefect.input.actions import acreate_flow_run_input, aread_flow_run_input
from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.errors import CandidateRejected, ConfigurationError
from tasks.core.yaml12 import load_yaml
from tasks.monitoring.shadow import compare
from tasks.monitoring.shadow_report import ShadowReport
from tasks.package.package import read_at
from tasks.platforms.base.settings import Environment, HostEnvironment
from tasks.platforms.base.shadow import SHADOW_SECONDS, ShadowRules
from tasks.platforms.base.target import ReleasedT, StagedT, Target
from tasks.platforms.catalogue import gate_rules
from tasks.release.steps import rollback_on_error
from tasks.reports.release_report import Release
from tasks.repository.parameters import list_private
from tasks.runs.retrying import capability
from tasks.training.rules import PARAMETERS, find_rules


async def run_shadow(
    environment: Environment,
    release: Release,
    target: Target[StagedT, ReleasedT],
    staged: StagedT,
) -> None:
    """Mirror live requests to a new version, and note in the release what they show.

    A run that goes on after its approval, or after it has crashed, has that already. A rollback
    needs none: what it goes back to has had live requests.

    Args:
        environment: The environment, as its file on this worker has it.
        release: The release.
        target: Its platform.
        staged: What preflight left on it.

    Raises:
        CandidateRejected: More answers differ than the environment allows.
    """
    if not isinstance(environment, HostEnvironment) or release.rollback:
        return
    rules = environment.shadow
    if rules is None:
        return
    key = f"shadow-{release.package.commit}"
    release.shadow = await _read(key)
    if release.shadow is None:
        # What preflight left is removed if this fails; nothing else has changed.
        async with rollback_on_error(release, target, staged):
            release.shadow = await mirror(environment, rules, release, target, staged)
        if release.shadow is None:
            if release.before is not None:
                release.shadow_absence = _describe_absence(rules)
            return
        await _keep(key, release.shadow)
    commands.run_logger().info("shadow traffic: %s", release.shadow.summary)
    _require_agreement(environment, rules, release.shadow, release.package.label)


@capability(
    "mirror requests",
    run_name="mirror requests to {release.package.label}",
    timeout=SHADOW_SECONDS + 1800,
)
async def mirror(
    environment: HostEnvironment,
    rules: ShadowRules,
    release: Release,
    target: Target[StagedT, ReleasedT],
    staged: StagedT,
) -> ShadowReport | None:
    """Mirror requests to a new version and compare the answers; None if nothing is live."""
    if release.before is None:
        return None
    workspace = release.package.workspace
    live = await read_at(workspace, release.before.commit, PARAMETERS)
    if not live:
        commands.run_logger().warning(
            "no shadow traffic: origin lacks the commit of %s, which says what is private",
            release.label_before,
        )
        return None
    of_live = list_private(load_yaml(live) or {})
    traffic = await target.shadow(staged, of_live)
    if traffic is None:
        return None
    return await asyncio.to_thread(
        compare,
        traffic,
        tolerance=rules.tolerance,
        slices=_list_slices(environment, release, live),
        private=of_live | list_private(workspace.parameters),
    )


def _list_slices(
    environment: HostEnvironment, release: Release, parameters: str
) -> tuple[str, ...]:
    """List the slices of the gate that judges the release; none where it has no rules.

    Args:
        environment: The environment.
        release: The release.
        parameters: Text of the params.yaml of the live version.
    """
    try:
        trusted = gate_rules(environment)
        rules, _ = find_rules(trusted, release.metrics, release.label_before, parameters)
    except ConfigurationError:
        return ()
    return rules.slices


def _describe_absence(rules: ShadowRules) -> str:
    """Say that a version goes on unjudged; else no fix of a dead live version could be released."""
    unchecked = rules.max_disagreement is not None
    return (
        "**none**: the new version's answers were not compared with the live one's"
        + (", nor checked against `shadow.max_disagreement`" if unchecked else "")
        + ". The log of the run has the reason"
    )


async def _read(key: str) -> ShadowReport | None:
    """Read the report that this flow run has made before it was suspended or crashed."""
    values = await aread_flow_run_input(key) if flow_run.get_id() else None
    return ShadowReport.model_validate(values) if values else None


async def _keep(key: str, report: ShadowReport) -> None:
    if flow_run.get_id():
        await acreate_flow_run_input(key=key, value=report.model_dump(mode="json"))


def _require_agreement(
    environment: Environment, rules: ShadowRules, report: ShadowReport, label: str
) -> None:
    """Refuse a version too many of whose answers differ from the live one's."""
    most, share = rules.max_disagreement, report.disagreement
    if most is None or (share is not None and share <= most):
        return
    allowed = f"`shadow.max_disagreement` of {environment.name} is {most:.2%}"
    if share is None:
        raise CandidateRejected(
            f"no live request shows how {label} answers, and {allowed}",
            state="the live version keeps all of the traffic",
            next_step="deploy again while clients ask for predictions, with a longer `shadow.time`,"
            " or remove `shadow.max_disagreement`",
        )
    raise CandidateRejected(
        f"{label} and the live version answer requests differently: {report.summary}, and"
        f" {allowed}",
        state="the live version keeps all of the traffic",
        next_step="read the differences in the release note; if they are intended, raise"
        " `shadow.max_disagreement` for this release",
    )
