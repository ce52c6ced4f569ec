"""The main job through the worker, and what it leaves behind."""

from __future__ import annotations

import json

import httpx
import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab


def test_subflows_run_in_order_with_short_names(lab: Lab, delivered: Delivery) -> None:
    runs = lab.api.read_run_tree(delivered.retrain.id)
    assert [run.flow for run in runs] == ["retrain", "train", "save", "push"]
    assert all(run.succeeded for run in runs)
    assert runs[1].name == "train main"
    assert runs[3].name == f"push {delivered.candidate[:7]}"


def test_the_live_model_is_the_commit_on_main(lab: Lab, delivered: Delivery) -> None:
    live = lab.live()
    assert (live["name"], live["commit"], live["version"]) == ("wine", delivered.commit, "v0.0.1")
    runtime = lab.show("model/wine.runtime.json", delivered.commit)
    assert live["md5"] == runtime["artifacts"]["model/wine"]["md5"]


def test_origin_has_the_candidate_its_tags_and_nothing_half_done(
    lab: Lab, delivered: Delivery
) -> None:
    refs = lab.refs()
    train = lab.api.read_run_tree(delivered.retrain.id)[1]
    (candidate,) = [ref for ref in refs if ref.endswith(train.id[:8])]
    assert candidate.startswith("refs/heads/candidate/wine-")
    assert refs[candidate] == delivered.commit
    assert f"refs/slipway/runs/{candidate.rpartition('/')[2]}" not in refs
    assert {"refs/tags/wine@v0.0.1", "refs/tags/wine#local#1"} <= set(refs)


def test_bytes_are_in_the_bucket_and_metadata_in_git(lab: Lab, delivered: Delivery) -> None:
    files = lab.git("ls-tree", "-r", "--name-only", delivered.commit).splitlines()
    assert {"dvc.lock", "model/wine.mlem", "model/wine.golden.json"} <= set(files)
    assert not {"model/wine", "model/estimator.pkl", "data/raw.csv"} & set(files)
    size = lab.s3().head_object(Bucket=lab.bucket, Key=lab.model_key())["ContentLength"]
    runtime = lab.show("model/wine.runtime.json")
    assert size == runtime["artifacts"]["model/wine"]["size"]


def test_artifacts_tell_the_story(lab: Lab, delivered: Delivery) -> None:
    artifacts = lab.artifacts(delivered.retrain, delivered.deploy)
    content = {
        artifact["key"]: artifact
        for artifact in artifacts
        for commit in (delivered.candidate, delivered.commit)
        if commit[:7] in (artifact["description"] or "")
    }
    assert "wine-training" in {item["key"] for item in artifacts}
    assert {
        "wine-card", "wine-against-champion",
        "wine-local-release", "wine-local-release-data", "wine-local-page",
    } <= set(content)  # fmt: skip
    card = content["wine-card"]["data"]
    assert "![predictions of wine@" in card
    assert "](data:image/png;base64," in card, "it shows without a bucket to fetch it from"
    assert "| f1_macro |" in card
    assert f"# wine at `{delivered.candidate[:7]}`" in card
    assert "**live**" in content["wine-local-release"]["data"]
    assert f"/runs/flow-run/{delivered.deploy.id}" in content["wine-local-release"]["data"]
    released = json.loads(content["wine-local-release-data"]["data"])
    assert (released["outcome"], released["commit"]) == ("live", delivered.commit)
    assert (released["before"], released["run"]) == (None, delivered.deploy.id)
    assert released["metrics"] == lab.show("reports/metrics.json")
    (timeline,) = [item["data"] for item in artifacts if item["key"] == "wine-local-timeline"]
    assert f"| **v0.0.1** | `{delivered.commit[:7]}` | live |" in timeline
    assert f"/runs/flow-run/{delivered.deploy.id}" in timeline
    assert lab.url in content["wine-local-page"]["data"]
    progress = [item for item in artifacts if item["type"] == "progress"]
    assert progress
    assert all(item["data"] == 100.0 for item in progress)


def test_results_survive_in_the_bucket(lab: Lab, delivered: Delivery) -> None:
    listed = lab.s3().list_objects_v2(Bucket=lab.bucket, Prefix="results/")
    assert listed["KeyCount"] >= 4  # of retrain, train, save and push
    bodies = [
        lab.s3().get_object(Bucket=lab.bucket, Key=content["Key"])["Body"].read().decode()
        for content in listed["Contents"]
    ]
    assert any(delivered.commit in body for body in bodies)


def test_no_secret_is_in_logs_artifacts_or_git(lab: Lab, delivered: Delivery) -> None:
    runs = [run.id for first in (delivered.retrain, delivered.deploy)
            for run in lab.api.read_run_tree(first.id)]  # fmt: skip
    output = "\n".join(line.message for line in lab.api.read_logs(runs, count=200, least_level=0))
    output += json.dumps(lab.artifacts(delivered.retrain, delivered.deploy))
    output += lab.git("log", "--all", "-p")
    for file in lab.stack.logs.glob("*.log"):
        output += file.read_text(errors="replace")
    storage = lab.stack.storage
    for secret in (storage.read_write.secret, storage.read.secret):
        assert secret not in output


def test_child_output_is_in_the_log_line_by_line(lab: Lab, delivered: Delivery) -> None:
    runs = [run.id for run in lab.api.read_run_tree(delivered.retrain.id)]
    lines = [line.message for line in lab.api.read_logs(runs, count=200)]
    assert lines.count("Running stage 'train':") == 1, "save takes it from the cache"
    assert not [line for line in lines if "%|" in line or "\n" in line.strip("\n")]


def test_the_second_time_there_is_nothing_to_do(lab: Lab, delivered: Delivery) -> None:
    before = lab.refs()
    again = lab.run("retrain", {"ref": "main"})
    assert again.message == "nothing to retrain: main has it"
    assert again.data == lab.head()
    assert "Running stage" not in again.log
    deployed = lab.run("deploy", {"ref": "main"})
    assert deployed.data["outcome"] == "live"
    assert "preflight" not in deployed.log
    assert lab.refs() == before


def test_predictions_are_in_the_bucket_by_one_who_may_only_put_them(
    lab: Lab, delivered: Delivery
) -> None:
    row = lab.show("model/wine.golden.json", delivered.commit)["inputs"][0]
    with httpx.Client(base_url=lab.stack.model_url("local"), trust_env=False) as client:
        headers = {"X-Request-Id": "an-order"}
        answer = client.post("/predict", json={"data": {"values": [row]}}, headers=headers)
    prefix = "predictions/wine/local/"
    lab.wait_for_record(prefix, "an-order")
    log = lab.read_log(prefix)
    (record,) = [record for record in log if record["id"] == "an-order"]
    assert (record["type"], record["subject"]) == ("slipway.prediction", "v0.0.1")
    assert record["data"]["commit"] == delivered.commit
    assert record["data"]["inputs"] == [row]
    assert record["data"]["outputs"] == answer.json()
    assert "slipway.proof" in {record["type"] for record in log}
    identity = lab.stack.credentials.put
    store = S3Store(
        lab.bucket, endpoint=lab.stack.s3_endpoint_url, region="us-east-1",
        access_key_id=identity.key_id, secret_access_key=identity.secret,
        client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip
    key = lab.s3().list_objects_v2(Bucket=lab.bucket, Prefix=prefix)["Contents"][0]["Key"]
    for refused in (
        lambda: obstore.put(store, "files/md5/00/11", b"x", use_multipart=False),
        lambda: obstore.get(store, key),
        lambda: obstore.delete(store, key),
        lambda: list(obstore.list(store, "predictions/")),
    ):
        with pytest.raises(BaseError, match=r"privileges|Denied|403"):
            refused()
