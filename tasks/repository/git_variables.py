"""The variables with which Git runs in flows: settings of ours, and the host's ways to origin.

A worker's own Git configuration can change what is committed, what is cloned and from where. Of all
that it says, only what is needed to reach origin is taken over.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.core import commands
from tasks.core.errors import ConfigurationError
from tasks.repository import git

# What Git sets for a hook, which may have started this process, and `-c` of its caller.
_HIDDEN = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_INDEX_FILE",
    "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE",
)  # fmt: skip
# Credentials, proxies and certificates, programs that connect, and whose folders may be read.
_TAKEN_OVER = r"^(credential|http|ssh)\.|^(core\.(sshcommand|askpass|gitproxy)|safe\.directory)$"
_NONE_FOUND = 1  # exit code
_SECONDS = 30.0


async def run_git(
    argv: commands.Argv,
    *,
    timeout: float,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
    date: str | None = None,
) -> commands.CommandResult:
    """Run a Git command with settings of ours alone.

    Args:
        argv: The command.
        timeout: Seconds.
        settings: Further settings of Git; the place for secrets, which an argv would show.
        date: Time of the commit or tag that it makes; now if it is None.

    Returns:
        Exit code and output; the caller judges a non-zero code.

    Raises:
        ConfigurationError: Git cannot read the host's configuration.
        CommandTimeout: The time was up.
    """
    dated = {"GIT_COMMITTER_DATE": date} if date else {}
    variables = {**git_variables(settings), **dated}
    return await commands.run(
        argv, timeout=timeout, cwd=cwd, env=variables, hide=_HIDDEN, log=False
    )


def git_variables(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return variables that replace the host's configuration of Git.

    Args:
        settings: Further settings; the place for secrets, which an argv would show.

    Raises:
        ConfigurationError: Git cannot read the host's configuration.
    """
    own = frozenset((n, v) for n, v in os.environ.items() if _is_of_configuration(n))
    entries = [*_read_configuration(own), *(settings or {}).items()]
    return {
        **git.VARIABLES,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": str(len(entries)),
        **{f"GIT_CONFIG_KEY_{n}": key for n, (key, _) in enumerate(entries)},
        **{f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(entries)},
    }


def _is_of_configuration(name: str) -> bool:
    return name in {"HOME", "XDG_CONFIG_HOME"} or name.startswith("GIT_CONFIG")


@functools.cache
def _read_configuration(_: frozenset[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Read keys and values to take over, once for each place where variables say that they are."""
    argv = ["git", "config", "--null", "--get-regexp", _TAKEN_OVER]
    # From the root, so that no repository's own configuration is read.
    result = commands.run_blocking(argv, timeout=_SECONDS, cwd=Path("/"), hide=_HIDDEN)
    if result.code not in (0, _NONE_FOUND):
        raise ConfigurationError(
            f"Git cannot read the configuration of this host: {result.stderr.strip()}",
            state="nothing was started",
            next_step="correct the file that Git names, then run the flow again",
        )
    entries = (entry.partition("\n") for entry in result.stdout.split("\0") if entry)
    # A key alone means true.
    return tuple((key, value if separator else "true") for key, separator, value in entries)
