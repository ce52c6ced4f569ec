"""Folders as commits."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_all(folder: Path, message: str) -> str:
    """Commit all that is in a folder, after what its repository has; it is made if there is none.

    Args:
        folder: The folder.
        message: Message of the commit.

    Returns:
        The commit, 40 hexadecimal digits.
    """

    def git(*argv: str) -> str:
        who = [
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@localhost",
            "-c",
            "commit.gpgsign=false",
        ]
        done = subprocess.run(
            ["git", *who, *argv], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--no-verify", f"--message={message}")
    return git("rev-parse", "HEAD")
