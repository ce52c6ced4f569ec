"""The answers of a commit are found in caches, in the bucket, or in the Git of former versions."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path

import pytest

from tasks.bucket.objects import StoredObject
from tasks.repository.workspace import Workspace
from tasks.training import predictions
from tasks.training.predictions import PREDICTIONS, read_predictions
from tests.commits import commit_all

TEXT = "actual,predicted\n1,1\n2,1\n"
STORED = StoredObject(md5(TEXT.encode()).hexdigest(), None, str(PREDICTIONS), "")
LOCK = "stages: {evaluate: {outs: [{path: data/predictions.csv, md5: %s}]}}"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))


def make_workspace(folder: Path, **files: str) -> Workspace:
    """Commit files."""
    checkout = folder / "checkout"
    for name, text in files.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(checkout, commit_all(checkout, "Model"), "HEAD")


def write_object(cache: Path, text: str) -> None:
    file = cache / STORED.key
    file.parent.mkdir(parents=True)
    file.write_text(text)


@pytest.mark.parametrize("cache", ["checkout/.dvc/cache", "home/dvc-cache"])
@pytest.mark.parametrize("own", [True, False])
async def test_predictions_are_read_from_a_cache(tmp_path: Path, cache: str, own: bool) -> None:
    workspace = make_workspace(tmp_path, **{"dvc.lock": LOCK % STORED.md5})
    write_object(tmp_path / cache, TEXT)
    assert await read_predictions(workspace, "" if own else workspace.commit) == TEXT


async def test_changed_object_of_a_cache_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, **{"dvc.lock": LOCK % STORED.md5})
    write_object(tmp_path / "home" / "dvc-cache", TEXT.replace("2,1", "2,2"))
    assert await read_predictions(workspace, workspace.commit, is_offline=True) == ""

    async def load(access: str) -> str:
        return access

    async def read(bucket: str, stored: StoredObject) -> bytes:
        return TEXT.encode() if (bucket, stored) == ("read", STORED) else b""

    monkeypatch.setattr(predictions, "load_bucket", load)
    monkeypatch.setattr(predictions, "read_object", read)
    assert await read_predictions(workspace, workspace.commit) == TEXT


async def test_predictions_of_a_former_version_are_in_git(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, **{"reports/predictions.csv": TEXT})
    assert await read_predictions(workspace, workspace.commit) == TEXT
    assert await read_predictions(workspace) == TEXT


@pytest.mark.parametrize("name", ["../../etc/passwd", "x", "[]"])
async def test_invalid_lock_names_no_predictions(tmp_path: Path, name: str) -> None:
    workspace = make_workspace(tmp_path, **{"dvc.lock": LOCK % name})
    assert await read_predictions(workspace, workspace.commit) == ""
