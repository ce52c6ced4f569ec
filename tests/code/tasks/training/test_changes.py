"""What is known about changes of the pipeline without asking DVC."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.training.changes import (
    is_certainly_changed,
    is_known_unchanged,
    note_reproduced,
    note_unchanged,
)
from tests.code.model import support

_PIPELINE = """\
stages:
  fetch:
    cmd: mkdir -p out && cp params.yaml out/raw
    deps: [params.yaml, code, data]
    outs: [out]
  train: {cmd: cp out/raw estimator, deps: [out/raw], outs: [estimator]}
  evaluate: {cmd: cp estimator score, deps: [estimator, measure], outs: [score]}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A commit whose pipeline is up to date."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    start = tmp_path / "start"
    files = {
        "params.yaml": "name: wine\n", "code": "1\n", "measure": "1\n", "data/a.csv": "x\n",
        "dvc.yaml": _PIPELINE, ".dvc/config": "[core]\n    analytics = false\n",
    }  # fmt: skip
    for name, content in files.items():
        (start / name).parent.mkdir(parents=True, exist_ok=True)
        (start / name).write_text(content)
    git = Git(start)
    git("init", "--quiet", "--initial-branch=main")
    support.dvc("repro", "--quiet", cwd=start)
    git("add", "--all")
    git("commit", "--quiet", "--message=Start")
    return Workspace(start, git("rev-parse", "HEAD"), "main")


def test_change_of_code_or_parameters_needs_no_dvc(workspace: Workspace) -> None:
    def changed(path: str, content: str) -> list[str]:
        before = (workspace.path / path).read_text()
        (workspace.path / path).write_text(content)
        stages = ["fetch", "train", "evaluate"]
        changes = [name for name in stages if is_certainly_changed(workspace.path, name)]
        (workspace.path / path).write_text(before)
        return changes

    assert changed("params.yaml", "name: vine\n") == ["fetch", "train", "evaluate"]
    assert changed("code", "2\n") == ["fetch", "train", "evaluate"]
    assert changed("measure", "2\n") == ["evaluate"]
    assert changed("data/a.csv", "y\n") == [], "of a folder only DVC knows"
    assert changed("dvc.yaml", "") == [], "of a command only DVC knows"
    for key in ("wdir: data", "frozen: true"):
        (workspace.path / "dvc.yaml").write_text(f"{_PIPELINE}    {key}\n")
        assert changed("code", "2\n") == [], "paths may begin elsewhere, stages may not run"
    (workspace.path / "dvc.yaml").write_text(_PIPELINE)
    # A candidate of `train`: the next stages are those of the commit before.
    lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())
    lock["stages"]["train"]["outs"][0]["md5"] = "0" * 32
    assert changed("dvc.lock", yaml.safe_dump(lock)) == ["evaluate"]
    for strange in ("stages: {evaluate: null}", "stages: {evaluate: {deps: [1]}}", "- 1", "{"):
        assert "evaluate" not in changed("dvc.lock", strange), "DVC says what is wrong"
    endless = {"deps": [{"path": path, "md5": "0"} for path in ("/dev/zero", "/proc/kmsg", "../x")]}
    assert changed("dvc.lock", yaml.safe_dump({"stages": {"evaluate": endless}})) == [
        "fetch", "train"
    ]  # fmt: skip
    assert changed("dvc.lock", "") == ["fetch", "train", "evaluate"]


async def test_commit_is_compared_by_dvc_once(workspace: Workspace) -> None:
    assert not await is_known_unchanged(workspace, "train")
    parameters = workspace.path / "params.yaml"
    parameters.write_text("name: vine\n")
    await note_unchanged(workspace, "train")
    parameters.write_text("name: wine\n")
    assert not await is_known_unchanged(workspace, "train"), "an override is not the commit"
    await note_unchanged(workspace, "train")
    assert await is_known_unchanged(workspace, "train")
    assert not await is_known_unchanged(workspace, "evaluate")
    parameters.write_text("name: vine\n")  # as long, and perhaps within the same second
    assert not await is_known_unchanged(workspace, "train")
    Git(workspace.path)("commit", "--quiet", "--all", "--message=Other")
    newer = replace(workspace, commit=Git(workspace.path)("rev-parse", "HEAD"))
    assert not await is_known_unchanged(newer, "train")
    note_reproduced(newer.commit, "train")
    assert await is_known_unchanged(newer, "train")
    lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())
    for path in ("https://example.org/a.csv", "/usr/share/dict/words"):
        lock["stages"]["train"]["deps"].append({"path": path, "md5": "0" * 32})
        (workspace.path / "dvc.lock").write_text(yaml.safe_dump(lock))
        Git(workspace.path)("commit", "--quiet", "--all", f"--message={path}")
        newer = replace(workspace, commit=Git(workspace.path)("rev-parse", "HEAD"))
        await note_unchanged(newer, "train")
        assert not await is_known_unchanged(newer, "train"), "it may be another one tomorrow"
        lock["stages"]["train"]["deps"].pop()
