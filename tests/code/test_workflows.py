"""Which tests a pull request runs: those of the model always, all only where code has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.code.acting import Act
from tests.commits import commit_all


@pytest.fixture(scope="module")
def origin(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository under test, to commit pull requests in."""
    folder = tmp_path_factory.mktemp("origin")
    subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True)
    return folder


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("params.yaml", "false"),
        ("deployments/environments/staging.toml", "false"),
        ("model/custom/rooms.py", "false"),
        ("tests/model/test_own.py", "false"),
        ("serving/app.py", "true"),
        ("deployments/apply.py", "true"),
        ("model/uv.lock", "true"),
        (".github/workflows/test.yaml", "true"),
    ],
)
def test_whole_suite_runs_where_the_templates_own_code_changes(
    origin: Path, tmp_path: Path, path: str, template: str
) -> None:
    subprocess.run(["git", "checkout", "--quiet", "-B", "change", "main"], cwd=origin, check=True)
    (origin / path).parent.mkdir(parents=True, exist_ok=True)
    with (origin / path).open("a") as file:
        file.write("# changed\n")
    commit = commit_all(origin, f"Change {path}")
    subprocess.run(["git", "checkout", "--quiet", "main"], cwd=origin, check=True)
    payload = {"number": 7, "pull_request": {"number": 7, "base": {"ref": "main"}}}
    act = Act(tmp_path, origin)
    job = act.run("pull_request", "test.yaml", commit=commit, job="changes", payload=payload)
    assert job.code == 0, job.output
    assert job.set_output("template") == template, job.output
