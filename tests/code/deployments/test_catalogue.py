"""What `prefect.yaml` declares is what there is."""

from __future__ import annotations

import importlib
from pathlib import Path

from prefect import Flow
from ruamel.yaml import YAML

from deployments import catalogue
from deployments.blocks import ObjectStorage
from deployments.credentials import S3Identity
from tasks.environments import environment_names
from tasks.settings import CHECKOUT

_DECLARED = YAML(typ="safe").load(CHECKOUT / "prefect.yaml")["deployments"]


def test_every_entry_point_is_a_flow_of_that_name_that_takes_its_parameters() -> None:
    for each in _DECLARED:
        path, _, name = each["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(flow, Flow)
        assert flow.name == name
        assert each.get("parameters", {}).keys() <= flow.parameters.properties.keys()


def test_every_environment_has_its_deployment_of_deploy() -> None:
    deployed = {each["name"] for each in _DECLARED if each["entrypoint"].endswith(":deploy")}
    assert deployed == set(environment_names())
    for each in _DECLARED:
        if each["name"] in deployed:
            assert each["parameters"] == {"environment": each["name"]}


def test_runs_that_must_not_overlap_wait_for_each_other() -> None:
    for each in _DECLARED:
        if each["entrypoint"].endswith((":push", ":deploy")):
            assert each["concurrency_limit"]["limit"] == 1
            assert each["concurrency_limit"]["collision_strategy"] == "ENQUEUE"


def test_the_digest_changes_with_a_flow_and_with_a_secret(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "prefect.yaml").write_text("deployments: []")
    (tmp_path / "flows" / "a.py").write_text("one")

    def digest(secret: str) -> str:
        identity = S3Identity("key", secret)
        return catalogue.digest(tmp_path, ObjectStorage("bucket", identity, identity))

    first = digest("s")
    assert digest("s") == first
    assert digest("t") != first
    (tmp_path / "flows" / "a.py").write_text("two")
    assert digest("s") != first


def test_storage_survives_the_way_through_the_environment() -> None:
    storage = ObjectStorage("b", S3Identity("k", "s"), S3Identity("r", "t"), "http://host:1")
    assert ObjectStorage.from_environment(storage.to_environment()) == storage
    on_aws = ObjectStorage("b", S3Identity("k", "s"), S3Identity("r", "t"), region="eu-west-1")
    assert ObjectStorage.from_environment(on_aws.to_environment()) == on_aws
    assert "'s'" not in repr(storage)
