"""What nothing names and nobody uses goes; what is live, named or in use stays."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.bucket import private_cache
from tasks.bucket.cache import prune_dvc_cache
from tasks.core.caches import prune_caches
from tasks.core.settings import Settings
from tasks.repository import git as git_commands
from tasks.repository.candidate_refs import prune_candidates
from tasks.repository.git import Git
from tasks.repository.workspace import check_out
from tasks.training.pruning import prune

_LONG_AGO = time.time() - 100 * 86_400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SLIPWAY_HOME", str(folder))
    return folder


def _make(path: Path, content: str = "", *, old: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    if old:
        for entry in (path, path.parent):
            os.utime(entry, (_LONG_AGO, _LONG_AGO))
    return path


def test_environments_and_layers_that_nobody_has_used_are_removed(home: Path) -> None:
    environments, layers = home / "environments", home / "layers"
    _make(environments / "runtime-0live" / "python")
    _make(environments / "runtime-1left" / "python")
    _make(environments / "runtime-1left.lock")
    _make(environments / "runtime-2killed.partial" / "python")
    _make(environments / "model-3held" / "python")
    _make(environments / "model-4new" / "python", old=False)
    for suffix in ("tar.gz", "tar.json", "distributions.json"):
        _make(layers / f"packages-5left.{suffix}")
        _make(layers / f"packages-6used.{suffix}", old=suffix != "tar.gz")
    _make(
        home / "supervisor" / "conf.d" / "model-local.conf",
        f"command={environments}/runtime-0live/bin/python -m serving",
    )
    with FileLock(environments / "model-3held.lock"):
        removed = prune_caches(Settings())
    assert sorted(removed) == ["packages-5left", "runtime-1left", "runtime-2killed"]
    folders = {path.name for path in environments.iterdir() if path.is_dir()}
    assert folders == {"runtime-0live", "model-3held", "model-4new"}
    assert len(list(layers.glob("packages-6used.*"))) == 3
    assert not list(layers.glob("packages-5left*"))
    _make(environments / "runtime-7left" / "python")
    assert prune_caches(Settings()) == [], "once a day"


def test_nothing_is_removed_if_no_age_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(home / "environments" / "runtime-0left" / "python")
    monkeypatch.setenv("SLIPWAY_CACHE_DAYS", "0")
    assert prune_caches(Settings()) == []


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A bare repository with candidates: old and new, merged, with a version, and neither."""
    start, origin = tmp_path / "start", tmp_path / "origin.git"
    start.mkdir()
    (start / "params.yaml").write_text("name: wine\n")
    git = Git(start)
    git("init", "--quiet", "--initial-branch=main")

    def commit(name: str, days: float, *refs: str) -> None:
        (start / "dvc.lock").write_text(f"stages:\n  a:\n    outs:\n    - md5: {name * 32}\n")
        git("add", "--all")
        date = f"{time.time() - days * 86_400:.0f} +0000"
        with pytest.MonkeyPatch.context() as patch:
            for variable in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
                patch.setitem(git_commands.VARIABLES, variable, date)
            git("commit", "--quiet", f"--message={name}")
        for ref in refs:
            git("update-ref", ref, "HEAD")

    commit("1", 200, "refs/heads/candidate/merged")
    git("tag", "wine@v0.0.1")
    git("checkout", "--quiet", "-b", "candidate/tagged")
    commit("2", 150)
    git("tag", "wine@v0.0.2")
    git("checkout", "--quiet", "-b", "candidate/left", "main")
    commit("3", 120, "refs/slipway/runs/killed")
    git("checkout", "--quiet", "-b", "candidate/new", "main")
    commit("4", 10, "refs/slipway/runs/running")
    git("checkout", "--quiet", "main")
    commit("5", 5)
    git("clone", "--quiet", "--mirror", str(start), str(origin))
    return origin


def _refs(origin: Path, *places: str) -> list[str]:
    return Git(origin)("for-each-ref", "--format=%(refname)", *places).split()


async def test_old_candidates_that_nothing_names_are_removed(
    origin: Path, home: Path, tmp_path: Path
) -> None:
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    removed = await prune_candidates(workspace)
    assert sorted(removed) == [
        "refs/heads/candidate/left", "refs/heads/candidate/merged", "refs/slipway/runs/killed",
    ]  # fmt: skip
    assert _refs(origin, "refs/heads", "refs/slipway") == [
        "refs/heads/candidate/new", "refs/heads/candidate/tagged", "refs/heads/main",
        "refs/slipway/runs/running",
    ]  # fmt: skip


async def test_candidate_that_has_moved_meanwhile_stays(
    origin: Path, home: Path, tmp_path: Path
) -> None:
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    Git(origin)("update-ref", "refs/heads/candidate/left", "main")
    await prune(workspace)
    left = _refs(origin, "refs/heads/candidate")
    assert "refs/heads/candidate/left" in left
    assert "refs/heads/candidate/merged" not in left


async def test_failure_to_prune_is_none_of_the_push(
    origin: Path, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    (workspace.path / ".git" / "HEAD").write_text("broken")
    await prune(workspace)
    assert "were not removed" in caplog.text


async def test_objects_that_no_commit_names_are_removed(
    origin: Path, home: Path, tmp_path: Path
) -> None:
    cache = home / "dvc-cache" / "files" / "md5"
    named, left = _make(cache / "33" / ("3" * 30)), _make(cache / "66" / ("6" * 30))
    new = _make(cache / "77" / ("7" * 30), old=False)
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    assert await prune_dvc_cache(workspace) == 1
    assert [path.exists() for path in (named, left, new)] == [True, False, True]


async def test_old_object_that_a_stage_has_made_again_stays(
    origin: Path, home: Path, tmp_path: Path
) -> None:
    # Its run has yet to commit and push it.
    content = "made by a stage of a candidate that came to nothing, and now again"
    key = Path("files", "md5", *_split_md5(content))
    made = _make(home / "dvc-cache" / key, content)
    workspace = await check_out.fn("main", tmp_path / "clone", str(origin))
    _make(workspace.path / ".dvc" / "cache" / key, content, old=False)
    private_cache.take_over(workspace)
    assert await prune_dvc_cache(workspace) == 0
    assert made.exists()


def _split_md5(content: str) -> tuple[str, str]:
    md5 = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
    return md5[:2], md5[2:]
