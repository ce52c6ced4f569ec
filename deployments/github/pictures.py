"""The pictures of pull requests, committed to a branch of their own.

GitHub does not show pictures whose data are in a comment, and has no API to upload them. So they
are committed to the branch `slipway-reports`, which shares no history with any other, and linked by
commit.
"""

from __future__ import annotations

import os
import subprocess
import time
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.core.errors import TerminalError

BRANCH = "slipway-reports"
_REF = f"refs/heads/{BRANCH}"
# Seconds before each try: the job of another pull request may push at the same time.
_PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0)
_VARIABLES = {
    "GIT_AUTHOR_NAME": "Slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "Slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
    "GIT_TERMINAL_PROMPT": "0",
}


def commit_pictures(url: str, token: str, pictures: Mapping[str, bytes], message: str) -> str:
    """Commit pictures to the branch, whose other files stay, and return the commit.

    Args:
        url: URL of the repository.
        token: A token with the permission `contents: write`.
        pictures: Content by path.
        message: Message of the commit.

    Raises:
        TerminalError: Git cannot read or write the branch.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        git = partial(_git, folder)
        git("init", "--quiet")
        _authorize(folder, token)
        for path, content in pictures.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for pause in _PAUSES:
            time.sleep(pause)
            parents = []
            if git("ls-remote", url, _REF):
                git("fetch", "--quiet", "--depth=1", url, _REF)
                parents = ["-p", "FETCH_HEAD"]
            git("read-tree", *(["FETCH_HEAD"] if parents else ["--empty"]))
            git("add", "--", *pictures)
            commit = git("commit-tree", *parents, "-m", message, git("write-tree"))
            try:
                git("push", "--quiet", url, f"{commit}:{_REF}")
            except TerminalError as error:
                refused = error
            else:
                return commit
    raise refused


def _authorize(folder: Path, token: str) -> None:
    # In a file, since the arguments of a process are public. Like the folder, it is temporary.
    credentials = b64encode(f"x-access-token:{token}".encode()).decode()
    with (folder / ".git" / "config").open("a") as file:
        file.write(f'[http]\n\textraheader = "AUTHORIZATION: basic {credentials}"\n')


def _git(folder: Path, *arguments: str) -> str:
    # Not `tasks.repository.git`, which needs more than this job installs.
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **_VARIABLES},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise TerminalError(
            f"cannot read or write branch {BRANCH}: {result.stderr.strip()[-300:]}",
            state="the comment is unchanged; the report is in the job's summary",
            next_step="give the job the permission contents: write, then run it again",
        )
    return result.stdout.strip()
