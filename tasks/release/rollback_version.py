"""Which version a rollback goes back to."""

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


@capability("choose version", run_name="choose what {environment} goes back to", timeout=300)
async def choose_version(
    workspace: Workspace,
    environment: str,
    history: Sequence[Entry],
    wanted: str,
    live: Live | None,
) -> Version:
    """Find out what to go back to.

    A run that is run again after a crash finds the same, also if it had gone back already.

    Args:
        workspace: Any workspace of the model.
        environment: Name of the environment.
        history: Its releases, newest first.
        wanted: The version to go back to; empty for the one before what is live.
        live: What the platform says is live.

    Returns:
        The version.

    Raises:
        TerminalError: It was never registered, is live, there is nothing before what is live, or
            the history does not know what is live.
    """
    entries = not_rolled_back(history)
    if entries and entries[0].run == flow_run.get_id():  # done, by this run
        version = Version(entries[0].version, entries[0].commit)
    elif wanted:
        version = await named_version(workspace, wanted)
        _require_not_live(version, environment, entries, live)
    else:
        version = _before(environment, entries, live)
    commands.run_logger().info("%s goes back to %s", environment, version.name)
    return version


def _require_not_live(
    version: Version, environment: str, entries: Sequence[Entry], live: Live | None
) -> None:
    # Where the history does not say so yet, an earlier try of this run may have ended half-way.
    recorded = bool(entries) and entries[0].commit == version.commit
    if recorded and live and live.healthy and live.commit == version.commit:
        raise TerminalError(
            f"{version.name} is what is live in {environment}",
            state=_STATE,
            next_step="name an earlier version, or none for the one before it",
        )


def _before(environment: str, entries: Sequence[Entry], live: Live | None) -> Version:
    """The version before the one that is live."""
    if len(entries) < 2:
        only = f"only {entries[0].version} stands in" if entries else "nothing was released to"
        raise TerminalError(
            f"{only} {environment}, so there is nothing to go back to",
            state=_STATE,
            next_step="name a version that was never live here, or was taken back, if it is to be",
        )
    newest, before = entries[:2]
    if live and live.commit not in {newest.commit, before.commit}:
        raise TerminalError(
            f"{live.label} is live in {environment}, and the history says {newest.version}: it"
            " does not know what was before",
            state=_STATE,
            next_step=f"name the version to go back to, probably {newest.version}",
        )
    return Version(before.version, before.commit)
