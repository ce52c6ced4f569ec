"""Workspaces whatever the locale and the Git configuration of the worker are."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tasks.bucket import dvc
from tasks.core import commands
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.core.settings import CHECKOUT
from tasks.repository import git
from tasks.repository.folders import remove, share_workspaces
from tasks.repository.git import NOTES, RUN_REFS, Git
from tasks.repository.git_variables import git_variables
from tasks.repository.parameters import read_parameters
from tasks.repository.versions import register_version
from tasks.repository.workspace import check_out, open_workspace
from tasks.training.candidate import commit_candidate
from tasks.training.publish import publish

_FAIL = "#!/bin/sh\necho a hook of the user >&2\nexit 1\n"
_HOOKS = ("pre-commit", "commit-msg", "prepare-commit-msg", "post-checkout", "pre-push")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    start, origin = tmp_path / "start", tmp_path / "origin.git"
    start.mkdir()
    git = Git(start)
    git("init", "--quiet", "--initial-branch=main")
    (start / "params.yaml").write_bytes(b"name: wine\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=Start")
    git("clone", "--quiet", "--bare", str(start), str(origin))
    return origin


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
        "a: &a [*a]\n",
    ],
    ids=["growing", "endless"],
)
def test_parameters_that_grow_by_aliases_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"name: wine\na0: &a0 x\n{text}".replace("a0: &a0 x\na: ", "a: "))
    with pytest.raises(ConfigurationError, match="at main has more than 100,000 values"):
        read_parameters(file, "main")


@pytest.mark.parametrize("name", ["w", "wine-", "-wine", "Wine", "w" * 41])
def test_names_that_tags_cannot_have_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"name: {name}\n")
    with pytest.raises(ConfigurationError, match="no valid model name"):
        read_parameters(file, "main")


def test_parameters_are_read_as_the_stages_read_them(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("name: wine\ndata: {target: on}\n")
    assert read_parameters(file, "main")["data"] == {"target": "on"}


async def test_missing_origin_is_terminal_where_git_speaks_german(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    argv = ["git", "clone", "nothing-here", "x"]
    by_hand = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "does not exist" in by_hand.stderr:
        pytest.skip("this host's Git has no German messages")
    with pytest.raises(TerminalError, match="does not exist"):
        await check_out.fn("main", tmp_path / "clone", str(tmp_path / "nothing-here"))


def test_checkout_of_a_person_keeps_line_ends() -> None:
    """DVC compares files by their bytes, and `core.autocrlf` would change them."""
    paths = ["params.yaml", "dvc.lock", "model/train.py", "data/source/small.csv"]
    attributes = Git(CHECKOUT)("check-attr", "text", "--", *paths)
    assert attributes.splitlines() == [f"{path}: text: unset" for path in paths]


async def test_user_configuration_of_git_does_not_change_a_candidate(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, hooks = tmp_path / "home", tmp_path / "hooks"
    for folder in (home, hooks, home / "template" / "hooks"):
        folder.mkdir(parents=True)
    for name in _HOOKS:
        for hook in (hooks / name, home / "template" / "hooks" / name):
            hook.write_text(_FAIL)
            hook.chmod(0o755)
    (home / "ignore").write_text("dvc.lock\n")
    (home / "attributes").write_text("* text eol=crlf\n")
    (home / ".gitconfig").write_text(
        "[commit]\n gpgSign = true\n[tag]\n gpgSign = true\n[gpg]\n program = false\n"
        f"[core]\n hooksPath = {hooks}\n autocrlf = true\n safecrlf = true\n"
        f" excludesFile = {home}/ignore\n attributesFile = {home}/attributes\n"
        f"[init]\n templateDir = {home}/template\n[clone]\n defaultRemoteName = upstream\n"
        "[log]\n showSignature = true\n"
        f'[url "{home}/elsewhere"]\n insteadOf = {origin}\n pushInsteadOf = {origin}\n'
        "[push]\n followTags = true\n gpgSign = true\n[core]\n fsmonitor = false-program\n"
        '[filter "fails"]\n smudge = false\n clean = false\n required = true\n'
        "[merge]\n ff = only\n[fetch]\n prune = true\n[safe]\n bareRepository = explicit\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # as in a hook
        monkeypatch.setenv(variable, str(home / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'commit.gpgsign=true'")
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    assert (workspace.path / "params.yaml").read_bytes() == b"name: wine\n"
    (workspace.path / "dvc.lock").write_bytes(b"one\r\ntwo\n")
    commit = await commit_candidate.fn(workspace, "Train wine")
    again = await check_out.fn(commit, tmp_path / "again", str(origin))
    assert (again.path / "dvc.lock").read_bytes() == b"one\r\ntwo\n"
    assert await publish.fn(again, [], "main") == commit
    assert (await register_version.fn(again)).name == "v0.0.1"
    monkeypatch.setenv("HOME", str(tmp_path))
    on_origin = Git(origin)
    assert on_origin("rev-parse", "main", "wine@v0.0.1^{commit}").split() == [commit, commit]


def test_ways_to_origin_are_taken_over_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text(
        "[credential]\n helper =\n helper = store --file /a\n"
        '[credential "https://example.org"]\n useHttpPath\n'
        "[http]\n proxy = http://proxy:3128\n[core]\n sshCommand = ssh -i key\n editor = vi\n"
        '[url "https://evil.example"]\n insteadOf = https://example.org\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    argv = ["git", "config", "--list"]
    variables = os.environ | git_variables({"http.extraHeader": "a secret"})
    seen = subprocess.run(
        argv, cwd="/", env=variables, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert seen == [
        "credential.helper=",
        "credential.helper=store --file /a",
        "credential.https://example.org.usehttppath=true",
        "http.proxy=http://proxy:3128",
        "core.sshcommand=ssh -i key",
        "http.extraheader=a secret",
    ]


def test_broken_configuration_of_git_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[core\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with pytest.raises(ConfigurationError, match=r"bad config line 1 in file .*\.gitconfig"):
        git_variables()


async def test_dvc_keeps_what_it_unpickles_beside_the_workspace(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    folder = Path(dvc.variables(workspace)["DVC_SITE_CACHE_DIR"])
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (workspace.path / ".dvc").mkdir()
    argv, variables = dvc.add("params.yaml"), dvc.variables(workspace)
    await commands.run(argv, timeout=60, cwd=workspace.path, env=variables)
    assert (folder / "repo").is_dir()
    await check_out.fn("main", tmp_path / "clone", str(origin))
    assert not (folder / "repo").exists()


def test_folders_that_a_stage_has_locked_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone" / "locked" / "deep").mkdir(parents=True)
    (tmp_path / "clone" / "locked" / "deep" / "file").touch()
    (tmp_path / "kept").mkdir(mode=0o500)
    (tmp_path / "clone" / "link").symlink_to(tmp_path / "kept")
    monkeypatch.chdir(tmp_path)  # a path from here, as other users cannot reach the folder
    user = os.geteuid()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, user or 65534, -1)
    for name, mode in (("locked/deep", 0o000), ("locked", 0o500)):
        (tmp_path / "clone" / name).chmod(mode)
    os.seteuid(user or 65534)  # root may write everywhere
    try:
        remove(Path("clone"))
        assert not Path("clone").exists()
        assert stat.S_IMODE(Path("kept").stat().st_mode) == 0o500
    finally:
        os.seteuid(user)


async def test_clone_that_was_ended_midway_is_made_anew(origin: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / ".git").mkdir(parents=True)  # killed while it was cloned
    await check_out.fn("main", clone, str(origin))
    (clone / ".git" / "index.lock").touch()  # or while it was checked out
    await check_out.fn("main", clone, str(origin))
    assert (clone / "params.yaml").read_text() == "name: wine\n"


async def test_clone_for_a_release_leaves_out_what_no_release_reads(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    left_out = {"tasks/core/errors.py", "tests/code/tasks/test_a.py", "docs/targets/a.md"}
    read = {"serving/app.py", "model/custom/a.py", "tests/model/test_a.py", "tests/code/data.dvc"}
    start = Git(tmp_path / "start")
    for path in left_out | read:
        (tmp_path / "start" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "start" / path).write_text("one\n")
    start("add", "--all")
    start("commit", "--quiet", "--message=Grow")
    refs = (f"{RUN_REFS}/wine-1", NOTES, "refs/tags/left")
    start("push", "--quiet", str(origin), "main", *(f"main:{ref}" for ref in refs))
    clone = await check_out.fn("main", tmp_path / "clone", str(origin), whole=False)
    there = {path for path in left_out | read if (clone.path / path).is_file()}
    assert there == read
    # The clone has every commit that origin names, and takes nothing for removed.
    for ref in (f"{RUN_REFS}/wine-1", NOTES, "refs/tags/left"):
        assert (await clone.git(git.resolve(ref))).stdout.strip() == clone.commit
    assert not (await clone.git(git.list_all_changes())).stdout
    again = await check_out.fn("main", clone.path, str(origin))  # for another flow of the run
    assert all((again.path / path).is_file() for path in left_out | read)


async def test_flows_of_a_run_share_a_clone_until_something_is_changed_in_it(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.repository.workspace.check_out", check_out.fn)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(origin))
    is_shared = []
    changes = (("", ""), ("", ""), ("new", "x"), ("params.yaml", "name: vine\n"), ("", ""))
    async with share_workspaces():
        for name, content in changes:
            async with open_workspace("main") as workspace:
                assert (workspace.path / "params.yaml").read_text() == "name: wine\n"
                assert not (workspace.path / "new").exists()
                async with open_workspace("main") as other:
                    assert other.path != workspace.path
                mark = workspace.path / ".git" / "mark"
                is_shared.append(mark.exists())
                mark.touch()
                if name:
                    (workspace.path / name).write_text(content)
    assert is_shared == [False, True, True, False, False]
    assert not workspace.path.exists()
