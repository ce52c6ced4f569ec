"""`slipway doctor`, on the real stack: what is well, and what is not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.apply import WITHOUT_SCHEDULES
from deployments.catalogue import block_variables
from deployments.diagnosis import checks, origin
from deployments.doctor import check_catalogue, examine
from deployments.local import ports
from deployments.local.credentials import S3Identity
from deployments.local.ports import HOST
from deployments.local.stack import Stack
from tests.code.deployments.servers import CHECKED_OUT, listed
from tests.stack_access import prefect_http

OPTIONS = frozenset({WITHOUT_SCHEDULES})


def test_local_stack_has_no_problem_and_no_secret_is_shown(stack: Stack) -> None:
    # Not the .env of whoever runs the tests: it may name a server in production.
    place = [f"--home={stack.home}", f"--env-file={os.devnull}"]
    done = CHECKED_OUT.run("deployments.cli", *place, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    for identity in (stack.storage.read_write, stack.storage.read):
        assert identity.secret not in done.stdout + done.stderr


async def test_unreachable_server_is_a_problem_and_the_rest_is_checked(
    shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    away = "http://127.0.0.1:9/api"
    monkeypatch.setenv("PREFECT_API_URL", away)
    with temporary_settings({PREFECT_API_URL: away, PREFECT_CLIENT_MAX_RETRIES: 0}):
        findings = await listed(examine(OPTIONS, local=True, notify=False))
    assert findings["Prefect server"].fix == "slipway up"
    assert findings["origin, to push"].ok


@pytest.mark.usefixtures("shell")
async def test_pool_without_a_worker_is_a_problem(stack: Stack) -> None:
    from prefect import get_client

    pool = {"name": "nobody-works-here", "type": "process"}
    with prefect_http(stack) as http:
        http.post("/work_pools/", json=pool).raise_for_status()
    async with get_client() as client:
        idle = await checks.check_worker(client, "nobody-works-here")
        absent = await checks.check_worker(client, "no-such-pool")
    assert idle.fix == "prefect worker start --pool nobody-works-here"
    assert absent.fix == "slipway apply"


@pytest.mark.usefixtures("shell")
async def test_edits_on_the_server_are_a_problem(stack: Stack) -> None:
    assert (await check_catalogue(OPTIONS)).ok
    with prefect_http(stack) as http:
        deployment = http.get("/deployments/name/train/train").raise_for_status().json()
        path = f"/deployments/{deployment['id']}"
        http.patch(path, json={"tags": ["mine"]}).raise_for_status()
        try:
            finding = await check_catalogue(OPTIONS)
        finally:
            http.patch(path, json={"tags": deployment["tags"]}).raise_for_status()
    assert "1 differ: deployment train/train" in finding.text
    assert finding.fix == "slipway apply --dry-run"


@pytest.mark.usefixtures("shell")
async def test_credentials_with_too_few_or_too_many_rights_are_problems(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect_aws import AwsCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters

    async def save(name: str, identity: S3Identity) -> None:
        credentials: Any = AwsCredentials(
            aws_access_key_id=identity.key_id,
            aws_secret_access_key=identity.secret,
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(endpoint_url=stack.s3_endpoint_url),
        )
        block: Any = S3Bucket(
            bucket_name=stack.storage.bucket, credentials=credentials, bucket_folder="dvc"
        )
        await block.asave(name, overwrite=True)

    writer, reader = stack.storage.read_write, stack.storage.read
    await save("doctor-writes", writer)
    await save("doctor-reads", reader)
    await save("doctor-wrong", S3Identity(writer.key_id, "0" * 40))

    monkeypatch.setenv("SLIPWAY_READ_WRITE_BLOCK", "doctor-reads")
    monkeypatch.setenv("SLIPWAY_READ_BLOCK", "doctor-writes")
    findings = await listed(checks.check_buckets())
    assert "rejected the credentials" in findings["block s3-bucket/doctor-reads"].text
    assert "can put" in findings["block s3-bucket/doctor-writes"].text
    assert "SLIPWAY_S3_READ_KEY_ID" in findings["block s3-bucket/doctor-writes"].fix
    assert findings[f"block s3-bucket/{block_variables.RESULTS}"].ok

    monkeypatch.setenv("SLIPWAY_READ_WRITE_BLOCK", "doctor-absent")
    monkeypatch.setenv("SLIPWAY_READ_BLOCK", "doctor-wrong")
    findings = await listed(checks.check_buckets())
    absent, wrong = (findings[f"block s3-bucket/doctor-{name}"] for name in ("absent", "wrong"))
    assert "does not exist" in absent.text
    assert "rejected the credentials" in wrong.text
    for item in (absent, wrong):
        assert "slipway apply" in item.fix


def objects(stack: Stack) -> list[str]:
    import boto3

    identity = stack.storage.read_write
    client = boto3.client(
        "s3",
        endpoint_url=stack.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.key_id,
        aws_secret_access_key=identity.secret,
    )
    listing = client.list_objects_v2(Bucket=stack.storage.bucket, Prefix="dvc/slipway-doctor")
    return [content["Key"] for content in listing.get("Contents", [])]


@pytest.mark.usefixtures("shell")
async def test_probes_leave_nothing_in_the_bucket(stack: Stack) -> None:
    assert all(item.ok for item in (await listed(checks.check_buckets())).values())
    assert objects(stack) == []


@pytest.fixture
def read_only_origin(stack: Stack) -> Iterator[str]:
    """Origin, served by Git's daemon, which lets nobody push."""
    port = ports.choose({"git": []}, keep={}, companions={})["git"]
    argv = ["git", "daemon", "--export-all", f"--base-path={stack.home}", f"--listen={HOST}"]
    url = f"git://{HOST}:{port}/origin.git"
    with subprocess.Popen([*argv, f"--port={port}", str(stack.origin)]) as daemon:
        deadline = time.monotonic() + 30
        list_remote = ["git", "ls-remote", url]
        while subprocess.run(list_remote, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield url
        daemon.terminate()


async def test_read_only_origin_is_a_problem(
    read_only_origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ORIGIN", read_only_origin)
    findings = await listed(origin.check_origin())
    assert findings["origin, to clone"].ok
    assert not findings["origin, to push"].ok
    assert "SLIPWAY_ORIGIN" in findings["origin, to push"].fix


async def test_unpushed_commit_for_workers_is_a_problem(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path / "clone", check=True)

    (tmp_path / "clone").mkdir()
    git("clone", "--quiet", str(source), ".")
    monkeypatch.setattr(origin, "CHECKOUT", tmp_path / "clone")
    monkeypatch.setenv("SLIPWAY_ORIGIN", f"file://{source}")
    monkeypatch.delenv("SLIPWAY_CHECKOUT", raising=False)
    pushed = await origin.check_pinned_commit()
    assert pushed
    assert pushed.ok, pushed
    (tmp_path / "clone" / "flows" / "new.py").write_text("")
    git("add", "--all")
    git("commit", "--quiet", "--no-gpg-sign", "--message=Not pushed")
    not_pushed = await origin.check_pinned_commit()
    assert not_pushed
    assert "git push" in not_pushed.fix


async def test_unreachable_origin_is_shown_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ORIGIN", "http://me:hush@127.0.0.1:9/slipway.git")
    findings = await listed(origin.check_origin())
    assert not any(finding.ok for finding in findings.values())
    assert "hush" not in repr(findings)


@pytest.mark.usefixtures("shell")
async def test_notification_block_sends_a_message(stack: Stack) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    from prefect import get_client
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    received: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    async with get_client() as client:
        none = await checks.check_notification(client, send=True)
        assert block_variables.NOTIFY_VARIABLE in none.text
        with HTTPServer((HOST, 0), Receiver) as http:
            Thread(target=http.serve_forever, daemon=True).start()
            block: Any = CustomWebhookNotificationBlock(
                name="test", url=f"http://{HOST}:{http.server_port}/", json_data={"a": "{{body}}"}
            )
            document = await block.asave(block_variables.NOTIFY, overwrite=True)
            try:
                assert (await checks.check_notification(client, send=False)).ok
                assert not received
                assert (await checks.check_notification(client, send=True)).text == "sent a message"
                http.shutdown()
            finally:
                await client.delete_block_document(document)
    assert b"notifications work" in received[0]
