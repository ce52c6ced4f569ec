"""Attacks by a pipeline: `dvc.yaml` and its stages, run as flows run them, without a stack."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from tasks.bucket import dvc
from tasks.bucket.objects import StoredObject
from tasks.core.commands import CommandResult
from tasks.core.errors import TerminalError
from tasks.repository.escapes import refuse_escapes
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace, check_out
from tasks.sandbox.bubblewrap import find_bubblewrap
from tasks.training.stages import run_dvc

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


def _key(content: bytes) -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return StoredObject(md5, None, "", "").key


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


async def _run(home: Path, command: str, **files: str) -> tuple[Workspace, CommandResult]:
    """Run a pipeline of one stage at a commit of its own."""
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
    workspace = await check_out.fn("main", home / "workspaces" / "one", str(start))
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


@pytest.mark.parametrize(
    ("name", "target"), [("link", "/etc/passwd"), ("deep/link", "../../other"), ("top", "..")]
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
