"""Attacks by a pipeline and DVC's metadata of a commit, as flows run them, without a stack."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from tasks.bucket import copy_files, dvc, private_cache, transfer
from tasks.bucket.boxed_dvc import run_dvc
from tasks.bucket.objects import StoredObject
from tasks.bucket.transfer import restore
from tasks.core.commands import CommandResult
from tasks.core.errors import TerminalError
from tasks.repository.escapes import refuse_escapes
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace, check_out
from tasks.sandbox.bubblewrap import find_bubblewrap
from tests.code.tasks.empty_bucket import EmptyBucket

pytestmark = pytest.mark.skipif(find_bubblewrap() is None, reason="no boxes on this host")

_OLD, _NEW = b"of another commit", b"made by the stage"
# One stage that tries all; what it could not do leaves no trace.
_STAGE = """
import hashlib, os, pathlib, sys
secret, cache = map(pathlib.Path, sys.argv[1:])
def attempt(action):
    try:
        action()
        print("DONE", action.__name__)
    except OSError:
        pass
def read_secret(): pathlib.Path("stolen").write_text(secret.read_text())
def plant_hook(): pathlib.Path(".git/hooks").mkdir(exist_ok=True)
def set_monitor(): pathlib.Path(".git/config").open("a").write("[core] fsmonitor = ./evil")
def write_cache(): cache.write_bytes(b"poisoned")
for action in (read_secret, plant_hook, set_monitor, write_cache):
    attempt(action)
print("SEES", sorted(os.listdir(secret.parents[1])))
# Into its own cache it can write what it likes.
lie = pathlib.Path(".dvc/cache/files/md5/00/" + "0" * 30)
lie.parent.mkdir(parents=True)
lie.write_bytes(b"not what the name says")
pathlib.Path("out").write_bytes(b"made by the stage")
"""


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _key(content: bytes) -> str:
    return StoredObject(_md5(content), None, "", "").key


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "key").write_text("a secret")
    cached = home / "dvc-cache" / _key(_OLD)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(_OLD)
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    return home


async def _check_out(home: Path, command: str = "true", **files: str) -> Workspace:
    """Check out a commit with a pipeline of one stage, and further files."""
    start = home.parent / "start"
    (start / ".dvc").mkdir(parents=True)
    git = Git(start)
    git("init", "--quiet", "--initial-branch=main")
    contents = {
        "params.yaml": "name: wine\n",
        ".dvc/config": "",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        "dvc.yaml": f"stages: {{make: {{cmd: '{command}', outs: [out]}}}}\n",
        **files,
    }
    for name, content in contents.items():
        (start / name).write_text(content)
    git("add", "--all")
    git("commit", "--quiet", "--message=Start")
    return await check_out.fn("main", home / "workspaces" / "one", str(start))


async def _run(home: Path, command: str, **files: str) -> tuple[Workspace, CommandResult]:
    """Run a pipeline of one stage at a commit of its own."""
    workspace = await _check_out(home, command, **files)
    return workspace, await run_dvc(workspace, dvc.repro("make", force=False), timeout=120)


async def test_stage_reaches_nothing_and_its_output_is_taken_over(home: Path) -> None:
    cached = home / "dvc-cache" / _key(_OLD)
    command = f"{sys.executable} stage.py {home / 'secrets' / 'key'} {cached}"
    workspace, result = await _run(home, command, **{"stage.py": _STAGE})
    assert result.code == 0, result.tail()
    assert "DONE" not in result.stdout + result.stderr
    assert "SEES ['dvc-cache', 'workspaces']" in result.stdout
    assert not (workspace.path / "stolen").exists()
    assert not (workspace.path / ".git" / "hooks").exists()
    assert cached.read_bytes() == _OLD
    assert (home / "dvc-cache" / _key(_NEW)).read_bytes() == _NEW
    objects = [path for path in (home / "dvc-cache").rglob("*") if path.is_file()]
    assert len(objects) == 2, "what has another name than its hash is left out"
    assert not (workspace.path / "out").samefile(home / "dvc-cache" / _key(_NEW))


async def test_output_that_is_a_link_to_a_secret_is_refused(home: Path) -> None:
    with pytest.raises(TerminalError, match="lead outside the repository") as refused:
        await _run(home, f"ln -s {home / 'secrets' / 'key'} out")
    assert "out" in refused.value.what
    assert "a secret" not in str(refused.value)


async def test_a_pipeline_cannot_read_files_of_the_host_by_itself(home: Path) -> None:
    secret = home / "secrets" / "values.yaml"
    secret.write_text("password: a-secret\n")
    stages = (
        f"vars: [{secret}]\nstages: {{make: {{cmd: 'echo ${{password}} > out', outs: [out]}}}}\n"
    )
    _, result = await _run(home, "", **{"dvc.yaml": stages})
    assert result.code != 0
    assert "a-secret" not in result.stdout + result.stderr


async def test_data_of_a_commit_do_not_become_settings_of_git(home: Path) -> None:
    # Git takes its configuration from where `commondir` leads, and hence programs to run. DVC keeps
    # out of `.git` unless a commit says otherwise.
    evil = b"../evil\n"
    cached = home / "dvc-cache" / _key(evil)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(evil)
    out = {"hash": "md5", "md5": _md5(evil), "size": len(evil)}
    records = {
        f"{name}.dvc": yaml.safe_dump({"outs": [{**out, "path": path}]})
        for name, path in (("evil", ".git/commondir"), ("good", "good"))
    }
    ignored = "!.git\n!/.git\n!.git/\n!**\n"
    workspace = await _check_out(home, **records, **{".dvcignore": ignored})
    await restore.fn(workspace, sources=True)
    assert (workspace.path / "good").read_bytes() == evil
    assert not (workspace.path / ".git" / "commondir").exists()


async def test_data_are_placed_in_the_folder_that_their_record_names(home: Path) -> None:
    out = {"hash": "md5", "md5": _md5(_OLD), "size": len(_OLD), "path": "out"}
    stages = {
        "plain": {"cmd": "true", "wdir": "plain", "outs": ["out"]},
        "each": {"foreach": ["a"], "do": {"cmd": "true", "wdir": "${item}", "outs": ["out"]}},
    }
    results = {name: {"cmd": "true", "outs": [out]} for name in ("plain", "each@a")}
    workspace = await _check_out(
        home,
        **{
            "data.dvc": yaml.safe_dump({"wdir": "record", "outs": [out]}),
            "dvc.yaml": yaml.safe_dump({"stages": stages}),
            "dvc.lock": yaml.safe_dump({"schema": "2.0", "stages": results}),
        },
    )
    await restore.fn(workspace, sources=False)
    placed = {str(path.relative_to(workspace.path)) for path in workspace.path.rglob("out")}
    assert placed == {"plain/out", "record/out"}


async def test_programs_and_empty_folders_are_placed_as_dvc_would(home: Path) -> None:
    empty = b"[]"
    listing = home / "dvc-cache" / f"{_key(empty)}.dir"
    listing.parent.mkdir(parents=True)
    listing.write_bytes(empty)
    out = {"hash": "md5", "md5": _md5(_OLD), "size": len(_OLD)}
    records = {
        "tool.dvc": {**out, "path": "tool", "isexec": True},
        "data.dvc": {**out, "path": "data"},
        "none.dvc": {"hash": "md5", "md5": f"{_md5(empty)}.dir", "size": 0, "path": "none"},
    }
    workspace = await _check_out(
        home, **{name: yaml.safe_dump({"outs": [record]}) for name, record in records.items()}
    )
    await restore.fn(workspace, sources=True)
    assert os.access(workspace.path / "tool", os.X_OK)
    assert not (workspace.path / "data").stat().st_mode & 0o111
    assert [*(workspace.path / "none").iterdir()] == []


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"- 1", b"outs: 1", b"outs: [1]", b"outs: [{path: a}]"]
)
def test_what_a_stage_leaves_in_place_of_its_record_ends_no_run(home: Path, content: bytes) -> None:
    workspace = Workspace(home / "workspaces" / "one", "0" * 40, "main")
    (workspace.path / ".dvc").mkdir(parents=True)
    record = home / "stage-runs" / workspace.commit / "ab" / "abc"
    record.parent.mkdir(parents=True)
    record.write_bytes(content)
    private_cache.prepare(workspace, [])
    assert (workspace.path / ".dvc" / "cache" / "runs" / "ab" / "abc").read_bytes() == content


def test_copy_takes_the_place_of_what_a_stage_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("source", "other", "locked"):
        (tmp_path / name).write_text(name)
    (tmp_path / "locked").chmod(0o444)
    (tmp_path / "link").symlink_to("other")
    entries = [(str(tmp_path / "source"), name, False) for name in ("locked", "link")]
    (tmp_path / "list").write_text(json.dumps(entries))
    monkeypatch.setattr(sys, "argv", ["copy_files.py", str(tmp_path / "list")])
    monkeypatch.chdir(tmp_path)
    copy_files.main()
    assert [(tmp_path / name).read_text() for name in ("locked", "link")] == ["source"] * 2
    assert (tmp_path / "other").read_text() == "other"


async def test_no_program_of_a_commit_is_asked_for_the_keys_of_the_bucket(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = home.parent / "asked"
    profile = f"[profile evil]\ncredential_process = /usr/bin/touch {trace}\n"
    remote = "    url = s3://models/dvc\n    configpath = aws.ini\n    profile = evil\n"
    records = {
        "one.dvc": {"path": "one", "md5": "1" * 32, "size": 1},
        "other.dvc": {"path": "other", "md5": "2" * 32, "size": 1, "remote": "evil"},
        "--remote=evil.dvc": {"path": "third", "md5": "3" * 32, "size": 1},
    }
    workspace = await _check_out(
        home,
        **{name: yaml.safe_dump({"outs": [out]}) for name, out in records.items()},
        **{".dvc/config": "".join(f"['remote \"{name}\"']\n{remote}" for name in ("read", "evil"))},
        **{".dvc/aws.ini": profile},
    )
    bucket = EmptyBucket()
    monkeypatch.setattr(transfer, "load_bucket", bucket.load)
    await restore.fn(workspace, sources=True)
    assert len(bucket.requests) == 3, "it is asked by the worker, with keys of the worker"
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("link", "/etc/passwd"),
        ("deep/link", "../../other"),
        ("top", ".."),
        ("model", ".git/config"),
    ],
)
def test_links_that_lead_outside_are_refused(tmp_path: Path, name: str, target: str) -> None:
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    (folder / "deep").mkdir()
    (folder / "inside").symlink_to("deep")
    refuse_escapes(folder, "the commit")
    (folder / name).symlink_to(target)
    with pytest.raises(TerminalError, match=name):
        refuse_escapes(folder, "the commit")


def test_a_repository_within_the_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    with pytest.raises(TerminalError, match="another one within it"):
        refuse_escapes(tmp_path, "the commit")


async def test_stage_that_leaves_a_pipe_for_flows_to_read_is_refused(home: Path) -> None:
    with pytest.raises(TerminalError, match=r"or named pipes: params\.yaml"):
        await _run(home, "echo > out; rm params.yaml; mkfifo params.yaml")


@pytest.mark.parametrize(
    "listing",
    [
        b'[{"md5": "../../secret", "relpath": "a"}]',
        b'[{"md5": "0123456789abcdef0123456789abcdef", "relpath": "../../a"}]',
        b'[{"md5": "0123456789abcdef0123456789abcdef", "relpath": "/a"}]',
        b'{"no": "listing"}',
    ],
)
def test_listing_of_a_folder_that_names_something_else_is_refused(listing: bytes) -> None:
    with pytest.raises(TerminalError, match="DVC's record of data is invalid"):
        StoredObject("0" * 32 + ".dir", None, "data", "data").members(listing)
