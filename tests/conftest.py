"""What all tests share: a real local stack of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.local.stack import Stack
from tasks.settings import CHECKOUT

_REAPER = Path(__file__).with_name("reaper.py")


@contextmanager
def reaped(stack: Stack) -> Iterator[Stack]:
    """Whatever happens to this process, the stack comes down when it ends."""
    reaper = subprocess.Popen(
        [sys.executable, str(_REAPER), str(os.getpid()), str(stack.home)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for pytest alone
    )
    try:
        yield stack
    finally:
        try:
            stack.down()
        finally:
            reaper.kill()
            reaper.wait()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose one commit is the checkout's working tree: uncommitted work is tested."""
    folder = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target, follow_symlinks=False)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "--message=Under test"],
    ):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Iterator[Stack]:
    """The real stack, up, with ports and a folder of its own; shared by all tests of a run."""
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        CHECKOUT,
        source=source,
        usual_ports=False,
        deploy_on_push=False,
    )
    with reaped(stack):
        stack.up(print)
        yield stack


@pytest.fixture
def stack_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the stack's worker, set in this process for one test."""
    variables = stack.environment()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture(scope="session")
def make_stack(
    tmp_path_factory: pytest.TempPathFactory, source: Path
) -> Iterator[Callable[[], Stack]]:
    """Make further stacks, not up, that come down at the end of the run at the latest."""
    from contextlib import ExitStack

    with ExitStack() as opened:

        def make() -> Stack:
            home = tmp_path_factory.mktemp("another")
            stack = Stack(home, CHECKOUT, source=source, usual_ports=False, deploy_on_push=False)
            return opened.enter_context(reaped(stack))

        yield make
