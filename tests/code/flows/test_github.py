"""The workflows, run by act against the real stack; and the hook that plays GitHub for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.post_receive import match_any, paths_of
from deployments.local.stack import Stack
from tasks.core.settings import CHECKOUT
from tests.code.acting import WORKFLOWS, Act, Job, needs_workflows
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import SECONDS, Lab
from tests.stack_access import wait_for_end

# The fixtures deliver a model, and a test waits for several runs.
pytestmark = [pytest.mark.timeout(900), needs_workflows]


@pytest.fixture(scope="module")
def act(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Act:
    return Act(tmp_path_factory.mktemp("act"), lab.stack.origin)


@pytest.fixture(scope="module", autouse=True)
def _ends_as_it_began(lab: Lab, delivered: Delivery) -> Iterator[None]:
    yield
    if not lab.is_live(delivered.commit):
        again = lab.run("deploy", {"ref": delivered.commit, "force": True, "reason": "as it began"})
        assert again.state == "Completed", again.log


def server_secrets(lab: Lab) -> dict[str, str]:
    """Return the secrets that a repository on GitHub has of the server."""
    login = lab.stack.credentials.prefect
    return {"PREFECT_API_URL": lab.stack.prefect_api_url, "PREFECT_API_KEY": login}


def push(act: Act, lab: Lab, commit: str, **secrets: str) -> Job:
    known = {**server_secrets(lab), **secrets}
    variables = {"SLIPWAY_ENVIRONMENT": "local"}
    return act.run("push", "deploy.yaml", commit=commit, secrets=known, variables=variables)


def test_push_deploys_once_and_shows_the_outcome(act: Act, lab: Lab, delivered: Delivery) -> None:
    change = {"serving/settings.py": lambda old: f"{old}\n# pushed\n"}
    commit = lab.commit(change, delivered.commit, "pushed")
    job = push(act, lab, commit)
    assert job.code == 0, job.output
    run = lab.api.read_run(job.run_id)
    assert (run.state, run.name) == ("COMPLETED", f"deploy {commit[:7]} to local")
    assert lab.live()["commit"] == commit
    assert job.set_output("url") == lab.url
    assert job.set_output("outcome") == "live"
    assert job.set_output("run_url") == lab.api.ui_url(run)
    version = lab.live()["version"]
    assert f"wine {version} to local" in job.output
    assert "f1_macro" in job.output

    again = push(act, lab, commit)
    assert again.code == 0, again.output
    assert again.run_id == job.run_id
    assert "which was requested before and is Completed" in again.output
    assert lab.live()["version"] == version


def test_dispatch_deploys_a_ref_and_again_creates_a_new_run(
    act: Act, lab: Lab, delivered: Delivery
) -> None:
    def dispatch(**inputs: str) -> Job:
        return act.run(
            "workflow_dispatch",
            "deploy.yaml",
            commit=delivered.commit,
            payload={"inputs": {"environment": "local", **inputs}},
            secrets=server_secrets(lab),
        )

    commit = lab.commit({"README.md": "Other words"}, delivered.commit, "of-a-person")
    first, again = dispatch(ref="of-a-person"), dispatch(ref=commit, again="true")
    assert (first.code, again.code) == (0, 0), first.output + again.output
    assert f"Deploy {commit[:7]} to local" in first.output
    assert first.run_id != again.run_id


def test_failed_deploy_fails_the_job_with_its_reason(
    act: Act, lab: Lab, delivered: Delivery
) -> None:
    commit = lab.commit({"model/wine.mlem": None}, delivered.commit, "without-a-model")
    job = push(act, lab, commit)
    assert job.code == 1
    assert f"model/wine.mlem is missing at {commit}" in job.output
    assert "::error title=" in job.output
    assert lab.api.read_run(job.run_id).state == "FAILED"
    again = push(act, lab, commit)
    assert again.code == 1
    assert again.run_id == job.run_id
    assert "to try the same commit again" in again.output


def test_unreachable_server_fails_the_job_at_once(act: Act, lab: Lab, delivered: Delivery) -> None:
    job = push(act, lab, delivered.commit, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert job.code == 1
    assert "the Prefect server at" in job.output
    assert "does not answer" in job.output


def test_report_on_a_fork_needs_no_credentials_and_the_gate_rejects_its_rules(
    act: Act, lab: Lab, delivered: Delivery
) -> None:
    def worse(old: str) -> str:
        quicker = old.replace("cv: 5", "cv: 2").replace("[0.1, 1.0, 10.0]", "[1.0e-6]")
        return quicker.replace("minimum: 0.9", "minimum: 0.0").replace(": 0.01 ", ": 1.0 ")

    commit = lab.commit({"params.yaml": worse}, delivered.commit, "of-a-fork")
    fork = {"head": {"repo": {"full_name": "somebody/slipway"}}, "user": {"login": "somebody"}}
    base = {"ref": "main", "sha": delivered.commit}
    payload = {"number": 7, "pull_request": {"number": 7, "base": base, **fork}}
    job = act.run("pull_request", "test.yaml", commit=commit, job="gate", payload=payload)
    # act may lose the last lines of a step that is over at once: the reasons are in the report.
    assert job.code == 1, job.output
    assert "Job 'gate' failed" in job.output
    assert "no read-only credentials here: everything is made again" in job.output
    report = (act.artifacts / "report" / "report.md").read_text()
    assert report.startswith("## ❌ wine does not pass the gate\n\nNot scored: ")
    assert "misses the minimum 0.9" in report
    assert "the rules are those of params.yaml of main" in report
    assert "cannot be compared with the champion's" in report
    assert "Not scored: there is no access to the bucket here" in report
    assert "| params.yaml | train.cv" in report
    assert "| reports/cv.json" in report  # three candidates instead of nine
    assert "<summary>Model card</summary>\n\n# wine" in report
    assert "![Predictions](data-predictions.png)" in report
    picture = (act.artifacts / "report" / "data-predictions.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert "The picture is in the artifact `report`" in job.output  # of the summary


@pytest.fixture
def pushes_deploy(lab: Lab, run_folder: Path) -> Iterator[Path]:
    """The stack as it is outside of tests: pushes deploy. Afterwards main is where it was."""
    before = lab.head()
    source = run_folder / "stack" / "source"  # of the worker that has started the shared stack
    Stack(lab.stack.home, CHECKOUT, source=source, usual_ports=False).up()
    yield lab.stack.logs / "post-receive.log"
    lab.stack.up()
    lab.git("update-ref", "refs/heads/main", before)


def wait_for(log: Path, words: str) -> str:
    deadline = time.monotonic() + SECONDS
    while not log.exists() or words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
        time.sleep(0.1)
    return next(line for line in log.read_text().splitlines() if words in line)


def test_push_to_the_local_origin_deploys_changes_of_what_is_served(
    lab: Lab, delivered: Delivery, pushes_deploy: Path
) -> None:
    words = lab.commit({"README.md": "Other words"}, "main", "main")
    assert "the push changed nothing that is deployed" in wait_for(pushes_deploy, words[:7])
    change = {"deployments/environments/local.toml": lambda old: f"{old}# pushed\n"}
    commit = lab.commit(change, "main", "main")
    log = wait_for(pushes_deploy, commit[:7])
    run = lab.api.find_run("deploy", f"deploy/local/{commit}")
    assert run
    assert lab.api.ui_url(run) in log
    run = wait_for_end(lab.api, run.id)
    assert run.succeeded, run.message
    assert lab.api.find_run("deploy", f"deploy/local/{words}") is None


def test_hook_reads_the_path_patterns_of_the_workflow() -> None:
    patterns = paths_of((WORKFLOWS / "deploy.yaml").read_text())
    # Of GitHub's patterns, these two are all that the hook understands.
    assert not any(set(pattern) & set("?+[]!") for pattern in patterns)
    served = (
        "model/wine.mlem",
        "model/wine.golden.json",
        "model/wine.runtime.json",
        "model/wine.sig",
        "serving/app.py",
        "serving/static/page.css",
        "deployments/environments/local.toml",
    )
    for path in served:
        assert match_any([path], patterns), path
    others = (
        "README.md", "params.yaml", "dvc.lock", "model/train.py", "flows/deploy.py",
        "model/custom/x.mlem", "deployments/local/stack.py",
    )  # fmt: skip
    assert not match_any(others, patterns)
