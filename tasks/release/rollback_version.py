"""The version that a rollback returns to."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.errors import TerminalError
from tasks.platforms.base.target import Live
from tasks.repository.release_history import Entry, not_rolled_back
from tasks.repository.versions import Version, named_version
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability

_STATE = "nothing was changed"


@capability(
    "choose version", run_name="choose the version to roll {environment} back to", timeout=300
)
async def choose_version(
    workspace: Workspace,
    environment: str,
    history: Sequence[Entry],
    name: str,
    live: Live | None,
) -> Version:
    """Choose the version to roll back to.

    A run that Prefect starts again after a crash chooses the same, even if its rollback was done.

    Args:
        workspace: Any workspace of the model.
        environment: Name of the environment.
        history: Its releases, newest first.
        name: Name of the version; empty for the one before what is live.
        live: What the platform says is live.

    Raises:
        TerminalError: The version was never registered or is live, there is none before what is
            live, or what is live is not in the history.
    """
    entries = not_rolled_back(history)
    if entries and entries[0].run == flow_run.get_id():  # done, by this run
        version = Version(entries[0].version, entries[0].commit)
    elif name:
        version = await named_version(workspace, name)
        _require_not_live(version, environment, entries, live)
    else:
        version = _before(environment, entries, live)
    commands.run_logger().info("rolling %s back to %s", environment, version.name)
    return version


def _require_not_live(
    version: Version, environment: str, entries: Sequence[Entry], live: Live | None
) -> None:
    # Where the history does not say so yet, an earlier try of this run may have ended half-way.
    recorded = bool(entries) and entries[0].commit == version.commit
    if recorded and live and live.healthy and live.commit == version.commit:
        raise TerminalError(
            f"{version.name} is already live in {environment}",
            state=_STATE,
            next_step="name an earlier version, or none for the one before it",
        )


def _before(environment: str, entries: Sequence[Entry], live: Live | None) -> Version:
    """Return the version before the one that is live."""
    if not entries:
        raise TerminalError(
            f"{environment} has no release to roll back",
            state=_STATE,
            next_step=f"deploy one: prefect deployment run deploy/{environment} --param ref=<ref>",
        )
    if len(entries) == 1:
        raise TerminalError(
            f"{environment} has no earlier release: {entries[0].version} is the only one not"
            " rolled back",
            state=_STATE,
            next_step="name a version that was rolled back or never live here, or deploy a new one",
        )
    newest, before = entries[:2]
    if live and live.commit not in {newest.commit, before.commit}:
        raise TerminalError(
            f"{live.label} is live in {environment}, but {newest.version} is the newest release in"
            " the history: the version before is unknown",
            state=_STATE,
            next_step=f"name the version to roll back to, probably {newest.version}",
        )
    return Version(before.version, before.commit)
