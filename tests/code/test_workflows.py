"""Which tests a pull request runs, and that none of its code can read the keys of a workflow."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks.core.settings import CHECKOUT
from tests.code.acting import WORKFLOWS, Act, needs_workflows
from tests.commits import commit_all

pytestmark = needs_workflows


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


_PULL = CHECKOUT / ".github" / "scripts" / "pull.sh"  # of the base, which is called by it
# Stands in for DVC and uv: says which keys it sees, and how DVC is configured.
_SPY = """#!/bin/sh
echo "$(basename "$0") $1: key ${AWS_ACCESS_KEY_ID:-none}, $(cat .dvc/config* | tr '\\n' ' ')"
[ "$1" != repro ] || echo "Running stage 'train'"
"""


def test_keys_are_given_to_one_step_before_any_code_of_the_pull_request() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "test.yaml").read_text())["jobs"]
    with_keys = 0
    for job in jobs.values():
        run: list[str] = []
        for step in job["steps"]:
            if "secrets." in str(step.get("env", {})):
                with_keys += 1
                assert step["run"].startswith('sh "$RUNNER_TEMP/base/'), "code of the base"
                assert run == ['mv .base "$RUNNER_TEMP/base"'], "nothing else has run before"
            run += [step["run"]] if "run" in step else []
        assert "secrets." not in str({**job, "steps": []}), "keys of a job are keys of each step"
    assert with_keys == 2


def test_pull_uses_code_and_configuration_of_the_base_alone(tmp_path: Path) -> None:
    base, theirs = tmp_path / "base", tmp_path / "pull-request"
    for folder, config in ((base, "base"), (theirs, "credential_process")):
        (folder / ".dvc").mkdir(parents=True)
        (folder / ".dvc" / "config").write_text(f"{config}\n")
    (theirs / ".dvc" / "config.local").write_text("local\n")
    spies = [base / ".venv" / "bin" / "dvc", theirs / ".venv" / "bin" / "dvc", tmp_path / "uv"]
    for spy in spies:
        spy.parent.mkdir(parents=True, exist_ok=True)
        spy.write_text(_SPY)
        spy.chmod(0o755)
    (base / "deployments" / "ci").mkdir(parents=True)
    shutil.copy(CHECKOUT / "deployments" / "ci" / "pull.sh", base / "deployments" / "ci")
    keys = {"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S", "AWS_ENDPOINT_URL": ""}
    done = subprocess.run(
        ["sh", str(_PULL), str(base), "save", "evaluate"],
        cwd=theirs, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **keys},
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "uv sync: key none, credential_process local ",
        *["dvc pull: key K, base "] * 3,  # answers of the branch, of the base, and the rest
    ]
    assert (theirs / ".dvc" / "config").read_text() == "credential_process\n"
    assert (theirs / ".dvc" / "config.local").read_text() == "local\n"


@pytest.mark.parametrize(("passed", "code"), [("true", 0), ("false", 1), ("", 1), ("unknown", 0)])
def test_gate_fails_with_its_verdict_unless_the_model_passed(passed: str, code: int) -> None:
    workflow = yaml.safe_load((WORKFLOWS / "test.yaml").read_text())
    (step,) = workflow["jobs"]["gate"]["steps"]
    verdict = "NOT passed: f1_macro 0.3 misses the minimum 0.9"
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], check=False, text=True, stdout=subprocess.PIPE,
        env={"PASSED": passed, "VERDICT": verdict},
    )  # fmt: skip
    assert done.returncode == code
    assert (f"::error title=gate::{verdict}\n" in done.stdout) == bool(code)
    assert (f"::notice title=gate::{verdict}\n" in done.stdout) == (passed == "unknown")
