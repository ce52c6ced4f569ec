"""What the form of each flow in the Prefect UI offers."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.schema_tools import is_valid_schema, validate

from flows.deploy import deploy
from flows.push import push
from flows.retrain import retrain
from flows.save import save
from flows.train import train
from tasks.platforms.catalogue import environment_names

_FLOWS: list[Flow[..., Any]] = [train, save, push, deploy, retrain]


def _schema(flow: Flow[..., Any]) -> dict[str, Any]:
    return flow.parameters.model_dump()


def _refused(flow: Flow[..., Any], **parameters: Any) -> str:
    errors = validate(parameters, _schema(flow))
    return "; ".join(error.message for error in errors)


@pytest.mark.parametrize("flow", _FLOWS, ids=lambda flow: flow.name)
def test_every_parameter_has_a_description_and_a_default(flow: Flow[..., Any]) -> None:
    schema = _schema(flow)
    is_valid_schema(schema)
    assert schema.get("required", []) == []
    defaults = {}
    for name, item in schema["properties"].items():
        assert item["description"].endswith("."), name
        assert "anyOf" not in item, f"{name}: the form asks for its type before its value"
        defaults[name] = item["default"]
    assert _refused(flow, **defaults) == ""


@pytest.mark.parametrize("flow", _FLOWS, ids=lambda flow: flow.name)
def test_defaults_start_a_run(flow: Flow[..., Any]) -> None:
    # The worker validates them with the function's own types, not with the schema.
    assert flow.validate_parameters({}).keys() == flow.parameters.properties.keys()


@pytest.mark.parametrize("flow", [deploy, retrain], ids=lambda flow: flow.name)
def test_environments_are_offered_as_a_list(flow: Flow[..., Any]) -> None:
    assert _schema(flow)["properties"]["environment"]["enum"] == environment_names()
    assert _refused(flow, environment="moon") == f"'moon' is not one of {environment_names()}"


@pytest.mark.parametrize("ref", ["main", "candidate/wine-2026-11-25-0a1b2c3d", "a" * 40,
                                 "wine@v0.0.3", "wine#local#7", "v1.0+x"])  # fmt: skip
def test_valid_ref_is_accepted(ref: str) -> None:
    assert _refused(train, ref=ref) == ""


@pytest.mark.parametrize("ref", ["", "--upload-pack=x", "a b", "a;b", "a" * 201, "a\nb"])
def test_invalid_ref_is_rejected(ref: str) -> None:
    assert _refused(train, ref=ref)


def test_overrides_are_an_object_with_an_example() -> None:
    overrides = _schema(train)["properties"]["overrides"]
    assert overrides["type"] == "object"
    assert overrides["examples"]
    assert '{"train.cv": 3' in overrides["description"]
    assert _refused(train, overrides=["train.cv"])


def test_branch_can_be_empty() -> None:
    assert _refused(push, branch="") == ""
    assert _refused(push, branch="--force")
