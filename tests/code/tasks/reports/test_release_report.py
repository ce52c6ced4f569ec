"""What a release note says of where the model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.package.package import Package
from tasks.platforms.catalogue import load_environment, make_target
from tasks.reports.release_data import ReleaseData
from tasks.reports.release_report import Release
from tasks.repository.workspace import Workspace


def _release(name: str, folder: Path) -> Release:
    workspace = Workspace(folder, "a" * 40, "main")
    package = Package(workspace, "wine", "a" * 40, "", "", 0, "3.12.1", {}, {}, "")
    return Release(package, name, make_target(load_environment(name)), {"f1_macro": 0.97})


@pytest.mark.parametrize(("name", "has_page"), [("flyio", True), ("sagemaker", False)])
def test_note_links_the_page_where_there_is_one(name: str, has_page: bool, tmp_path: Path) -> None:
    release = _release(name, tmp_path)
    data = release.data()
    note, url = release.note(data), data.url
    assert (f"| page | [{url}]({url}), its API: [{url}/docs]({url}/docs) |" in note) is has_page
    assert (f"| url | {url} |" in note) is not has_page
    assert (f"{url}/docs" in note) is has_page


def test_data_survive_json(tmp_path: Path) -> None:
    release = _release("flyio", tmp_path)
    release.end("superseded", "wine@1234567, which is newer, is live")
    data = release.data()
    assert (data.outcome, data.model, data.commit) == ("superseded", "wine", "a" * 40)
    later = {**data.to_json(), "key_of_a_later_version": 1}
    assert ReleaseData.from_json(later) == data
