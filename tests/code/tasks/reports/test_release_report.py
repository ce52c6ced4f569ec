"""What a release note says of where the model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.package.package import Package
from tasks.platforms.catalogue import load_environment, make_target
from tasks.reports.release_report import Release
from tasks.repository.workspace import Workspace


@pytest.mark.parametrize(("name", "has_page"), [("flyio", True), ("sagemaker", False)])
async def test_a_page_is_linked_to_where_there_is_one(
    name: str, has_page: bool, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path, "a" * 40, "main")
    package = Package(workspace, "wine", "a" * 40, "", "", 0, "3.12.1", {}, {}, "")
    release = Release(package, name, make_target(load_environment(name)))
    note, url = await release.note("wine"), release.url
    assert (f"| page | [{url}]({url}), its API: [{url}/docs]({url}/docs) |" in note) is has_page
    assert (f"| url | {url} |" in note) is not has_page
    assert (f"{url}/docs" in note) is has_page
