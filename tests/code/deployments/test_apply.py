"""`slipway apply`, against a real server with a password."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments import apply as module
from deployments.apply import WITHOUT_SCHEDULES, apply, reconcile
from deployments.catalogue import block_variables
from deployments.catalogue.difference import Change
from deployments.catalogue.prefect_yaml import SOURCE, Manifest
from deployments.catalogue.resources.automations import Automations
from tasks.core.errors import ConfigurationError
from tasks.core.secret_blocks import GIT_TOKEN
from tasks.core.settings import CHECKOUT
from tests.code.deployments.servers import (
    PASSWORD,
    STORAGE,
    PrefectServer,
    Repository,
    clone,
    in_shell_of,
)

EQUAL = "is equal to the repository: nothing to do"
SECRETS = {
    STORAGE.read_write.secret,
    STORAGE.read.secret,
    "secret-git-token",
    "secret-path",
}
_WHERE = """\
from prefect import flow
from prefect.states import Completed

from tasks.core.settings import CHECKOUT  # the tasks come from where the flow comes from


@flow(name="where")
async def where():
    return Completed(message=f"{{CHECKOUT}}/flows/where.py {}")
"""


@pytest.fixture(scope="module")
def server(empty_server: PrefectServer) -> PrefectServer:
    return empty_server


@dataclass(frozen=True)
class First:
    """The results of the first applies, on an empty server."""

    repository: Repository
    dry_run: subprocess.CompletedProcess[str]
    after_dry_run: int
    results: list[subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def first(server: PrefectServer, source: Path, tmp_path_factory: pytest.TempPathFactory) -> First:
    """A dry run, then two applies at once."""
    cloned = clone(source, tmp_path_factory.mktemp("repository") / "slipway", server)
    dry_run = cloned.apply("--dry-run", "--exit-code")
    after = sum(len(server.rows(item)) for item in ("deployments", "work_pools", "flows"))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: cloned.apply(), range(2)))
    return First(cloned, dry_run, after, results)


@pytest.fixture
def repository(first: First, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The repository, applied; this process is in its shell."""
    monkeypatch.setattr(module, "CHECKOUT", first.repository.folder)
    variables = first.repository.variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with in_shell_of(variables["PREFECT_API_URL"], PASSWORD):
        yield first.repository


def deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.rows("deployments")}


def summarize(changes: list[Change]) -> set[str]:
    return {f"{change.action} {change.kind} {change.name}" for change in changes}


def test_dry_run_shows_everything_and_creates_nothing(first: First) -> None:
    assert first.dry_run.returncode == 4, first.dry_run.stderr
    assert "+ deployment retrain/retrain" in first.dry_run.stdout
    assert first.after_dry_run == 0


def test_two_concurrent_applies_create_everything_once(first: First, server: PrefectServer) -> None:
    assert [result.returncode for result in first.results] == [0, 0], first.results
    assert len(server.rows("deployments")) == len(Manifest.read(CHECKOUT).names)
    assert len(server.rows("work_pools")) == 1
    automations = [row["name"] for row in server.rows("automations")]
    assert automations
    assert len(automations) == len(set(automations))
    documents = [item["name"] for item in server.rows("block_documents")]
    once = {block_variables.RESULTS, GIT_TOKEN, block_variables.NOTIFY}
    twice = {block_variables.READ, block_variables.READ_WRITE}
    assert sorted(documents) == sorted([*once, *twice, *twice])
    again = first.repository.apply()
    assert again.returncode == 0
    assert EQUAL in again.stdout
    for process in (first.dry_run, *first.results, again):
        assert not any(secret in process.stdout + process.stderr for secret in SECRETS)


async def test_deployments_equal_their_declarations(
    repository: Repository, server: PrefectServer
) -> None:
    deployed = deployments(server)
    for item in deployed.values():
        assert item["version"] == repository.head()
        assert item["tags"] == ["idempotent", "slipway"]
        assert item["enforce_parameter_schema"]
        assert item["work_pool_name"] == "slipway"
    one_at_a_time = {"collision_strategy": "ENQUEUE", "grace_period_seconds": 120}
    options = {
        row["entrypoint"].rpartition(":")[2]: row["concurrency_options"]
        for row in server.rows("deployments")
        if row["name"] == "local"
    }
    together = {"watch": None, "monitor": None}
    assert options == {"deploy": one_at_a_time, "rollback": one_at_a_time, **together}
    (weekly,) = deployed["retrain"]["schedules"]
    assert weekly["slug"] == "weekly"
    assert weekly["active"]
    assert weekly["schedule"]["timezone"]


async def test_edits_on_the_server_are_set_back(
    repository: Repository, server: PrefectServer
) -> None:
    before = deployments(server)
    retrain, train = before["retrain"], before["train"]
    documents = {row["name"]: row for row in server.rows("block_documents")}
    token = documents[GIT_TOKEN]["id"]
    for path, body in (
        ("/work_pools/slipway", {"concurrency_limit": 1}),
        (f"/deployments/{train['id']}", {"tags": [], "paused": True}),
        (f"/block_documents/{token}", {"data": {"value": "another"}}),
    ):
        server.http.patch(path, json=body).raise_for_status()
    document = documents[block_variables.RESULTS]["id"]
    server.http.delete(f"/block_documents/{document}").raise_for_status()
    monthly = {"schedule": {"cron": "0 0 1 * *"}, "active": True}
    server.http.post(f"/deployments/{retrain['id']}/schedules", json=[monthly]).raise_for_status()

    planned = await apply(dry_run=True)
    assert summarize(planned) == {
        "change work pool slipway",
        "change deployment train/train",
        "change deployment retrain/retrain",
        "create block s3-bucket/slipway-results",
        "change block secret/slipway-git-token",
    }
    lines = [line for change in planned for line in change.fields()]
    assert "concurrency_limit: 1 → 10" in lines
    assert "paused: true → false" in lines
    assert "value: (secret) → (secret)" in lines
    assert not any(secret in repr(planned) for secret in SECRETS | {"another"})

    assert await apply() == planned
    assert not await apply()
    after = deployments(server)
    assert [schedule["slug"] for schedule in after["retrain"]["schedules"]] == ["weekly"]
    assert after["train"]["id"] == train["id"]


@pytest.mark.usefixtures("repository")
async def test_changed_secret_reaches_the_block_and_its_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_S3_READ_SECRET", "another-secret")
    assert summarize(await apply()) == {
        "change block aws-credentials/slipway-read",
        "change block s3-bucket/slipway-read",
    }
    assert not await apply()
    monkeypatch.setenv("SLIPWAY_S3_READ_SECRET", STORAGE.read.secret)
    await apply()


async def test_undeclared_resources_are_removed_and_foreign_ones_stay(
    repository: Repository, server: PrefectServer
) -> None:
    flow = server.http.post("/flows/", json={"name": "of-others"}).raise_for_status().json()["id"]
    for name, tags in (("theirs", ["theirs"]), ("ours-of-old", ["slipway"])):
        body = {"flow_id": flow, "name": name, "tags": tags}
        server.http.post("/deployments/", json=body).raise_for_status()
        variable = {"name": name.replace("-", "_"), "value": "1", "tags": tags}
        server.http.post("/variables/", json=variable).raise_for_status()
    path = repository.folder / SOURCE
    text = path.read_text()
    path.write_text(re.sub(r"\n  - name: save\n(    .*\n)+", "\n", text))
    try:
        changes = await apply()
    finally:
        path.write_text(text)
    assert summarize(changes) == {
        "remove deployment save/save",
        "remove deployment of-others/ours-of-old",
        "remove variable ours_of_old",
    }
    assert "theirs" in {row["name"] for row in server.rows("variables")}
    deployed = deployments(server)
    assert "theirs" in deployed
    assert not {"save", "ours-of-old"} & deployed.keys()
    assert summarize(await apply()) == {"create deployment save/save"}


@pytest.mark.usefixtures("repository")
async def test_without_schedules_they_are_inactive(server: PrefectServer) -> None:
    changes = await apply(frozenset({WITHOUT_SCHEDULES}))
    assert {change.name: change.fields() for change in changes} == {
        "retrain/retrain": ["schedules.weekly.active: true → false"],
        "status/status": ["schedules.half-hourly.active: true → false"],
        "monitor/local": ["schedules.daily.active: true → false"],
    }
    for name in ("retrain", "status"):
        (schedule,) = deployments(server)[name]["schedules"]
        assert not schedule["active"]
    await apply()


async def test_prefect_deploy_makes_the_same_deployments_without_a_model_environment(
    repository: Repository,
) -> None:
    assert not (repository.folder / "model" / ".venv").exists()
    deployed = repository.run("prefect", "--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    differ = {
        line.partition(":")[0] for item in await apply(dry_run=True) for line in item.fields()
    }
    assert differ <= {"description"}  # which `apply` shortens
    await apply()


@pytest.mark.usefixtures("repository")
async def test_workers_without_a_checkout_clone_the_commit_with_the_token(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPWAY_CHECKOUT")
    monkeypatch.setenv("SLIPWAY_ORIGIN", "https://git.example/slipway.git")
    changes = [item for item in await apply(dry_run=True) if item.kind == "deployment"]
    assert len(changes) == len(Manifest.read(CHECKOUT).names)
    for change in changes:
        assert change.after
        clone, _ = change.after["pull_steps"]
        assert clone["prefect.deployments.steps.git_clone"] == {
            "id": "clone",
            "repository": "https://git.example/slipway.git",
            "commit_sha": repository.head(),
            "access_token": "{{ prefect.blocks.secret.slipway-git-token }}",
        }


async def test_remote_worker_runs_the_applied_commit(
    repository: Repository, server: PrefectServer, source: Path, tmp_path: Path
) -> None:
    origin = clone(source, tmp_path / "origin", server)
    flow = origin.folder / "flows" / "where.py"
    flow.write_text(_WHERE.format("as applied"))
    with (origin.folder / SOURCE).open("a") as manifest:
        manifest.write("\n  - {name: there, <<: *shared, entrypoint: 'flows/where.py:where'}\n")
    applied = origin.commit("A flow that says where it is")
    url = f"file://{origin.folder}"
    try:
        done = origin.apply(SLIPWAY_CHECKOUT=None, SLIPWAY_ORIGIN=url)
        assert done.returncode == 0, done.stderr
        flow.write_text(_WHERE.format("later"))
        assert origin.commit("Not applied") != applied

        there = deployments(server)["there"]
        assert there["version"] == applied
        made = server.http.post(f"/deployments/{there['id']}/create_flow_run", json={})
        run = made.raise_for_status().json()["id"]
        worker = Repository(tmp_path, origin.variables).run(
            *("prefect", "worker", "start", "--run-once", "--pool=slipway", "--name=there"),
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )
        state = server.http.get(f"/flow_runs/{run}").json()["state"]
        assert state["type"] == "COMPLETED", worker.stdout + worker.stderr
        where, text = state["message"].split(maxsplit=1)
        assert text == "as applied"
        assert Path(where).name == "where.py"
        assert not Path(where).is_relative_to(origin.folder)
        assert not Path(where).is_relative_to(CHECKOUT)
    finally:
        await apply()
    assert "there" not in deployments(server)


def test_variables_come_from_a_file_unless_they_are_set(
    repository: Repository,
) -> None:
    lines = [f"{name}={value}" for name, value in repository.variables.items()]
    file = repository.folder / ".env"
    file.write_text("\n".join(lines).replace("a-bucket", "another-bucket"))
    try:
        unset: dict[str, str | None] = dict.fromkeys(repository.variables)
        from_file = repository.apply("--dry-run", **unset)
        assert 'bucket_name: "a-bucket" → "another-bucket"' in from_file.stdout, from_file.stderr
        from_both = repository.apply("--dry-run", **unset | {"SLIPWAY_S3_BUCKET": "a-bucket"})
        assert EQUAL in from_both.stdout
    finally:
        file.unlink()


@pytest.mark.usefixtures("repository")
async def test_existing_blocks_need_no_variables_and_incomplete_variables_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLIPWAY_S3_READ_SECRET")
    monkeypatch.delenv("SLIPWAY_S3_BUCKET")
    with pytest.raises(ConfigurationError, match=r": SLIPWAY_S3_BUCKET, SLIPWAY_S3_READ_SECRET\n"):
        await apply()
    for name in STORAGE.to_environment():
        monkeypatch.delenv(name, raising=False)
    assert not await apply()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREFECT_API_AUTH_STRING", "admin:wrong", "refused the credentials: 401"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "does not answer"),
    ],
)
def test_errors_of_the_server_name_the_next_step(
    first: First, name: str, value: str, message: str
) -> None:
    refused = first.repository.apply(**{"PREFECT_CLIENT_MAX_RETRIES": "0", name: value})
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Next:" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.usefixtures("repository")
async def test_neither_server_nor_source_of_code_is_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(ConfigurationError, match="PREFECT_API_URL is not set"),
    ):
        await apply()
    monkeypatch.delenv("SLIPWAY_CHECKOUT")
    monkeypatch.setenv("SLIPWAY_ORIGIN", "/srv/slipway")
    with pytest.raises(ConfigurationError, match="SLIPWAY_ORIGIN is no Git URL"):
        await apply()


async def test_invalid_entrypoint_changes_no_deployment(
    repository: Repository,
) -> None:
    path = repository.folder / SOURCE
    text = path.read_text()
    try:
        for wrong in ("flows/nowhere.py:train", "flows/train.py:nothing"):
            path.write_text(text.replace("flows/train.py:train", wrong))
            with pytest.raises(ConfigurationError, match=wrong):
                await apply(dry_run=True)
        path.write_text(text.replace("git log -1", "git no-such-command"))
        with pytest.raises(ConfigurationError, match="a build step of"):
            await apply(dry_run=True)
    finally:
        path.write_text(text)


@pytest.mark.usefixtures("repository")
async def test_concurrent_applies_create_no_second_automation() -> None:
    from prefect import get_client
    from prefect.events.actions import DoNothing
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    def automation(name: str, seconds: int = 60) -> AutomationCore:
        trigger = EventTrigger(
            posture=Posture.Reactive, expect={"a.b", "a.c", "a.d"}, threshold=1, within=seconds
        )
        return AutomationCore(name=name, trigger=trigger, actions=[DoNothing()])

    async with get_client() as client:

        async def names() -> list[str]:
            return sorted(automation.name for automation in await client.read_automations())

        declared = [automation("slipway: one"), automation("slipway: two")]
        for name in ("of others", "slipway: of old", "slipway: one", "slipway: one"):
            await client.create_automation(automation(name))
        await asyncio.gather(*(reconcile(Automations(client, declared)) for _ in range(3)))
        assert await names() == ["of others", "slipway: one", "slipway: two"]
        assert not await reconcile(Automations(client, declared))

        changed = [automation("slipway: one", 61), declared[1]]
        (change,) = await reconcile(Automations(client, changed))
        assert change.action == "change"
        assert not await reconcile(Automations(client, changed))
        await reconcile(Automations(client, []))
        assert await names() == ["of others"]
    assert {item.kind for item in await apply()} == {"automation"}
