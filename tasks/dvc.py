"""DVC commands, as argvs."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.git import Argv

LOCK_WAIT = "--wait-for-lock"  # DVC gives up after 3 s by itself; our time-outs are the limit


def repro(until: str | None, *, force: bool) -> Argv:
    """Reproduce the pipeline up to a stage (all of it if None).

    Stages whose inputs are unchanged are skipped even where their outputs are not on this host;
    what a changed stage needs is pulled. With `force` every stage runs.
    """
    mode = ["--force"] if force else ["--allow-missing"]
    return ["dvc", LOCK_WAIT, "repro", "--pull", *mode, *([until] if until else [])]


def push(remote: str, targets: Sequence[str]) -> Argv:
    """Upload what the targets (stages, files) hold."""
    return ["dvc", LOCK_WAIT, "push", "--remote", remote, *targets]


def pull(remote: str, targets: Sequence[str]) -> Argv:
    """Download what the targets hold, and nothing else."""
    return ["dvc", LOCK_WAIT, "pull", "--force", "--remote", remote, *targets]
