"""DVC commands, as argvs."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.core.commands import Argv

LOCK_WAIT = "--wait-for-lock"  # DVC gives up after 3 s by itself; our time-outs are the limit


def what_has_changed(until: str) -> Argv:
    """Print which stages would run, up to one; outputs that are not here count as there."""
    return ["dvc", LOCK_WAIT, "repro", "--dry", "--allow-missing", until]


def repro(until: str, *, force: bool) -> Argv:
    """Run the stages up to one that have changed or whose outputs are not here; or all."""
    return ["dvc", LOCK_WAIT, "repro", *(["--force"] if force else []), until]


def checkout(targets: Sequence[str]) -> Argv:
    """Bring what the targets hold from the cache into the workspace."""
    return ["dvc", LOCK_WAIT, "checkout", "--allow-missing", *targets]


def pull_what_is_there(remote: str, targets: Sequence[str]) -> Argv:
    """The same, downloading what the cache does not have, leaving out what is nowhere."""
    return ["dvc", LOCK_WAIT, "pull", "--allow-missing", "--remote", remote, *targets]


def push(remote: str, targets: Sequence[str]) -> Argv:
    """Upload what the targets (stages, files) hold."""
    return ["dvc", LOCK_WAIT, "push", "--remote", remote, *targets]


def pull(remote: str, targets: Sequence[str]) -> Argv:
    """Download what the targets hold, and nothing else."""
    return ["dvc", LOCK_WAIT, "pull", "--force", "--remote", remote, *targets]


def metrics_diff(base: str) -> Argv:
    """Print, as a markdown table, the metrics of the workspace that differ from a commit's."""
    return ["dvc", LOCK_WAIT, "metrics", "diff", "--md", base]


def parameters_diff(base: str) -> Argv:
    """Print, as a markdown table, the parameters of the workspace that differ from a commit's."""
    return ["dvc", LOCK_WAIT, "params", "diff", "--md", base]


def plots_diff(base: str) -> Argv:
    """Print, as JSON, the plots of the workspace and a commit, each in one filled template."""
    return ["dvc", LOCK_WAIT, "plots", "diff", "--json", base]
