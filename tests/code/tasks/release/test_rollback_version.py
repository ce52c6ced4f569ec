"""The version that a rollback returns to, chosen from real tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import TerminalError
from tasks.platforms.base.target import Live
from tasks.release.rollback_version import choose_version
from tasks.repository.git import Git
from tasks.repository.release_history import read_history, tag_message
from tasks.repository.versions import Version
from tasks.repository.workspace import Workspace

_RUN = "7f0c8a9e-0000-4000-8000-000000000000"


async def choose(workspace: Workspace, environment: str, name: str, live: Live | None) -> Version:
    """Choose a version from the history that the tags tell."""
    history = await read_history(workspace, environment)
    return await choose_version.fn(workspace, environment, history, name, live)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    git = Git(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / "params.yaml").write_text("name: wine\n")
    git("add", "--all")
    git("config", "user.name", "Test")
    git("config", "user.email", "test@localhost")
    return git


@pytest.fixture
def release(git: Git) -> Callable[..., str]:
    """Release versions by name, each new one at a commit of its own."""
    count = 0

    def make(version: str, *, rollback: bool = False, run: str = "") -> str:
        nonlocal count
        tag = f"wine@{version}"
        if not git("tag", "--list", tag):
            git("commit", "--quiet", "--allow-empty", f"--message={version}")
            git("tag", "--annotate", tag, "--message=Registered")
        commit = git("rev-parse", f"{tag}^{{commit}}")
        count += 1
        message = tag_message(before="-", approval="", run=run, rollback=rollback)
        git("tag", "--annotate", f"wine#local#{count}", commit, f"--message={message}")
        return commit

    return make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, "", "main")


def _live(commit: str, *, healthy: bool = True) -> Live:
    return Live("a-release", "wine", commit, "", "", None, healthy)


async def test_without_an_earlier_release_there_is_no_rollback(
    workspace: Workspace, release: Callable[..., str]
) -> None:
    with pytest.raises(TerminalError, match="local has no release to roll back"):
        await choose(workspace, "local", "", None)
    release("v0.0.1")
    second = release("v0.0.2")
    release("v0.0.1", rollback=True)
    with pytest.raises(TerminalError, match=r"local has no earlier release: v0\.0\.1 is the only"):
        await choose(workspace, "local", "", None)
    chosen = await choose(workspace, "local", "v0.0.2", None)
    assert chosen.commit == second


async def test_default_is_the_version_before_the_live_one(
    workspace: Workspace, release: Callable[..., str]
) -> None:
    first, second = release("v0.0.1"), release("v0.0.2")
    for live in (second, first):  # the second time, the run crashed after its rollback
        assert (await choose(workspace, "local", "", _live(live))).commit == first
    with pytest.raises(TerminalError, match=r"wine@fffffff is live in local, but v0\.0\.2 is the"):
        await choose(workspace, "local", "", _live("f" * 40))


async def test_retried_run_chooses_the_same_version(
    workspace: Workspace, release: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", _RUN)
    release("v0.0.1"), release("v0.0.2"), release("v0.0.3")
    second = release("v0.0.2", rollback=True, run=_RUN)
    for name in ("", "v0.0.2"):
        assert (await choose(workspace, "local", name, _live(second))).commit == second


async def test_named_version_must_be_registered_and_not_live(
    workspace: Workspace, release: Callable[..., str]
) -> None:
    release("v0.0.1")
    second = release("v0.0.2")
    unknown = r"version wine@v0\.0\.9 was never registered, or .*; the newest: .*0\.2"
    with pytest.raises(TerminalError, match=unknown):
        await choose(workspace, "local", "v0.0.9", _live(second))
    with pytest.raises(TerminalError, match="none"):
        await choose(workspace, "local", "beer@v0.0.1", _live(second))
    with pytest.raises(TerminalError, match=r"v0\.0\.2 is already live in local"):
        await choose(workspace, "local", "v0.0.2", _live(second))
    unhealthy = await choose(workspace, "local", "wine@v0.0.2", _live(second, healthy=False))
    assert unhealthy.commit == second
