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
def test_every_parameter_is_explained_and_can_be_left_as_it_is(flow: Flow[..., Any]) -> None:
    schema = _schema(flow)
    is_valid_schema(schema)
    assert schema.get("required", []) == []
    defaults = {}
    for name, each in schema["properties"].items():
        assert each["description"].endswith("."), name
        assert "anyOf" not in each, f"{name}: the form asks for its type before its value"
        defaults[name] = each["default"]
    assert _refused(flow, **defaults) == ""


@pytest.mark.parametrize("flow", [deploy, retrain], ids=lambda flow: flow.name)
def test_environments_are_a_list_to_choose_from(flow: Flow[..., Any]) -> None:
    assert _schema(flow)["properties"]["environment"]["enum"] == environment_names()
    assert _refused(flow, environment="moon") == f"'moon' is not one of {environment_names()}"


@pytest.mark.parametrize("ref", ["main", "candidate/wine-2026-11-25-0a1b2c3d", "a" * 40,
                                 "wine@v0.0.3", "wine#local#7", "v1.0+x"])  # fmt: skip
def test_a_ref_is_what_git_calls_one(ref: str) -> None:
    assert _refused(train, ref=ref) == ""


@pytest.mark.parametrize("ref", ["", "--upload-pack=x", "a b", "a;b", "a" * 201, "a\nb"])
def test_what_is_no_ref_is_refused(ref: str) -> None:
    assert _refused(train, ref=ref)


def test_overrides_are_an_object_with_an_example() -> None:
    overrides = _schema(train)["properties"]["overrides"]
    assert overrides["type"] == "object"
    assert overrides["examples"]
    assert '{"train.cv": 3' in overrides["description"]
    assert _refused(train, overrides=["train.cv"])


def test_a_branch_can_be_left_empty() -> None:
    assert _refused(push, branch="") == ""
    assert _refused(push, branch="--force")
