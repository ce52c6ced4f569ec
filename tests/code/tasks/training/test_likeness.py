"""Likeness of two commits: whether they have the same model, and split rows alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.repository.workspace import Workspace
from tasks.training.likeness import is_same_model, keeps_sides
from tests.commits import commit_all


def _commit(folder: Path, files: dict[str, str]) -> Workspace:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Workspace(folder, commit_all(folder, "Change"), "main")


_MODEL = {
    "model/wine.mlem": "a",
    "model/wine.runtime.json": "b",
    "model/wine.golden.json": "c",
    "model/custom/own.py": "d",
}


@pytest.mark.parametrize("changed", [None, *_MODEL])
async def test_model_is_the_same_with_its_packages_and_code(
    tmp_path: Path, changed: str | None
) -> None:
    old = _commit(tmp_path, {"params.yaml": "name: wine", "serving/app.py": "1", **_MODEL})
    new = _commit(tmp_path, {"serving/app.py": "other", **({changed: "other"} if changed else {})})
    assert await is_same_model(new, old.commit) is (changed is None)


@pytest.mark.parametrize(
    ("before", "after", "code", "keeps"),
    [
        ("{test_size: 0.2}", "{test_size: 0.2}", "1", False),  # drawn anew where data grow
        ("{split: {time: sold}}", "{split: {time: sold}}", "1", False),
        ("{}", "{}", "1", True),
        ("{split: {file: test.csv}}", "{split: {file: test.csv}}", "1", True),
        ("{test_size: 0.2}", "{test_size: 0.1}", "1", True),
        ("{test_size: 0.2}", "{split: {group: customer}}", "1", True),
        ("{test_size: 0.2}", "{test_size: 0.2}", "2", True),
    ],
)
async def test_who_changes_the_split_gets_no_easier_rows(
    tmp_path: Path, before: str, after: str, code: str, keeps: bool
) -> None:
    commits: list[Workspace] = []

    def write(data: str, code: str) -> Workspace:
        parameters = f"name: wine\nseed: 1\ndata: {data}\n"
        files = {"params.yaml": parameters, "model/splits.py": code, f"{len(commits)}.txt": ""}
        commits.append(_commit(tmp_path, files))
        return commits[-1]

    old = write(before, "1")
    assert await keeps_sides(write(after, code), old.commit) is keeps


async def test_who_has_another_program_split_gets_no_easier_rows(tmp_path: Path) -> None:
    files = {"params.yaml": "name: wine\nseed: 1\ndata: {test_size: 0.2}\n", "dvc.yaml": "a"}
    old = _commit(tmp_path, files)
    assert not await keeps_sides(_commit(tmp_path, {**files, "new": ""}), old.commit)
    assert await keeps_sides(_commit(tmp_path, {**files, "dvc.yaml": "b"}), old.commit)
