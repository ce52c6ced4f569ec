"""DVC commands as argvs."""

from __future__ import annotations

from tasks.core.commands import Argv
from tasks.repository.workspace import Workspace

LOCK_WAIT = "--wait-for-lock"  # else DVC gives up after 3 s; the time-out of `run` is the limit


def variables(workspace: Workspace) -> dict[str, str]:
    """Return the variables of every DVC command in a workspace.

    DVC unpickles what it finds in its site cache, which by default is a folder that everybody on
    the host may write. Each workspace has one of its own, which goes with it.
    """
    return {"DVC_SITE_CACHE_DIR": str(workspace.tool_cache)}


def list_changes(until: str) -> Argv:
    """Print the stages that would run, up to one, if this host had all outputs."""
    return ["dvc", LOCK_WAIT, "repro", "--dry", "--allow-missing", until]


def repro(until: str, *, force: bool) -> Argv:
    """Run the stages up to one that have changed or lack outputs, or all of them."""
    return ["dvc", LOCK_WAIT, "repro", *(["--force"] if force else []), until]


def update(record: str) -> Argv:
    """Download imported data again if they have changed where they come from."""
    return ["dvc", LOCK_WAIT, "update", "--", record]


def add(path: str) -> Argv:
    """Keep a file or folder: its content in the cache, its hash in a record beside it."""
    return ["dvc", LOCK_WAIT, "add", "--", path]


def metrics_diff(base: str) -> Argv:
    """Print, as a markdown table, the metrics of the workspace that differ from a commit's."""
    return ["dvc", LOCK_WAIT, "metrics", "diff", "--md", base]


def parameters_diff(base: str) -> Argv:
    """Print, as a markdown table, the parameters of the workspace that differ from a commit's."""
    return ["dvc", LOCK_WAIT, "params", "diff", "--md", base]


def plots_diff(base: str) -> Argv:
    """Print, as JSON, the plots of the workspace and a commit, one filled template per plot."""
    return ["dvc", LOCK_WAIT, "plots", "diff", "--json", base]
