"""Tags of releases that somebody else has made, or that say nothing."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from deployments.local import signing
from tasks.core.errors import TerminalError
from tasks.repository.git import Git
from tasks.repository.release_history import read_history
from tasks.repository.tags import make_tag, read_tags
from tasks.repository.versions import (
    champion_of,
    named_version,
    register_version,
    version_of,
)
from tasks.repository.workspace import Workspace


@pytest_asyncio.fixture
async def workspace(tmp_path: Path) -> Workspace:
    """A clone whose one commit is released to `local`, by a worker with a key."""
    clone = Git(tmp_path)
    clone("init", "--quiet")
    (tmp_path / "params.yaml").write_text("name: wine\n")
    clone("add", "--all")
    clone("commit", "--quiet", "--message=Start")
    workspace = Workspace(tmp_path, clone("rev-parse", "HEAD"), "main", signed_tags=True)
    for name in ("wine@v0.0.1", "wine#local#1"):
        await make_tag(workspace, name, workspace.commit, "Released by Slipway\n\nFlow-Run: 7")
    return workspace


def _release_something_else(workspace: Workspace, *argv: str) -> str:
    clone = Git(workspace.path)
    clone("commit", "--quiet", "--allow-empty", "--message=Evil")
    evil = clone("rev-parse", "HEAD")
    clone("tag", *argv, evil)
    return evil


async def test_releases_of_workers_are_the_history(workspace: Workspace) -> None:
    (entry,) = await read_history(workspace, "local")
    assert (entry.commit, entry.version, entry.run) == (workspace.commit, "v0.0.1", "7")
    assert await champion_of(workspace, "local") == await version_of(workspace, workspace.commit)


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (["wine#local#99"], "no annotated tag of a commit"),
        (["--annotate", "--message=x", "wine#local#99"], "no allowed signer has signed it"),
    ],
)
async def test_tag_that_no_allowed_signer_has_made_is_named_and_stepped_over(
    workspace: Workspace, argv: list[str], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "slipway")
    caplog.set_level(logging.WARNING, "prefect")
    logging.getLogger("prefect").propagate = True
    evil = _release_something_else(workspace, *argv)
    champion = await champion_of(workspace, "local")
    assert champion
    assert champion.commit == workspace.commit != evil
    assert [entry.commit for entry in await read_history(workspace, "local")] == [workspace.commit]
    assert f"stepped over tag wine#local#99: {fault}" in " ".join(caplog.messages).replace(
        "it is ", ""
    )


async def test_tags_are_verified_beyond_the_length_of_a_command_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.repository.tags._VERIFIED_AT_ONCE", 1)
    await make_tag(workspace, "wine#local#2", workspace.commit, "Released by Slipway")
    _release_something_else(workspace, "--annotate", "--message=x", "wine#local#99")
    tags = await read_tags(workspace, "wine#local#*")
    assert [tag.name for tag in tags] == ["wine#local#2", "wine#local#1"]


async def test_tag_of_something_that_is_no_commit_is_stepped_over(workspace: Workspace) -> None:
    blob = Git(workspace.path)("rev-parse", "HEAD:params.yaml")
    Git(workspace.path)("tag", "--annotate", "--message=x", "wine#local#98", blob)
    unsigned = replace(workspace, signed_tags=False)
    for reader in (workspace, unsigned):
        assert [e.commit for e in await read_history(reader, "local")] == [workspace.commit]


async def test_signed_tag_under_another_name_is_stepped_over(workspace: Workspace) -> None:
    clone = Git(workspace.path)
    old = clone("rev-parse", "refs/tags/wine#local#1")
    clone("update-ref", "refs/tags/wine#local#99", old)
    assert len(await read_history(workspace, "local")) == 1


async def test_key_that_is_no_longer_allowed_has_signed_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.prepare(tmp_path / "another")
    monkeypatch.setenv("SLIPWAY_TRUST", str(signing.trust_folder(tmp_path / "another")))
    assert await read_history(workspace, "local") == []
    with pytest.raises(TerminalError, match="or its tag does not count"):
        await named_version(workspace, "v0.0.1")
    Git(workspace.path)("remote", "add", "origin", str(workspace.path))
    with pytest.raises(TerminalError, match=r"tag wine@v0\.0\.1 at .* does not count"):
        await register_version.fn(workspace)
    assert await read_history(replace(workspace, signed_tags=False), "local")
