"""The decisions of an environment's policy: pure functions that refuse what it does not allow.

Nothing here is forced: who may start a run may not change the policy, which is the file of the
environment in the checkout that deploys.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tasks.core.errors import CandidateRejected, ConfigurationError
from tasks.platforms.base.policy import ANY
from tasks.platforms.base.settings import Environment
from tasks.repository.release_history import Entry, rollback_of
from tasks.training.gate import Verdict

_STATE = "nothing was built or released"


def require_reason(environment: Environment, *, force: bool, reason: str) -> str:
    """Return the reason of a forced deploy; empty for one that is not forced.

    Raises:
        ConfigurationError: The environment allows no force, or the reason is missing.
    """
    if not force:
        return ""
    if not environment.force:
        raise ConfigurationError(
            f"{environment.name} allows no forced deploy: `force = false` in its file",
            state=_STATE,
            next_step="deploy a newer commit without force; to go back:"
            f" slipway rollback {environment.name}",
        )
    if not reason.strip():
        raise ConfigurationError(
            "a forced deploy needs a reason, which is kept in the history",
            state=_STATE,
            next_step=f"slipway deploy {environment.name} <ref> --force --reason '...'",
        )
    return " ".join(reason.split())


def require_branch(environment: Environment, label: str, branches: Sequence[str]) -> None:
    """Refuse a commit that is on none of the branches that the environment allows.

    Args:
        environment: The environment.
        label: Label of the commit's model.
        branches: The branches of origin that contain the commit, by ancestry and not by name.

    Raises:
        CandidateRejected: None of them is allowed.
    """
    allowed = environment.branches
    if ANY in allowed or any(fnmatchcase(name, rule) for name in branches for rule in allowed):
        return
    raise CandidateRejected(
        f"{label} is on no branch from which {environment.name} may be deployed"
        f" ({', '.join(allowed)}); origin has it on: {', '.join(branches) or 'no branch'}",
        state=_STATE,
        next_step=f"merge it into {allowed[0]}, and deploy that; or change `branches` in"
        f" deployments/environments/{environment.name}.toml on the worker",
    )


def require_promotion(
    environment: Environment, label: str, commit: str, history: Sequence[Entry]
) -> None:
    """Refuse a commit that was not live and healthy in the environment before this one.

    Args:
        environment: The environment.
        label: Label of the commit's model.
        commit: The commit.
        history: The releases to the environment before it, newest first. Only what passed all
            proofs there is recorded.

    Raises:
        CandidateRejected: It was not, or it was rolled back there.
    """
    source = environment.promote_from
    if rollback := rollback_of(history, commit):
        problem = f"did not stay live in {source}: {rollback.rollback_note}"
    elif was_live(commit, history):
        return
    else:
        problem = f"is none of the newest {len(history)} releases of {source}"
    raise CandidateRejected(
        f"{label} {problem}; {environment.name} takes only what was live and healthy there",
        state=_STATE,
        next_step=f"release the same commit there first: slipway deploy {source} {commit}",
    )


def require_same_interface(environment: Environment, label: str, changes: Sequence[str]) -> None:
    """Refuse a model that would break the clients of what is live.

    Args:
        environment: The environment.
        label: Label of the candidate.
        changes: What it changes for clients, as sentences.

    Raises:
        CandidateRejected: It changes something.
    """
    if changes:
        raise CandidateRejected(
            f"{label} is no successor of what is live in {environment.name}: {'; '.join(changes)}",
            state=_STATE,
            next_step="if clients know of it: slipway deploy"
            f" {environment.name} <ref> --replace; else correct `name` or `data` in params.yaml",
        )


def require_verdict(environment: Environment, label: str, verdict: Verdict) -> None:
    """Refuse a commit that the gate rejects, where its verdict is required.

    Raises:
        CandidateRejected: It is rejected.
    """
    if environment.gate == "required" and not verdict.passed:
        raise CandidateRejected(
            f"{label} did not pass the gate of {environment.name}: {verdict.text}",
            state=_STATE,
            next_step="release a model that passes; the rules change with `gate_rules` in"
            f" deployments/environments/{environment.name}.toml on the worker",
        )


def was_live(commit: str, history: Sequence[Entry]) -> bool:
    """Check that a commit is one of the releases of a history."""
    return any(entry.commit == commit for entry in history)
