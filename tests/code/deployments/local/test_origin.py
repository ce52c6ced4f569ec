"""Origin follows the checkout, and the checkout is only ever read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deployments.local.origin import bring_up_to_date, deploy_on_push, ignore_pushes
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.repository.git import Git


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    Git(folder)("init", "--quiet", "--initial-branch=work")
    return folder


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return tmp_path / "home" / "origin.git"


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    git = Git(folder)
    git("add", "--all")
    git("commit", "--quiet", "--message=A change")
    return git("rev-parse", "HEAD")


def flow_commits(origin: Path, tmp_path: Path, **files: str) -> str:
    clone = tmp_path / "clone"
    Git(tmp_path)("clone", "--quiet", str(origin), str(clone))
    made = commit(clone, **files)
    Git(clone)("push", "--quiet", "origin", "HEAD:main")
    return made


def main_of(origin: Path) -> str:
    return Git(origin)("rev-parse", "main")


def test_origin_has_the_committed_state_of_any_branch(checkout: Path, origin: Path) -> None:
    made = commit(checkout, a="1")
    (checkout / "b").write_text("not committed")
    notes = bring_up_to_date(origin, checkout)
    assert main_of(origin) == made
    assert len(notes) == 1
    assert "uncommitted" in notes[0]


def test_checkout_without_a_commit_is_refused(checkout: Path, origin: Path) -> None:
    with pytest.raises(ConfigurationError, match="no commit"):
        bring_up_to_date(origin, checkout)
    assert not origin.exists()


def test_checkout_is_never_written_to(checkout: Path, origin: Path) -> None:
    commit(checkout, a="1")
    (checkout / "a").touch()  # `git status` would refresh the index for this

    def content() -> dict[Path, bytes]:
        files = (path for path in checkout.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = content()
    bring_up_to_date(origin, checkout)
    bring_up_to_date(origin, checkout)
    assert content() == before


def test_newer_commits_are_merged_once(checkout: Path, origin: Path) -> None:
    commit(checkout, a="1")
    bring_up_to_date(origin, checkout)
    newer = commit(checkout, a="2")
    assert "origin's main now has" in bring_up_to_date(origin, checkout)[0]
    assert main_of(origin) == newer
    assert bring_up_to_date(origin, checkout) == []


def test_commits_of_flows_and_of_the_checkout_are_merged(
    checkout: Path, origin: Path, tmp_path: Path
) -> None:
    commit(checkout, params="1", dvc__lock="of the start")
    bring_up_to_date(origin, checkout)
    trained = flow_commits(origin, tmp_path, params="0", dvc__lock="of a flow")
    mine = commit(checkout, params="2", dvc__lock="of the checkout")
    assert "merged as" in bring_up_to_date(origin, checkout)[0]
    git = Git(origin)
    assert git("show", "main:params") == "2"
    assert git("show", "main:dvc.lock") == "of a flow"
    assert git("rev-parse", "main^1", "main^2").split() == [trained, mine]
    assert bring_up_to_date(origin, checkout) == []


def test_files_of_one_training_come_from_one_side(
    checkout: Path, origin: Path, tmp_path: Path
) -> None:
    made = (
        "dvc.lock",
        "model/wine.mlem",
        "model/wine.golden.json",
        "model/wine.runtime.json",
        "model/wine.sig",
        "reports/metrics.json",
    )

    def write(folder: Path, who: str) -> None:
        for name in made:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(who)

    write(checkout, "the start")
    commit(checkout)
    bring_up_to_date(origin, checkout)
    clone = tmp_path / "clone"
    Git(tmp_path)("clone", "--quiet", str(origin), str(clone))
    write(clone, "a flow")
    commit(clone)
    Git(clone)("push", "--quiet", "origin", "HEAD:main")
    write(checkout, "the checkout")
    commit(checkout)
    bring_up_to_date(origin, checkout)
    assert {Git(origin)("show", f"main:{name}") for name in made} == {"a flow"}


def test_failed_merge_leaves_origin_unchanged(checkout: Path, origin: Path, tmp_path: Path) -> None:
    commit(checkout, a="1", b="1")
    bring_up_to_date(origin, checkout)
    trained = flow_commits(origin, tmp_path, a="2")
    Git(checkout)("rm", "--quiet", "a")
    commit(checkout)
    with pytest.raises(TerminalError, match="do not merge") as refused:
        bring_up_to_date(origin, checkout)
    assert "by hand" in refused.value.next_step
    assert main_of(origin) == trained


def test_shallow_checkout_is_enough(checkout: Path, origin: Path, tmp_path: Path) -> None:
    commit(checkout, a="1")
    commit(checkout, a="2")
    shallow = tmp_path / "shallow"
    Git(tmp_path)("clone", "--quiet", "--depth=1", f"file://{checkout}", str(shallow))
    bring_up_to_date(origin, shallow)
    assert main_of(origin) == Git(shallow)("rev-parse", "HEAD")


def test_variables_of_a_calling_git_hook_are_ignored(
    checkout: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(checkout, a="1")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    bring_up_to_date(origin, checkout)
    assert main_of(origin) == made


def test_merge_into_origin_triggers_no_deploy(checkout: Path, origin: Path, tmp_path: Path) -> None:
    commit(checkout, a="1", b="1")
    bring_up_to_date(origin, checkout)
    pushes = tmp_path / "pushes"
    deploy_on_push(origin, tmp_path, home=tmp_path, marker="A=b", log=pushes)
    hook = origin / "hooks" / "post-receive"
    assert "deployments.local.post_receive" in hook.read_text()
    hook.write_text(f"#!/bin/sh\ncat >> '{pushes}'\n")  # a real push runs the hook
    flow_commits(origin, tmp_path, b="2")
    assert len(pushes.read_text().splitlines()) == 1
    commit(checkout, a="2")
    assert "merged as" in bring_up_to_date(origin, checkout)[0]
    assert len(pushes.read_text().splitlines()) == 1
    ignore_pushes(origin)
    ignore_pushes(origin)
    assert not hook.exists()


def test_push_runs_the_hook_whatever_hooks_the_pusher_has_for_all_repositories(
    checkout: Path, origin: Path, tmp_path: Path
) -> None:
    commit(checkout, a="1")
    bring_up_to_date(origin, checkout)
    pushes = tmp_path / "pushes"
    deploy_on_push(origin, tmp_path, home=tmp_path, marker="A=b", log=pushes)
    (origin / "hooks" / "post-receive").write_text(f"#!/bin/sh\ncat >> '{pushes}'\n")
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[core]\n hooksPath = {tmp_path / 'hooks-of-the-user'}\n")
    commit(checkout, a="2")
    subprocess.run(
        ["git", "push", "--quiet", str(origin), "HEAD:main"],
        cwd=checkout,
        env={**os.environ, "GIT_CONFIG_GLOBAL": str(settings)},
        check=True,
    )
    assert len(pushes.read_text().splitlines()) == 1
