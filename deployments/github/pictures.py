"""The pictures of pull requests, committed to a branch of their own.

GitHub does not show pictures whose data are in a comment, and has no API to upload them. So they
are committed to the branch `slipway-reports`, which shares no history with any other, and linked by
commit.
"""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.core.errors import TerminalError, TransientError

BRANCH = "slipway-reports"
_REF = f"refs/heads/{BRANCH}"
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 2_000_000
_MOST = 20
_TRIES = 5
_VARIABLES = {
    "GIT_AUTHOR_NAME": "Slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "Slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
    "GIT_TERMINAL_PROMPT": "0",
}


def read_pictures(folder: Path) -> dict[str, bytes]:
    """Return the PNGs in a folder by file name, without those too large or too many.

    The folder comes from the code of a pull request and is not trusted.
    """
    pictures = {}
    for path in sorted(folder.glob("*.png"))[:_MOST]:
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST:
            content = path.read_bytes()
            if content.startswith(_PNG):
                pictures[path.name] = content
    return pictures


def commit_pictures(url: str, token: str, pictures: Mapping[str, bytes], message: str) -> str:
    """Commit pictures to the branch, whose other files stay, and return the commit.

    Args:
        url: URL of the repository.
        token: A token with the permission `contents: write`.
        pictures: Content by path.
        message: Message of the commit.

    Raises:
        TerminalError: Git cannot read or write the branch.
        TransientError: Other jobs kept committing at the same time.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        git = partial(_git, folder)
        git("init", "--quiet")
        _authorize(folder, token)
        for path, content in pictures.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for _ in range(_TRIES):
            tip = _tip(folder, url)
            if tip:
                git("fetch", "--quiet", "--depth=1", url, _REF)
                tip = git("rev-parse", "FETCH_HEAD")  # it may have moved in between
            git("read-tree", tip or "--empty")
            git("add", "--", *pictures)
            parents = [f"-p{tip}"] if tip else []
            commit = git("commit-tree", git("write-tree"), f"-m{message}", *parents)
            try:
                git("push", "--quiet", url, f"{commit}:{_REF}")
            except TerminalError:
                if _tip(folder, url) == tip:  # no other job was faster: trying again cannot help
                    raise
            else:
                return commit
    raise TransientError(
        f"other jobs kept committing to {BRANCH} at the same time",
        state="the comment is unchanged",
        next_step="run this job again",
    )


def _authorize(folder: Path, token: str) -> None:
    # In a file, since the arguments of a process are public. Like the folder, it is temporary.
    credentials = b64encode(f"x-access-token:{token}".encode()).decode()
    with (folder / ".git" / "config").open("a") as file:
        file.write(f'[http]\n\textraheader = "AUTHORIZATION: basic {credentials}"\n')


def _tip(folder: Path, url: str) -> str | None:
    """Return the newest commit of the branch, None if there is no branch."""
    return _git(folder, "ls-remote", url, _REF).partition("\t")[0] or None


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
