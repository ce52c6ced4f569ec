"""GitLab's pipeline: its jobs, who of them has credentials, and what GitHub's workflows do, too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local.post_receive import changes_of, match_any, needs_deploy, paths_of
from tasks.core.settings import CHECKOUT
from tasks.repository.git import Git
from tests.code.acting import WORKFLOWS, needs_workflows
from tests.code.gitlab_running import (
    PIPELINE,
    SHIPPED,
    GitLabCI,
    has_shipped_file,
    install_gitlab_ci_local,
)
from tests.commits import commit_all
from tests.template import working_tree

pytestmark = pytest.mark.skipif(not PIPELINE.exists(), reason="there is no pipeline of GitLab's")


def jobs() -> dict[str, Any]:
    *_, content = yaml.load_all(PIPELINE.read_text(), Loader=yaml.BaseLoader)
    return dict(content)


@pytest.fixture(scope="module")
def gitlab(source: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> GitLabCI:
    program = install_gitlab_ci_local(run_folder / "gitlab-ci-local")
    checkout = tmp_path_factory.mktemp("gitlab") / "wine"
    subprocess.run(["git", "clone", "--quiet", str(source), str(checkout)], check=True)
    return GitLabCI(program, checkout)


def listed(output: str) -> dict[str, str]:
    """Return when each job runs, in the output of `--list-json`."""
    parsed = json.loads(output[output.index("[\n") :])
    return {job["name"]: job["when"] for job in parsed}


def test_pipeline_is_valid_and_merge_requests_of_forks_get_no_note(gitlab: GitLabCI) -> None:
    fork = {"CI_MERGE_REQUEST_PROJECT_ID": "1", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2"}
    code, output = gitlab.run("--list-json", source="merge_request_event", variables=fork)
    assert code == 0, output
    assert "json schema validated" in output  # by GitLab's own schema
    when = listed(output)
    assert {name for name in when if when[name] == "never"} == {"deploy", "note"}


@needs_workflows
def test_both_pipelines_deploy_and_test_for_the_same_paths() -> None:
    files = [*working_tree(CHECKOUT), *(f"model/wine.{end}" for end in ("mlem", "sig", "x"))]

    def matched(patterns: list[str]) -> set[str]:
        return {path for path in files if match_any([path], patterns)}

    on_github = paths_of((WORKFLOWS / "deploy.yaml").read_text())
    assert matched(changes_of(PIPELINE.read_text())) == matched(on_github)

    script = (WORKFLOWS / "test.yaml").read_text()
    own = re.search(r"own=\((.*?)\)", script, re.DOTALL)
    assert own
    names = own[1].replace("'", "").split()
    left_out = tuple(name[2:] for name in names if name.startswith(":!"))
    listed = tuple(name for name in names if not name.startswith(":!"))
    expected = {
        path
        for path in files
        if any(path == name or path.startswith(f"{name}/") for name in listed)
        and not path.startswith(tuple(f"{name}/" for name in left_out))
        and not path.startswith(".github/")
    }
    (rule,) = jobs()["make test"]["rules"]
    patterns = list(_without_braces(rule["changes"]))
    assert matched(patterns) - {".gitlab-ci.yml"} == expected


def test_local_push_deploys_by_the_pipeline_where_there_are_no_workflows(tmp_path: Path) -> None:
    path = tmp_path / "deployments" / "gitlab" / "pipeline.yml"
    path.parent.mkdir(parents=True)
    shutil.copy(PIPELINE, path)
    before = commit_all(tmp_path, "A pipeline")
    (tmp_path / "README.md").write_text("words\n")
    words = commit_all(tmp_path, "Words")
    (tmp_path / "serving" / "static").mkdir(parents=True)
    (tmp_path / "serving" / "static" / "page.css").write_text("a {}\n")
    served = commit_all(tmp_path, "Served")
    git = Git(tmp_path)
    assert not needs_deploy(git, before, words)
    assert needs_deploy(git, words, served)
    path.unlink()
    (tmp_path / "serving" / "app.py").write_text("")
    assert not needs_deploy(git, served, commit_all(tmp_path, "No CI at all"))


def _without_braces(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        before, brace, rest = pattern.partition("{")
        choices, _, after = rest.partition("}")
        yield from (
            (f"{before}{choice}{after}" for choice in choices.split(",")) if brace else (pattern,)
        )


def test_credentials_are_given_to_jobs_that_run_no_code_of_the_merge_request() -> None:
    known = jobs()
    holders = {
        name: job["environment"]["name"] for name, job in known.items() if "environment" in job
    }
    assert holders == {"deploy": "$ENVIRONMENT", "pull": "slipway-read", "note": "slipway-report"}
    for name in ("pull", "note"):
        job = known[name]
        assert job["before_script"] == [[".slipway-target", "before_script"]]
        assert ".slipway-cache" not in job["extends"], "others write what is cached"
        assert not [line for line in job["script"] if "make " in line or ".venv" in line]
    assert [line for line in known["pull"]["script"] if line.startswith("sh ")] == [
        'sh "$base/deployments/ci/pull.sh" "$base" process save evaluate',
        'sh "$base/deployments/ci/pull.sh" "$base"',
    ]
    assert known["note"]["script"][1] == 'cd "$base"'
    assert "dotenv" not in known["report"]["artifacts"].get("reports", {})


@pytest.mark.parametrize(("passed", "code"), [("true", 0), ("false", 1), ("", 1), ("unknown", 3)])
def test_gate_fails_with_its_verdict_unless_the_model_passed(
    tmp_path: Path, passed: str, code: int
) -> None:
    job = jobs()["gate"]
    folder = tmp_path / ".slipway" / "report"
    folder.mkdir(parents=True)
    (folder / "passed").write_text(f"{passed}\n")
    (folder / "verdict").write_text("NOT passed: f1_macro 0.3 misses the minimum 0.9\n")
    done = subprocess.run(
        ["bash", "-e", "-c", job["script"][0]], cwd=tmp_path, check=False, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert done.returncode == code
    assert "misses the minimum 0.9" in done.stdout
    assert job["allow_failure"] == {"exit_codes": "3"}


@pytest.mark.skipif(not has_shipped_file(), reason="the pipeline in the root is the user's")
@pytest.mark.parametrize(
    ("ref", "valid"),
    [("", True), ("main", True), ("feature/x-1.2", True), ("-x", False), ("a b", False),
     ("$PREFECT_API_KEY", False), ("--upload-pack=x", False)],
)  # fmt: skip
def test_inputs_of_a_person_are_names_alone(ref: str, valid: bool) -> None:
    header = next(iter(yaml.safe_load_all(SHIPPED.read_text())))
    assert bool(re.search(header["spec"]["inputs"]["ref"]["regex"], ref)) == valid
