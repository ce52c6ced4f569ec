"""A push that failed must be pushed by the next try, not taken for done."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deployments.local import signing
from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.core.settings import Settings
from tasks.reports.timeline import timeline
from tasks.repository.release_history import read_history, tag_message
from tasks.repository.versions import Version, champion_of, record_release, register_version
from tasks.repository.workspace import Workspace, push
from tasks.training.candidate import commit_candidate
from tasks.training.publish import publish


@dataclass(frozen=True)
class Unlucky(Workspace):
    """A workspace whose first push is cut off."""

    cut: list[bool] = field(default_factory=lambda: [True])

    async def git(
        self, argv: commands.Argv, *, ok: tuple[int, ...] = (0,)
    ) -> commands.CommandResult:
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


async def test_second_try_pushes_the_candidate(workspace: Unlucky) -> None:
    (workspace.path / "dvc.lock").write_text("trained")
    with pytest.raises(TransientError):
        await commit_candidate.fn(workspace, "Train wine")
    commit = await commit_candidate.fn(workspace, "Train wine")
    assert commit != workspace.commit
    assert commit in _on_origin(workspace)


async def test_change_within_the_second_of_the_checkout_is_committed(
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


async def test_second_try_registers_the_version(workspace: Unlucky) -> None:
    with pytest.raises(TransientError):
        await register_version.fn(workspace)
    assert (await register_version.fn(workspace)).name == "v0.0.1"
    assert "refs/tags/wine@v0.0.1" in _on_origin(workspace)


async def test_second_try_records_the_release(workspace: Unlucky) -> None:
    workspace.cut.clear()
    version = await register_version.fn(workspace)
    workspace.cut.append(True)
    with pytest.raises(TransientError):
        await record_release.fn(workspace, version, "local", "note")
    await record_release.fn(workspace, version, "local", "note")
    assert "refs/tags/wine#local#1" in _on_origin(workspace)
    await record_release.fn(workspace, version, "local", "note")
    assert "refs/tags/wine#local#2" not in _on_origin(workspace)
    # The same version once more, by force: one tag with its reason, however often it is tried.
    forced = tag_message(
        before="wine v0.0.1", approval="", run="a-run", rollback=False, force_reason="a new disk"
    )
    for _ in range(2):
        await record_release.fn(workspace, version, "local", forced, again=True)
    assert "refs/tags/wine#local#2" in _on_origin(workspace)
    assert "refs/tags/wine#local#3" not in _on_origin(workspace)
    newest = (await read_history(workspace, "local"))[0]
    assert (newest.force_reason, newest.run) == ("a new disk", "a-run")
    table = timeline([newest], ui="", forge=None)
    assert "live, forced: a new disk" in table
    assert isinstance(version, Version)
    assert await champion_of(replace(workspace, signed_tags=True), "local") == version


def _on_update(workspace: Workspace, script: str) -> Path:
    """Make origin run a script for each pushed ref, and refuse the ref."""
    hook = workspace.path.parent / "origin.git" / "hooks" / "update"
    hook.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
    hook.chmod(0o755)
    return hook


async def test_tags_of_other_runs_are_transient(
    workspace: Unlucky, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.cut.clear()
    monkeypatch.setattr("tasks.repository.versions._PUSH_TRIES", 1)
    # Another run gets the tag between the fetch and the push.
    hook = _on_update(workspace, 'git update-ref "$1" main; echo nothing of interest >&2')
    with pytest.raises(TransientError, match="kept tagging") as raised:
        await register_version.fn(workspace)
    assert raised.value.state == "the commit has no version yet; the live model is unchanged"
    hook.unlink()
    _git("update-ref", "-d", "refs/tags/wine@v0.0.1", cwd=workspace.path.parent / "origin.git")
    version = await register_version.fn(workspace)
    _on_update(workspace, 'git update-ref "$1" main')
    with pytest.raises(TransientError, match="kept tagging") as raised:
        await record_release.fn(workspace, version, "local", "note")
    assert raised.value.state == "the model is live but its release is not recorded"


@pytest.mark.parametrize("words", ["it already exists", "fetch first"])
async def test_hook_that_declines_a_tag_is_terminal_whatever_it_says(
    workspace: Unlucky, words: str
) -> None:
    workspace.cut.clear()
    _on_update(workspace, f"echo {words} >&2")
    with pytest.raises(TerminalError, match=f"origin declined the push of .*{words}"):
        await register_version.fn(workspace)
    assert "refs/tags" not in _git("for-each-ref", cwd=workspace.path)


async def test_ref_that_another_push_has_locked_is_pushed_again(workspace: Unlucky) -> None:
    workspace.cut.clear()
    lock = workspace.path.parent / "origin.git" / "refs" / "heads" / "main.lock"
    lock.touch()

    async def release_lock() -> None:
        await asyncio.sleep(0.5)
        lock.unlink()

    (workspace.path / "dvc.lock").write_text("trained")
    _git("add", "--all", cwd=workspace.path)
    _git("commit", "--quiet", "--message", "Train\n\nSlipway-Run: a", cwd=workspace.path)
    commit = _git("rev-parse", "HEAD", cwd=workspace.path)
    released = asyncio.create_task(release_lock())
    assert await push(workspace, [f"{commit}:refs/heads/main"])
    await released
    assert commit in _on_origin(workspace)


async def test_branch_that_somebody_else_has_moved_is_reported(workspace: Unlucky) -> None:
    workspace.cut.clear()
    other = workspace.path.parent / "other"
    _git("clone", "--quiet", "origin.git", "other", cwd=workspace.path.parent)
    _git("commit", "--quiet", "--allow-empty", "--message", "Theirs", cwd=other)
    _git("push", "--quiet", "origin", "HEAD:main", cwd=other)
    _git("commit", "--quiet", "--allow-empty", "--message", "Ours", cwd=workspace.path)
    commit = _git("rev-parse", "HEAD", cwd=workspace.path)
    refspecs = [f"{commit}:refs/heads/new", f"{commit}:refs/heads/main"]
    assert not await push(workspace, refspecs)
    assert commit not in _on_origin(workspace)


async def test_protected_branch_is_terminal(workspace: Unlucky) -> None:
    workspace.cut.clear()
    (workspace.path / "dvc.lock").write_text("trained")
    saved = Workspace(workspace.path, await commit_candidate.fn(workspace, "Save"), "main")
    _on_update(workspace, "echo protected branch >&2")
    with pytest.raises(TerminalError, match="protected branch"):
        await publish.fn(saved, [], "main")


def _commit(workspace: Workspace, message: str, key: Path | None = None) -> None:
    signature = [f"--gpg-sign={key}"] if key else []
    _git("add", "--all", cwd=workspace.path)
    _git("-c", "gpg.format=ssh", "commit", "--quiet", "--allow-empty", *signature,
         f"--message={message}", cwd=workspace.path)  # fmt: skip


def _forge_trailer(workspace: Workspace, folder: Path) -> None:
    _commit(workspace, "My idea\n\nSlipway-Run: x")


def _bring_signers_along(workspace: Workspace, folder: Path) -> None:
    """Sign with a key of one's own, which the commit itself allows."""
    signing.prepare(folder)
    trust = workspace.path / "deployments" / "trust"
    shutil.copytree(signing.trust_folder(folder), trust)
    _commit(workspace, "My idea\n\nSlipway-Run: x", signing.key_file(folder))


def _sign_as_person(workspace: Workspace, folder: Path) -> None:
    """Sign with the allowed key of a person, who signs models with it, too."""
    signing.prepare(folder)
    line = (signing.trust_folder(folder) / "allowed_signers").read_text()
    with Settings().allowed_signers.open("a") as file:
        file.write(line.replace("slipway@localhost", "ann@localhost"))
    _commit(workspace, "My idea\n\nSlipway-Run: x", signing.key_file(folder))


def _hide_in_merge(workspace: Workspace, folder: Path) -> None:
    """Put the change into a merge, whose parents are main's own commits."""
    tip = _git("rev-parse", "HEAD", cwd=workspace.path)
    tree = _git("write-tree", cwd=workspace.path)
    merge = _git("commit-tree", tree, "-p", tip, "-p", f"{tip}^", "-m", "My idea",
                 cwd=workspace.path)  # fmt: skip
    _git("reset", "--quiet", "--hard", merge, cwd=workspace.path)


def _copy_signature(workspace: Workspace, folder: Path) -> None:
    """Give another commit the signature of one that a worker has made."""
    made = subprocess.run(["git", "cat-file", "commit", "HEAD"], cwd=workspace.path,
                          capture_output=True, check=True).stdout  # fmt: skip
    tree = _git("write-tree", cwd=workspace.path).encode()
    forged = subprocess.run(
        ["git", "hash-object", "-w", "-t", "commit", "--stdin"], cwd=workspace.path, check=True,
        capture_output=True, input=made.replace(made.split()[1], tree).replace(b"Two", b"My idea"),
    ).stdout.decode().strip()  # fmt: skip
    _git("reset", "--quiet", "--hard", forged, cwd=workspace.path)


@pytest.mark.parametrize(
    "attack",
    [_forge_trailer, _bring_signers_along, _sign_as_person, _hide_in_merge, _copy_signature],
)
async def test_retraining_carries_no_commit_to_main_that_no_worker_has_made(
    workspace: Unlucky, tmp_path: Path, attack: Callable[[Workspace, Path], None]
) -> None:
    workspace.cut.clear()
    for subject in ("One", "Two"):
        (workspace.path / "dvc.lock").write_text(subject)
        start = Workspace(workspace.path, await commit_candidate.fn(workspace, subject), "main")
        assert await publish.fn(start, [], "main") == start.commit
    (workspace.path / "evil").write_text("evil")
    _git("add", "--all", cwd=workspace.path)
    attack(workspace, tmp_path / "attacker")
    branch = Workspace(workspace.path, _git("rev-parse", "HEAD", cwd=workspace.path), "idea")
    (workspace.path / "dvc.lock").write_text("trained")
    commit = await commit_candidate.fn(branch, "Train")
    candidate = Workspace(workspace.path, commit, commit)
    words = "not in main and that no worker's key has signed; the latest: 'My idea'"
    with pytest.raises(TerminalError, match=words):
        await publish.fn(candidate, [], "main")
    assert _git("rev-parse", "main", cwd=tmp_path / "origin.git") == start.commit


@pytest.mark.parametrize(
    "path", [".github/workflows/evil.yaml", "model/train.py", "model/custom/x", "serving/x.json"]
)
async def test_worker_signs_no_code_that_a_stage_has_written(workspace: Unlucky, path: str) -> None:
    (workspace.path / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace.path / path).write_text("evil")
    (workspace.path / "dvc.lock").write_text("trained")
    with pytest.raises(TerminalError, match=f"no output of a pipeline: {path}"):
        await commit_candidate.fn(workspace, "Train")
    assert _git("rev-parse", "HEAD", cwd=workspace.path) == workspace.commit
