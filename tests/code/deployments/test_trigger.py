"""Asking for a deploy, where something is wrong: a real Prefect server, no worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import trigger
from deployments.ci.job import DeployResult, summary
from deployments.github.job import annotation
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.release_note import ReleaseNote, read_release_note
from deployments.prefect_api.run_events import RunEvents
from deployments.prefect_api.server_auth import basic
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.reports import markdown
from tasks.reports.release_data import Outcome, PreviousRelease, ReleaseData
from tasks.repository.git import Git
from tests.code.acting import Act, Job, needs_workflows
from tests.code.deployments.servers import PASSWORD, PrefectServer
from tests.code.gitlab_running import GitLabCI, install_gitlab_ci_local
from tests.stand_ins.line import line_to

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def server(staffed_server: PrefectServer) -> PrefectServer:
    return staffed_server


def variables(server: PrefectServer, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "GITHUB_"))}
    return {**inherited, "PREFECT_API_URL": server.url, "PREFECT_API_KEY": PASSWORD, **more}


def start(server: PrefectServer, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.trigger", "deploy", *arguments],
        cwd=CHECKOUT,
        env=variables(server, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def deploy(server: PrefectServer, *arguments: str, **more: str) -> tuple[int, str]:
    with start(server, *arguments, **more) as process:
        output, _ = process.communicate(timeout=120)
    return process.returncode, output


def to(environment: str, commit: str = COMMIT) -> list[str]:
    return ["--ref", commit, "--environment", environment]


@pytest.fixture
def api(server: PrefectServer) -> Iterator[PrefectAPI]:
    with PrefectAPI.from_environment(variables(server)) as api:
        yield api


def test_wrong_key_is_refused(server: PrefectServer) -> None:
    for key in ("admin:wrong", "pnu_wrong", ""):
        code, output = deploy(server, *to("staffed"), PREFECT_API_KEY=key)
        assert code == 1
        assert "refused the key (401)" in output
        assert "PREFECT_API_KEY" in output
        assert "Traceback" not in output
        assert not key or key not in output


def test_password_is_read_from_the_variable_of_prefect(server: PrefectServer) -> None:
    login = {"PREFECT_API_KEY": "", "PREFECT_API_AUTH_STRING": PASSWORD}
    with PrefectAPI.from_environment(variables(server, **login)) as api:
        assert api.list_deployments() == {"deploy/staffed", "deploy/deserted"}


def test_unknown_environment_lists_the_known_ones(server: PrefectServer) -> None:
    code, output = deploy(server, *to("moon"))
    assert code == 1
    assert "environment 'moon' is unknown" in output
    assert "known: deserted, staffed" in output


def test_branch_is_refused(server: PrefectServer) -> None:
    code, output = deploy(server, *to("staffed", "main"))
    assert code == 1
    assert "git rev-parse main" in output


def test_url_of_another_page_is_refused(server: PrefectServer) -> None:
    code, output = deploy(server, *to("staffed"), PREFECT_API_URL=server.url.removesuffix("/api"))
    assert code == 1
    assert "is not that of a Prefect API" in output
    for url in ("", "not a url", "https://host:port/api"):
        code, output = deploy(server, *to("staffed"), PREFECT_API_URL=url)
        assert code == 1
        assert "PREFECT_API_URL is not" in output


def test_trigger_without_a_worker_creates_no_run(server: PrefectServer) -> None:
    before = server.runs()
    code, output = deploy(server, *to("deserted"), "--wait")
    assert code == 1
    assert "no worker is online in work pool 'without-a-worker'" in output
    assert "prefect worker start --pool without-a-worker" in output
    assert server.runs() == before


@pytest.fixture(scope="module")
def act(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Act:
    return Act(tmp_path_factory.mktemp("act"), source)


def push(act: Act, server: PrefectServer, environment: str, key: str) -> Job:
    """Run the workflow for a push."""
    return act.run(
        "push",
        "deploy.yaml",
        commit=Git(act.origin)("rev-parse", "main"),
        secrets={"PREFECT_API_URL": server.url, "PREFECT_API_KEY": key},
        variables={"SLIPWAY_ENVIRONMENT": environment},
    )


@needs_workflows
def test_workflow_without_a_worker_fails_at_once(act: Act, server: PrefectServer) -> None:
    before = server.runs()
    job = push(act, server, "deserted", PASSWORD)
    assert job.code == 1
    assert "no worker is online in work pool 'without-a-worker'" in job.output
    assert "::error title=" in job.output
    assert server.runs() == before


@needs_workflows
def test_workflow_with_a_wrong_key_fails(act: Act, server: PrefectServer) -> None:
    job = push(act, server, "staffed", "pnu_wrong")
    assert job.code == 1
    assert "refused the key (401)" in job.output
    assert "pnu_wrong" not in job.output


def test_job_of_gitlab_follows_the_run_of_a_ref_and_links_it(
    source: Path, run_folder: Path, tmp_path: Path, server: PrefectServer, api: PrefectAPI
) -> None:
    program = install_gitlab_ci_local(run_folder / "gitlab-ci-local")
    checkout = tmp_path / "wine"
    subprocess.run(["git", "clone", "--quiet", str(source), str(checkout)], check=True)
    commit = Git(checkout)("rev-parse", "main")
    run = trigger.request_deploy(api, "staffed", commit, again="8")
    data = _release_data(outcome="live").to_json()
    artifact = {"key": "wine-local-release-data", "type": "json", "data": json.dumps(data)}
    response = server.http.post("/artifacts/", json={**artifact, "flow_run_id": run.id})
    response.raise_for_status()
    server.set_state(run.id, "RUNNING", "Running")
    server.set_state(run.id, "COMPLETED", "Completed")
    code, output = GitLabCI(program, checkout).run(
        *("--input", "ref=main", "--input", "environment=staffed", "--input", "again=true"),
        "deploy",
        source="web",
        variables={
            "PREFECT_API_URL": server.url, "PREFECT_API_KEY": PASSWORD, "CI_PIPELINE_ID": "8",
        },
    )  # fmt: skip
    assert code == 0, output
    assert f"run {run.id}, which was requested before and is Completed" in output
    job = checkout / ".slipway" / "job"
    outputs = dict(line.split("=", 1) for line in (job / "outputs.env").read_text().splitlines())
    assert outputs["SLIPWAY_RUN_URL"] == api.ui_url(run)
    assert outputs["SLIPWAY_OUTCOME"] == "live"
    links = json.loads((job / "links.json").read_text())["Slipway"]
    assert links[0]["external_link"]["url"] == api.ui_url(run)
    assert f"## Deploy {commit[:7]} to staffed: live" in (job / "summary.md").read_text()


def test_paused_pool_is_refused(server: PrefectServer, api: PrefectAPI) -> None:
    pool = "/work_pools/with-a-worker"
    server.http.patch(pool, json={"is_paused": True}).raise_for_status()
    try:
        with pytest.raises(trigger.NoWorker, match="is paused"):
            trigger.request_deploy(api, "staffed", COMMIT.replace("0", "1"))
    finally:
        server.http.patch(pool, json={"is_paused": False}).raise_for_status()


def test_commit_is_deployed_once_unless_repeated_on_purpose(
    server: PrefectServer, api: PrefectAPI
) -> None:
    commit = COMMIT.replace("0", "2")
    processes = [start(server, *to("staffed", commit)) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    run = trigger.request_deploy(api, "staffed", commit)
    assert all(run.id in output for output in outputs)
    again = trigger.request_deploy(api, "staffed", commit, again="a")
    assert again.id != run.id
    assert trigger.request_deploy(api, "staffed", commit, again="a").id == again.id


def test_scheduled_run_needs_a_worker_until_it_starts(
    server: PrefectServer, api: PrefectAPI
) -> None:
    server.deployment("left", "of-a-worker-that-left")
    server.worker("of-a-worker-that-left")
    run = trigger.request_deploy(api, "left", COMMIT)
    server.http.delete("/work_pools/of-a-worker-that-left/workers/idle").raise_for_status()
    with pytest.raises(trigger.NoWorker):
        trigger.request_deploy(api, "left", COMMIT)
    server.set_state(run.id, "RUNNING", "Running")
    assert trigger.request_deploy(api, "left", COMMIT).id == run.id


def test_run_without_a_worker_times_out(server: PrefectServer) -> None:
    commit = COMMIT.replace("0", "3")
    code, output = deploy(server, *to("staffed", commit), "--wait", "--start-within=1")
    assert code == 1
    assert "has not started within 1 s" in output
    assert "it follows the same run" in output


def test_suspended_run_links_to_its_form(
    server: PrefectServer, api: PrefectAPI, tmp_path: Path
) -> None:
    commit = COMMIT.replace("0", "4")
    run = trigger.request_deploy(api, "staffed", commit)
    server.set_state(run.id, "PAUSED", "Suspended")
    job = {"GITHUB_OUTPUT": str(tmp_path / "o"), "GITHUB_STEP_SUMMARY": str(tmp_path / "s")}
    code, output = deploy(server, *to("staffed", commit), "--wait", **job)
    assert code == 1
    assert "waits for a person: it is Suspended" in output
    assert f"open {api.approval_url(run)} and press Resume" in output
    assert "outcome=waiting" in (tmp_path / "o").read_text()
    assert f"Deploy {commit[:7]} to staffed: waiting" in (tmp_path / "s").read_text()
    server.set_state(run.id, "CANCELLED", "Cancelled", "rejected")
    code, output = deploy(server, *to("staffed", commit), "--wait")
    assert code == 1
    assert "ended as Cancelled: rejected" in output


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout
    while word not in process.stdout.readline():
        assert process.poll() is None


def test_following_survives_a_restart_of_the_server(server: PrefectServer, api: PrefectAPI) -> None:
    commit = COMMIT.replace("0", "5")
    run = trigger.request_deploy(api, "staffed", commit)
    server.set_state(run.id, "RUNNING", "Running")
    with line_to(server.port) as line:
        url = server.url.replace(str(server.port), str(line.port))
        with start(server, *to("staffed", commit), "--wait", PREFECT_API_URL=url) as process:
            wait_for(process, "Running")
            line.cut(3)
            time.sleep(3)
            server.set_state(run.id, "COMPLETED", "Superseded")
            output = process.communicate(timeout=60)[0]
        assert line.refused
    assert process.returncode == 0, output
    assert "superseded" in output


def follow(api: PrefectAPI, server: PrefectServer, run_id: str, *, every: float) -> float:
    """Return the seconds in which the end of a run is seen, once following it has begun."""
    progress = api.follow(run_id, every=every)
    next(progress)
    ended_at = []

    def end() -> None:
        server.set_state(run_id, "COMPLETED", "Completed")
        ended_at.append(time.monotonic())

    timer = threading.Timer(0.5, end)
    timer.start()
    *_, last = progress
    timer.join()
    assert last.run.succeeded
    return time.monotonic() - ended_at[0]


def test_end_of_a_run_is_seen_by_its_event(server: PrefectServer, api: PrefectAPI) -> None:
    run = trigger.request_deploy(api, "staffed", COMMIT.replace("0", "6"))
    assert follow(api, server, run.id, every=60) < 30


@pytest.mark.parametrize("fault", ["no package", "wrong key", "cut"])
def test_without_events_a_run_is_followed_by_polls(
    server: PrefectServer, api: PrefectAPI, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    run = trigger.request_deploy(api, "staffed", COMMIT.replace("0", "7"), again=fault)
    with line_to(server.port) as line:
        if fault == "no package":  # as in a job on GitHub
            monkeypatch.setitem(sys.modules, "websockets.exceptions", None)
            monkeypatch.setitem(sys.modules, "websockets.sync.client", None)
        else:
            login = basic(PASSWORD if fault == "cut" else "admin:wrong")
            url = server.url.replace(str(server.port), str(line.port))
            events = RunEvents(url, login, run.id, local=True)
            monkeypatch.setattr(api, "run_events", lambda _: events)
        if fault == "cut":
            threading.Timer(0.2, line.cut, [0]).start()
        assert follow(api, server, run.id, every=0.2) < 30


def test_restarted_crashed_run_is_followed_further(server: PrefectServer, api: PrefectAPI) -> None:
    commit = COMMIT.replace("0", "6")
    run = trigger.request_deploy(api, "staffed", commit)
    server.set_state(run.id, "RUNNING", "Running")
    with start(server, *to("staffed", commit), "--wait") as process:
        wait_for(process, "Running")
        server.set_state(run.id, "CRASHED", "Crashed")
        wait_for(process, "Crashed")
        server.set_state(run.id, "SCHEDULED", "AwaitingRetry")
        wait_for(process, "AwaitingRetry")
        server.set_state(run.id, "COMPLETED", "Completed")
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output


def test_links_lead_to_the_ui_of_prefect_cloud() -> None:
    url = "https://api.prefect.cloud/api/accounts/a-1/workspaces/w-2"
    with PrefectAPI.from_environment({"PREFECT_API_URL": f"{url}/", "PREFECT_API_KEY": "k"}) as api:
        assert api.url == url
        expected = "https://app.prefect.cloud/account/a-1/workspace/w-2/runs/flow-run/r"
        assert api.ui_url("r") == expected
    elsewhere = {
        "PREFECT_API_URL": "https://p.example/api",
        "PREFECT_UI_URL": "https://ui.example/",
    }
    with PrefectAPI.from_environment(elsewhere) as api:
        assert api.ui_url("r") == "https://ui.example/runs/flow-run/r"
    with pytest.raises(ConfigurationError, match="not set"):
        PrefectAPI.from_environment({})


def test_trigger_imports_httpx_and_nothing_slow() -> None:
    code = "import sys, deployments.trigger, deployments.github.sticky_comment"
    code += ", deployments.gitlab.sticky_note; print(*sys.modules)"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "httpx" in loaded
    assert not loaded & {"prefect", "pydantic", "dvc", "yaml", "psutil"}


def test_release_note_of_a_run_is_read_as_data(server: PrefectServer, api: PrefectAPI) -> None:
    run = api.create_run("deploy/staffed", {"ref": COMMIT})
    assert read_release_note(api, run.id) is None
    data = _release_data(outcome="rolled_back").to_json()
    for artifact in (
        {"key": "wine-local-release-data", "type": "json", "data": json.dumps(data)},
        {"key": "wine-local-release", "type": "markdown", "data": "# wine"},
        {"key": "wine-local-timeline", "type": "markdown", "data": "# timeline"},
        # A second try of the run, in which words are not the outcome.
        {"key": "wine-local-release-data", "type": "json",
         "data": json.dumps({**data, "outcome": "live"})},
        {"key": "wine-local-release", "type": "markdown", "data": "| outcome | **failed** |"},
    ):  # fmt: skip
        server.post("/artifacts/", {"flow_run_id": run.id, **artifact})
    note = read_release_note(api, run.id)
    assert note == ReleaseNote(_release_data(outcome="live"), "| outcome | **failed** |")


def _release_data(outcome: Outcome) -> ReleaseData:
    before = PreviousRelease("v0.0.1", "b" * 40, {"f1_macro": 0.95})
    return ReleaseData(
        outcome=outcome, model="wine", version="v0.0.2", commit=COMMIT, md5="0" * 32,
        environment="local", url="http://here", page="http://here", reason="released", state="",
        next_step="", metrics={"f1_macro": 0.97}, before=before, rollback=False, run="1",
        seconds=35.0,
    )  # fmt: skip


def test_summary_has_the_release_note() -> None:
    text = markdown.release_note(
        title="wine v0.0.2 to local: live",
        facts={"outcome": "**live**", "run": "[http://run](http://run)"},
        metrics={"f1_macro": 0.97},
        before=None,
    )
    read = ReleaseNote(_release_data("live"), text)
    text = summary("0123456 to local", "http://run", DeployResult("live", 35.0, read), "")
    assert text.startswith("## Deploy 0123456 to local: live\n\n35.0 s, [run in the Prefect UI]")
    assert "### wine v0.0.2 to local" in text
    assert "| f1_macro | 0.97 |" in text
    failed = summary("0123456 to local", "", None, "no worker")
    assert failed == "## Deploy 0123456 to local: failed\n\n```\nno worker\n```\n"


def test_annotation_is_one_line() -> None:
    assert annotation("deploy", "100 %\nNext") == "::error title=deploy::100 %25%0ANext"
