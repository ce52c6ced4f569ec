"""Local stacks of tests: one that all workers of a run share, and others of their own.

A stack is up for as long as anybody locks its file of users, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock

from deployments.local.stack import Stack
from tasks.core.settings import CHECKOUT
from tests.commits import commit_all
from tests.template import copy_template

_REAPER = Path(__file__).with_name("reaper.py")


@contextmanager
def use_shared_stack(folder: Path, environments: Path) -> Iterator[Stack]:
    """Use the stack of a run: its first user starts it, its last user stops it.

    Args:
        folder: Of the stack, the same for all workers of the run.
        environments: Folder of Python environments that stacks share.
    """
    folder.mkdir(exist_ok=True)
    source = folder / "source"
    stack = Stack(folder / "home", CHECKOUT, source=source, usual_ports=False, deploy_on_push=False)
    lock, users = FileLock(folder / "lock"), folder / "users"
    with contextlib.ExitStack() as opened:
        with lock:
            is_up = users.exists()
            user = opened.enter_context(_lock_shared(users))
            if not is_up:
                if not stack.home.exists():
                    stack.home.mkdir()
                    (stack.home / "environments").symlink_to(environments)
                    copy_template(source)
                    commit_all(source, "Under test")
                _start_reaper(users, stack)
                try:
                    stack.up(print)
                except BaseException:
                    stack.down()
                    users.unlink()  # others try again
                    raise
        try:
            yield stack
        finally:
            with lock:
                if _is_last(user):
                    stack.down()
                    users.unlink()


@contextmanager
def stop_at_end(stack: Stack) -> Iterator[Stack]:
    """Bring a stack of one worker down at the end, even if the worker is killed."""
    users = stack.home.with_suffix(".users")
    with _lock_shared(users):
        _start_reaper(users, stack)
        try:
            yield stack
        finally:
            stack.down()
            users.unlink()


@contextmanager
def _lock_shared(file: Path) -> Iterator[IO[str]]:
    with file.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
        yield opened


def _is_last(user: IO[str]) -> bool:
    try:
        fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_reaper(users: Path, stack: Stack) -> None:
    subprocess.run(
        [sys.executable, str(_REAPER), str(users), str(stack.home)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
