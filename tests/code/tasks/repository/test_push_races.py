"""A push that failed must be pushed by the next try, not taken for done."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.repository.versions import Version, record_release, register_version
from tasks.repository.workspace import Workspace
from tasks.training.candidate import commit_candidate
from tasks.training.publish import publish


@dataclass(frozen=True)
class Unlucky(Workspace):
    """A workspace whose first push is cut off."""

    cut: list[bool] = field(default_factory=lambda: [True])

    async def git(self, argv: commands.Argv, *, ok: tuple[int, ...] = (0,)) -> commands.Finished:
        if argv[1] == "push" and self.cut:
            self.cut.pop()
            raise TransientError("connection reset")
        return await super().git(argv, ok=ok)


def _git(*argv: str, cwd: Path) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    return subprocess.run(
        ["git", *identity, *argv], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Unlucky:
    _git("init", "--quiet", "--bare", "--initial-branch=main", "origin.git", cwd=tmp_path)
    _git("clone", "--quiet", "origin.git", "clone", cwd=tmp_path)
    path = tmp_path / "clone"
    (path / "params.yaml").write_text("name: wine\n")
    _git("add", "--all", cwd=path)
    _git("commit", "--quiet", "--message", "Start", cwd=path)
    _git("push", "--quiet", "origin", "HEAD:main", cwd=path)
    return Unlucky(path, _git("rev-parse", "HEAD", cwd=path), "main")


def _on_origin(workspace: Workspace) -> str:
    return _git("for-each-ref", cwd=workspace.path.parent / "origin.git")


async def test_a_candidate_is_kept_by_the_second_try(workspace: Unlucky) -> None:
    (workspace.path / "dvc.lock").write_text("trained")
    with pytest.raises(TransientError):
        await commit_candidate.fn(workspace, "Train wine")
    commit = await commit_candidate.fn(workspace, "Train wine")
    assert commit != workspace.commit
    assert commit in _on_origin(workspace)


async def test_a_change_within_the_second_of_the_checkout_is_committed(
    workspace: Unlucky,
) -> None:
    workspace.cut.clear()
    params, index = workspace.path / "params.yaml", workspace.path / ".git" / "index"
    params.write_text("name: wine\n")
    _git("update-index", "--refresh", cwd=workspace.path)
    params.write_text("name: vine\n")  # the same size, in the same second
    later = time.time() + 5
    os.utime(index, (later, later))  # as if DVC had written the index since
    commit = await commit_candidate.fn(workspace, "Train")
    assert _git("show", f"{commit}:params.yaml", cwd=workspace.path) == "name: vine"


async def test_a_version_is_registered_by_the_second_try(workspace: Unlucky) -> None:
    with pytest.raises(TransientError):
        await register_version.fn(workspace)
    assert (await register_version.fn(workspace)).name == "v0.0.1"
    assert "refs/tags/wine@v0.0.1" in _on_origin(workspace)


async def test_a_release_is_recorded_by_the_second_try(workspace: Unlucky) -> None:
    workspace.cut.clear()
    version = await register_version.fn(workspace)
    workspace.cut.append(True)
    with pytest.raises(TransientError):
        await record_release.fn(workspace, version, "local", "note")
    await record_release.fn(workspace, version, "local", "note")
    assert "refs/tags/wine#local#1" in _on_origin(workspace)
    await record_release.fn(workspace, version, "local", "note")
    assert "refs/tags/wine#local#2" not in _on_origin(workspace)
    assert isinstance(version, Version)


async def test_others_that_keep_tagging_are_told_of_with_what_there_is(
    workspace: Unlucky, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.cut.clear()
    monkeypatch.setattr("tasks.repository.versions._PUSH_TRIES", 1)
    hook = workspace.path.parent / "origin.git" / "hooks" / "update"
    hook.write_text("#!/bin/sh\necho it already exists >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(TransientError, match="kept tagging") as told:
        await register_version.fn(workspace)
    assert told.value.state == "the commit has no version yet; what is live is as it was"
    hook.chmod(0o644)
    version = await register_version.fn(workspace)
    hook.chmod(0o755)
    with pytest.raises(TransientError, match="kept tagging") as told:
        await record_release.fn(workspace, version, "local", "note")
    assert told.value.state == "the model is live but its release is not recorded"


async def test_a_branch_that_origin_protects_is_named_at_once(workspace: Unlucky) -> None:
    workspace.cut.clear()
    hook = workspace.path.parent / "origin.git" / "hooks" / "update"
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)
    (workspace.path / "dvc.lock").write_text("trained")
    _git("add", "--all", cwd=workspace.path)
    _git("commit", "--quiet", "--message", "Save\n\nSlipway-Run: a", cwd=workspace.path)
    saved = Workspace(workspace.path, _git("rev-parse", "HEAD", cwd=workspace.path), "main")
    with pytest.raises(TerminalError, match="protected branch"):
        await publish.fn(saved, [], "main")


async def test_commits_of_people_do_not_reach_main_by_retraining(workspace: Unlucky) -> None:
    workspace.cut.clear()
    for name, message in (("a", "My idea"), ("dvc.lock", "Train\n\nSlipway-Run: a")):
        (workspace.path / name).write_text(name)
        _git("add", "--all", cwd=workspace.path)
        _git("commit", "--quiet", "--message", message, cwd=workspace.path)
    candidate = Workspace(workspace.path, _git("rev-parse", "HEAD", cwd=workspace.path), "idea")
    with pytest.raises(TerminalError, match=r"contains commits of people.*'My idea'"):
        await publish.fn(candidate, [], "main")
