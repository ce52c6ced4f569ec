"""The release that a window is compared with: its profile, its answers, the rules of its gate."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.bucket.objects import outputs_of
from tasks.bucket.outputs import fetch_output
from tasks.monitoring.drift import Reference
from tasks.monitoring.profile import PROFILE, Profile, parse_profile
from tasks.monitoring.quality import Labelled, make_likely
from tasks.monitoring.records import normalize_value
from tasks.monitoring.report import Release
from tasks.package.package import read_at, read_metrics
from tasks.repository.release_history import Entry
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability
from tasks.training.evidence import parse_evaluation
from tasks.training.predictions import read_predictions
from tasks.training.probabilities import parse_probabilities
from tasks.training.rules import PARAMETERS, TrustedRules, find_rules


@capability("read release", run_name="read {workspace.label}", timeout=600)
async def read_release(workspace: Workspace, entry: Entry, trusted: TrustedRules) -> Release:
    """Read all that a window is compared with.

    Args:
        workspace: The workspace at the commit that was live.
        entry: Its release in the history.
        trusted: The rules of the environment's gate.

    Raises:
        TransientError: The bucket cannot be reached.
        TerminalError: The profile is invalid, or missing in the bucket.
        ConfigurationError: The rules of the gate are invalid.
    """
    metrics = read_metrics(workspace)
    parameters = await read_at(workspace, "", PARAMETERS)
    rules, _ = find_rules(trusted, metrics, workspace.label, parameters)
    predictions = await read_predictions(workspace)
    answers = parse_evaluation(metrics, predictions, "")
    likely, probabilities = parse_probabilities(predictions)
    profile = await _read_profile(workspace)
    is_regression = workspace.parameters["data"]["task"] == "regression"
    return Release(
        workspace.model,
        trusted.environment,
        entry.version,
        workspace.commit,
        Reference(profile, answers.predicted, is_regression, probabilities) if profile else None,
        Labelled(_normalize(answers.actual), _normalize(answers.predicted), []),
        make_likely(_normalize(likely), probabilities, []),
        rules,
    )


def _normalize(values: Sequence[str]) -> list[str]:
    return list(map(normalize_value, values))


async def _read_profile(workspace: Workspace) -> Profile | None:
    """Read the profile of a commit; None of one that an earlier version of the template made."""
    if all(stored.path != PROFILE for stored in await outputs_of(workspace)):
        return None
    file = await fetch_output(workspace, PROFILE)
    return parse_profile(file.read_text(), workspace.label)
