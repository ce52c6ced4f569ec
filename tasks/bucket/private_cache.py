"""A DVC cache of the workspace's own, for stages: they read this host's cache and cannot change it.

Objects of the host's cache are lent as links to files that the box cannot change. What the stages
make is taken over afterwards, from outside; each object only if its name is the hash of its bytes.
DVC also remembers which outputs a stage made from which inputs. Code of one commit could invent it
for another, so it is kept for each commit by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from tasks.bucket.objects import OBJECT_NAME, StoredObject
from tasks.core.caches import days_ago, mark_used
from tasks.core.fast_yaml import read_yaml
from tasks.core.fingerprint import file_digest
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace

_OBJECTS, _RUNS = Path("files", "md5"), Path("runs")
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError)
_LARGEST_RUN_BYTES = 1 << 20  # of what DVC remembers of one run: a few hundred bytes


def prepare(workspace: Workspace, objects: Sequence[StoredObject]) -> None:
    """Make the cache, and have DVC use it.

    Args:
        workspace: The workspace.
        objects: Objects that stages may read, as far as this host has them.
    """
    shared, private = Settings().dvc_cache, _private(workspace)
    shutil.rmtree(private, ignore_errors=True)
    for path in _regular_files(_runs(workspace)):
        target = private / _RUNS / path.relative_to(_runs(workspace))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    lent: dict[str, Path] = {}
    for stored in [*objects, *_outputs_of_runs(private / _RUNS)]:
        if stored.is_cached(shared):
            members = stored.members((shared / stored.key).read_bytes()) if stored.is_folder else []
            lent |= {item.key: shared / item.key for item in (stored, *members)}
    for key, source in lent.items():
        mark_used(source)
        link = private / key
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    configure(workspace, private)


def take_over(workspace: Workspace) -> None:
    """Move what the stages made into this host's cache, and remove their cache.

    Raises:
        TerminalError: The listing of a folder names files outside of it.
    """
    shared, private = Settings().dvc_cache, _private(workspace)
    for path in _regular_files(private / _OBJECTS):
        name = path.parent.name + path.name
        if OBJECT_NAME.fullmatch(name) and file_digest(path, "md5") == name.removesuffix(".dir"):
            _take(path, StoredObject(name, None, name, name), shared)
    for path in _regular_files(private / _RUNS):
        if path.stat().st_size <= _LARGEST_RUN_BYTES:
            target = _runs(workspace) / path.relative_to(private / _RUNS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.rmtree(private, ignore_errors=True)
    configure(workspace, shared)
    for folder in _runs(workspace).parent.glob("*"):
        if folder.stat().st_mtime < days_ago(Settings().cache_days):
            shutil.rmtree(folder, ignore_errors=True)


def configure(workspace: Workspace, cache: Path) -> None:
    """Have DVC use a cache in the workspace."""
    # Copies: a hard link to an object in the host's cache would be a way to change that.
    (workspace.path / ".dvc" / "config.local").write_text(
        f'[core]\n    autostage = false\n[cache]\n    dir = {cache}\n    type = "reflink,copy"\n'
    )


def _take(path: Path, stored: StoredObject, shared: Path) -> None:
    target = shared / stored.key
    if target.exists():
        mark_used(target)
        return
    if stored.is_folder:
        stored.members(path.read_bytes())  # raises for a listing with names outside the folder
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    if path.stat().st_nlink == 1:
        path.replace(partial)
    else:  # the workspace has a name for the same bytes, and may change them
        shutil.copyfile(path, partial)
    partial.chmod(0o444)
    partial.replace(target)


def _private(workspace: Workspace) -> Path:
    return workspace.path / ".dvc" / "cache"


def _runs(workspace: Workspace) -> Path:
    return Settings().home / "stage-runs" / workspace.commit


def _outputs_of_runs(folder: Path) -> Iterator[StoredObject]:
    for path in _regular_files(folder):
        # A stage may have written it, or have been killed while DVC did: DVC then runs it again.
        with contextlib.suppress(*_UNREADABLE):
            yield from [
                StoredObject(str(out["md5"]), None, str(out["path"]), str(out["path"]))
                for out in read_yaml(path.read_text())["outs"]
                if OBJECT_NAME.fullmatch(str(out.get("md5")))
            ]


def _regular_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are neither links nor devices."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
