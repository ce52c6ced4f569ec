"""A run restores the data that its stages read; DVC's record of the folder stays that of all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tasks.bucket import transfer
from tasks.bucket.objects import StoredObject
from tasks.bucket.transfer import restore
from tasks.core.errors import TerminalError
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace, check_out
from tasks.training import data_selection
from tasks.training.data_selection import select_data
from tests.code.model import support
from tests.code.tasks.empty_bucket import EmptyBucket

PARAMETERS = "name: wine\ndata: {source: data/source/a.csv, split: {file: data/source/tests}}\n"
PIPELINE = (
    "stages: {fetch: {cmd: 'wc -l data/source/a.csv > out', deps: [data/source], outs: [out]}}\n"
)
DRY = ("repro", "--dry", "--allow-missing", "fetch")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> EmptyBucket:
    bucket = EmptyBucket()
    monkeypatch.setattr(transfer, "load_bucket", bucket.load)
    return bucket


@pytest.fixture
async def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout on a host whose cache has all data, but those of the file `big.csv`."""
    start, cache = tmp_path / "start", tmp_path / "home" / "dvc-cache"
    files = {
        "params.yaml": PARAMETERS,
        "dvc.yaml": PIPELINE,
        ".dvc/config": f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        "data/source/README.md": "Your data\n",
        "data/source/small.csv": "in,Git\n",
        "data/source/a.csv": "x\n1\n",
        "data/source/big.csv": "x\n" + "9\n" * 1000,
        "data/source/tests/1.csv": "x\n2\n",
        "data/source/others/deep/1.csv": "x\n3\n",
    }
    for name, content in files.items():
        (start / name).parent.mkdir(parents=True, exist_ok=True)
        (start / name).write_text(content)
    git = Git(start)
    git("init", "--quiet", "--initial-branch=main")
    data = [f"data/source/{name}" for name in ("a.csv", "big.csv", "tests", "others")]
    support.dvc("add", "--quiet", *data, cwd=start)
    support.dvc("repro", "--quiet", cwd=start)
    git("add", "--all")
    git("commit", "--quiet", "--message=Start")
    md5 = yaml.safe_load((start / "data/source/big.csv.dvc").read_text())["outs"][0]["md5"]
    (cache / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    return await check_out.fn("main", tmp_path / "home" / "workspaces" / "one", str(start))


async def test_data_that_no_stage_reads_stay_where_they_are(
    workspace: Workspace, bucket: EmptyBucket, tmp_path: Path
) -> None:
    folder = workspace.path / "data" / "source"
    lock = (workspace.path / "dvc.lock").read_text()
    async with select_data(workspace):
        await restore.fn(workspace, sources=True)
        assert "Running stage" not in support.dvc(*DRY, cwd=workspace.path).stdout
    assert not bucket.requests, "they are not fetched"
    names = {path.name for path in folder.iterdir() if path.suffix != ".dvc"}
    assert names == {".gitignore", "README.md", "small.csv", "a.csv", "tests"}
    assert (workspace.path / "dvc.lock").read_text() == lock
    assert not Git(workspace.path)("status", "--porcelain")

    # New data: the record of the folder becomes what it is for a person who has all of them.
    (folder / "a.csv").write_text("x\n1\n2\n")
    support.dvc("add", "--quiet", "data/source/a.csv", cwd=workspace.path)
    async with select_data(workspace):
        support.dvc("repro", "--quiet", "fetch", cwd=workspace.path)
    start = tmp_path / "start"
    for name in ("data/source/a.csv", "data/source/a.csv.dvc"):
        shutil.copyfile(workspace.path / name, start / name)
    support.dvc("repro", "--quiet", cwd=start)
    assert (workspace.path / "dvc.lock").read_text() == (start / "dvc.lock").read_text()

    # Without its listing, that record cannot be made.
    record = yaml.safe_load((folder / "others.dvc").read_text())
    (
        tmp_path / "home" / "dvc-cache" / StoredObject(record["outs"][0]["md5"], 0, "", "").key
    ).unlink()
    with pytest.raises(TerminalError, match="data/source/others: neither in the bucket nor in"):
        async with select_data(workspace):
            pass


@pytest.mark.parametrize(
    ("parameters", "stage", "unused"),
    [
        (PARAMETERS, {"deps": ["data/source"]}, {"big.csv", "others"}),
        ("data: {source: sklearn.datasets.load_wine}", {}, {"a.csv", "big.csv", "tests", "others"}),
        ("data: {source: ./data/source/others}", {}, {"a.csv", "big.csv", "tests"}),
        ("data: {source: data/source/others/deep}", {}, {"a.csv", "big.csv", "tests"}),
        (PARAMETERS, {"deps": ["data/source/big.csv"]}, {"others"}),
        (PARAMETERS, {"foreach": [1], "do": {"deps": [{"data/source/big.csv": {}}]}}, {"others"}),
        (PARAMETERS, {"deps": ["${more}"]}, set()),
        (PARAMETERS, {"deps": ["data/source/${more}.csv"]}, set()),
        (PARAMETERS, {"wdir": "data", "deps": ["source/big.csv"]}, set()),
        ("data:", None, {"a.csv", "big.csv", "tests", "others"}),
    ],
)
def test_stages_read_what_their_dependencies_name(
    tmp_path: Path, parameters: str, stage: object, unused: set[str]
) -> None:
    (tmp_path / "params.yaml").write_text(parameters)
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"more": stage}}))
    paths = list(data_selection._list_used(tmp_path))
    names = ("a.csv", "big.csv", "tests", "others")
    assert unused == {
        name
        for name in names
        if not any(data_selection._overlap(f"data/source/{name}", path) for path in paths)
    }
