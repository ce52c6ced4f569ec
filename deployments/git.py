"""Git, run by hand or by a job; flows have `tasks/repository/git.py` and their workspaces."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tasks.core.errors import TerminalError

IDENTITY = {
    "GIT_AUTHOR_NAME": "Slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "Slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
}


class Git:
    """Git in one folder, deaf to the variables and settings of whoever started us.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        self._environment = {**inherited, **IDENTITY, "GIT_TERMINAL_PROMPT": "0"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Git command; how it ended is for the caller to judge."""
        return subprocess.run(
            # Without optional locks `git status` does not write to the index of the checkout.
            ["git", "--no-optional-locks", "-c", "commit.gpgsign=false", *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        """Run a Git command that has to succeed.

        Args:
            arguments: The command.

        Returns:
            What it printed.

        Raises:
            TerminalError: It failed.
        """
        result = self.run(*arguments)
        if result.returncode:
            raise TerminalError(
                f"git {' '.join(arguments)} failed in {self._folder}: {result.stderr.strip()}",
                state="the checkout is as it was",
                next_step="mend what Git complains about and run the same command again",
            )
        return result.stdout.strip()
