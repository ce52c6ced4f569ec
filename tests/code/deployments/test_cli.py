"""The command `slipway`: what it prints, which server it uses, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from deployments.cli.app import app
from deployments.cli.place import Place, profile_variables
from deployments.cli.views import _print_status
from deployments.local import adoption
from deployments.local.sign_in import SIGN_IN
from deployments.local.stack import Stack
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.platforms.process import launch
from tests.code.deployments.servers import (
    CHECKED_OUT,
    PASSWORD,
    PrefectServer,
    clean_environment,
)

SUBCOMMANDS = [
    "up",
    "down",
    "demo",
    "retrain",
    "gate",
    "deploy",
    "rollback",
    "status",
    "logs",
    "open",
    "doctor",
    "check",
    "apply",
    "new",
    "remove",
]
_SLIPWAY = Path(sys.executable).with_name("slipway")


def slipway(*arguments: str, folder: Path = CHECKOUT, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(_SLIPWAY), f"--env-file={os.devnull}", *arguments],
        cwd=folder,
        env={**clean_environment(), **CHECKED_OUT.variables, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_lists_every_subcommand_without_colours(tmp_path: Path) -> None:
    code, output, _ = slipway("--help", folder=tmp_path, COLUMNS="100")
    assert code == 0
    for name in SUBCOMMANDS:
        assert f"│ {name} " in output
    assert "Exit codes: 0 done" in output
    assert "\x1b" not in output


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_a_one_line_summary(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    summary = [line.strip() for line in result.stdout.splitlines() if line.strip()][1]
    assert summary.endswith(".")
    assert summary[0].isupper()


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--json"], ["deploy", "--help"]])
def test_quick_commands_do_not_import_prefect(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['slipway', '--home={tmp_path}', '--env-file={os.devnull}', *{arguments}]\n"
        "try:\n    runpy.run_module('deployments.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('imported', {'prefect', 'boto3', 'dvc'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**clean_environment(), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "imported set()" in done.stderr


def test_exit_code_distinguishes_wrong_usage_and_failure(tmp_path: Path) -> None:
    assert slipway("fly")[0] == 2
    assert slipway("deploy")[0] == 2
    assert slipway("retrain", "--set", "train.cv")[0] == 2
    code, out, error = slipway(f"--home={tmp_path}", "logs", HOME=str(tmp_path))
    assert (code, out) == (1, "")
    assert "PREFECT_API_URL is not set" in error
    assert "slipway up" in error
    assert "Traceback" not in error


def test_shells_complete_environments() -> None:
    words = {"COMP_WORDS": "slipway deploy pro", "COMP_CWORD": "2"}
    code, output, _ = slipway(_SLIPWAY_COMPLETE="complete_bash", **words)
    assert code == 0
    assert output.split() == ["production"]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "SLIPWAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_server_comes_from_variable_file_stack_or_profile_in_this_order(
    shell: pytest.MonkeyPatch, tmp_path: Path, stack: Stack
) -> None:
    (tmp_path / ".prefect").mkdir()
    profile = '[profiles.mine]\nPREFECT_API_URL = "https://profile.example/api"\n'
    (tmp_path / ".prefect" / "profiles.toml").write_text(f'active = "mine"\n{profile}')
    file = tmp_path / ".env"

    def chosen(home: Path) -> str:
        # The choice becomes variables of this process: undo it.
        with patch.dict(os.environ), Place(home, file).open_api() as api:
            return api.url

    assert chosen(tmp_path / "no-stack") == "https://profile.example/api"
    assert chosen(stack.home) == stack.prefect_api_url
    file.write_text("PREFECT_API_URL=https://file.example/api\n")
    assert chosen(stack.home) == "https://file.example/api"
    shell.setenv("PREFECT_API_URL", "https://variable.example/api")
    assert chosen(stack.home) == "https://variable.example/api"


@pytest.mark.parametrize("command", [["apply"], ["deploy", "local"], ["retrain"]])
def test_stack_that_is_down_is_not_changed_through_its_old_ports(
    command: list[str], tmp_path: Path
) -> None:
    # Another checkout's stack may listen there by now.
    names = ["supervisor", "prefect", "s3", "gateway-api"]
    (tmp_path / "stack.json").write_text(json.dumps({"ports": dict.fromkeys(names, 1)}))
    code, _, error = slipway(f"--home={tmp_path}", *command, HOME=str(tmp_path))
    assert code == 1
    assert f"the local stack in {tmp_path} is down" in error
    assert "slipway up" in error


def test_active_profile_names_the_server(tmp_path: Path) -> None:
    assert profile_variables({"PREFECT_HOME": str(tmp_path)}) == {}
    (tmp_path / "profiles.toml").write_text(
        'active = "one"\n[profiles.one]\nPREFECT_API_URL = "https://one/api"\n'
        '[profiles.two]\nPREFECT_API_URL = "https://two/api"\nPREFECT_API_KEY = "k"\n'
    )
    home = {"PREFECT_HOME": str(tmp_path)}
    assert profile_variables(home) == {"PREFECT_API_URL": "https://one/api"}
    two = {"PREFECT_API_URL": "https://two/api", "PREFECT_API_KEY": "k"}
    assert profile_variables({**home, "PREFECT_PROFILE": "two"}) == two
    path = {"PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml"), "PREFECT_PROFILE": "two"}
    assert profile_variables(path) == two


@pytest.fixture(scope="module")
def server(staffed_server: PrefectServer) -> PrefectServer:
    return staffed_server


def test_deploy_needs_a_worker(server: PrefectServer) -> None:
    before = server.runs()
    code, _, error = slipway("deploy", "moon", **server.variables())
    assert code == 1
    assert "deployment 'deploy/moon' does not exist" in error
    code, _, error = slipway("deploy", "deserted", **server.variables())
    assert code == 1
    assert "no worker is online in work pool 'without-a-worker'" in error
    assert server.runs() == before
    code, out, _ = slipway("deploy", "staffed", "v1", "--json", **server.variables())
    assert code == 0
    run = json.loads(out)
    assert run["flow"] == "deploy"
    assert run["label"] == "Scheduled"
    assert run["url"].endswith(run["id"])


@pytest.mark.parametrize(
    ("state", "exit_code", "text"),
    [
        (("COMPLETED", "Completed", "wine v0.0.1 is live"), 0, "wine v0.0.1 is live"),
        (("COMPLETED", "Rejected", "accuracy is worse"), 3, "Rejected: accuracy is worse"),
        (("PAUSED", "Suspended", "approve it"), 3, "press Resume"),
        (("FAILED", "Failed", "no such ref"), 1, "no such ref"),
    ],
)
def test_watch_ends_with_the_run_or_when_a_person_has_to_act(
    server: PrefectServer, state: tuple[str, str, str], exit_code: int, text: str
) -> None:
    result: list[Any] = []
    before = {row["id"] for row in server.post("/flow_runs/filter", {})}
    watching = threading.Thread(
        target=lambda: result.extend(
            slipway("deploy", "staffed", "--watch", "--json", **server.variables())
        )
    )
    watching.start()
    deadline = time.monotonic() + 60
    while not (new := {row["id"] for row in server.post("/flow_runs/filter", {})} - before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.set_state(new.pop(), *state)
    watching.join()
    code, out, error = result
    assert code == exit_code, error
    assert json.loads(out)["label"] == state[1]
    assert text in " ".join(error.split())
    assert PASSWORD not in out + error


def test_logs_finds_runs_by_flow_and_id(server: PrefectServer) -> None:
    _, out, _ = slipway("deploy", "staffed", "v2", "--json", **server.variables())
    run = json.loads(out)["id"]
    server.set_state(run, "RUNNING", "Running")
    line = {
        "name": "prefect.flow_runs", "level": 20, "message": "pulling", "flow_run_id": run,
        "timestamp": "2026-11-29T12:00:00Z",
    }  # fmt: skip
    server.http.post("/logs/", json=[line]).raise_for_status()
    deadline = time.monotonic() + 30
    while "pulling" not in slipway("logs", run, **server.variables())[1]:
        assert time.monotonic() < deadline
    for subject in ("", "deploy"):
        assert "pulling" in slipway("logs", *filter(None, [subject]), **server.variables())[1]
    code, _, error = slipway("logs", "mars", **server.variables())
    assert code == 1
    assert "no flow run is known as 'mars'" in error


def test_logs_of_an_environment_are_not_those_of_one_with_a_longer_name(tmp_path: Path) -> None:
    logs = tmp_path / "log"
    logs.mkdir()
    (logs / "model-local-20261130T001500-a1-b2.log").write_text("of local\n")
    (logs / "model-local-eu-20261130T001600-a1-b2.log").write_text("of local-eu\n")
    assert slipway(f"--home={tmp_path}", "logs", "local", HOME=str(tmp_path))[1] == "of local\n"


def test_open_prints_the_page_that_the_server_itself_opens(server: PrefectServer) -> None:
    code, out, _ = slipway("open", "--print", **server.variables())
    assert code == 0
    root = server.url.removesuffix("/api")
    page = server.http.get(f"{root}/", headers={"Accept": "text/html"}, follow_redirects=True)
    assert str(page.url).rstrip("/") == out.strip()


def test_status_logs_and_open_use_the_local_stack(stack: Stack) -> None:
    home = f"--home={stack.home}"
    code, out, error = slipway(home, "status", "--json")
    assert code == 0, error
    facts = json.loads(out)
    assert set(facts["programs"].values()) <= {"running", "starting", "stopped"}
    assert facts["addresses"]["S3"] == stack.s3_endpoint_url
    assert {row["environment"] for row in facts["environments"]} >= {"local", "production"}
    link = slipway(home, "open", "--print")[1].strip()
    assert re.fullmatch(rf"{stack.prefect_ui_url}{SIGN_IN}#[\w-]{{22}}/", link)
    assert slipway(home, "open", "model", "local", "--print")[1].strip() == stack.model_url("local")
    assert slipway(home, "open", "s3", "--print")[1].strip() == stack.s3_endpoint_url
    assert slipway(home, "open", "mars", "--print")[0] == 1
    code, out, _ = slipway(home, "logs", "object-store", "--lines", "3")
    assert code == 0
    assert 0 < len(out.splitlines()) <= 3
    code, _, error = slipway(home, "logs", "kubernetes")
    assert code == 1
    assert "docs/targets/kubernetes.md" in error


def test_programs_without_supervisord_are_said_to_run_and_what_adopts_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _print_status({"programs": {"gateway": "unsupervised", "postgres": "stopped"}, "addresses": {}})
    assert "Next: slipway up, which adopts it" in capsys.readouterr().out
    _print_status({"programs": {"gateway": "running", "postgres": "running"}, "addresses": {}})
    assert "slipway up" not in capsys.readouterr().out


def test_stack_that_has_lost_its_supervisord_is_not_called_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {"supervisor": 1, "prefect": 1}}))
    place = Place(tmp_path, tmp_path / ".env")
    with pytest.raises(ConfigurationError, match="is down"):
        place.choose_server(for_changes=True)
    with subprocess.Popen([sys.executable, "-I", "-S", launch.__file__, *_record(tmp_path)]) as run:
        while not adoption.running_programs(tmp_path / "log"):
            time.sleep(0.02)
        with pytest.raises(ConfigurationError, match="has lost its supervisord"):
            place.choose_server(for_changes=True)
        run.kill()


def _record(home: Path) -> list[str]:
    """Return the arguments with which supervisord starts a program."""
    (home / "log").mkdir()
    return [str(home / "log" / "gateway.pid"), "10", "sleep", "60"]
