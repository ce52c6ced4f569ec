"""The lab, and a model delivered through the worker as `make demo` does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from tests.code.flows.harness import Lab, flow_fork_server


@pytest.fixture(scope="session")
def lab(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The stack with nothing delivered yet."""
    with PrefectAPI(stack.prefect_api_url) as api, flow_fork_server(stack) as forks:
        yield Lab(stack, api, tmp_path_factory.mktemp("lab"), forks)


@dataclass(frozen=True)
class Delivery:
    """The main job, done once by the worker."""

    retrain: FlowRun
    deploy: FlowRun
    commit: str


def _through_the_worker(lab: Lab, deployment: str) -> FlowRun:
    run = lab.api.create_run(deployment, {"ref": "main"})
    *_, last = lab.api.follow(run.id)
    lines = "\n".join(line.message for line in lab.api.read_logs([run.id]))
    assert last.run.succeeded, f"{last.run.state}: {last.run.message}\n{lines}"
    return last.run


@pytest.fixture(scope="session")
def delivered(lab: Lab) -> Delivery:
    """A trained model on main, live in `local`."""
    retrain = _through_the_worker(lab, "retrain/retrain")
    deploy = _through_the_worker(lab, "deploy/local")
    return Delivery(retrain, deploy, lab.head())


def _candidate(lab: Lab, base: str, cost: float) -> str:
    overrides = {"train.grid.C": [cost], "train.grid.gamma": ["scale"]}
    trained = lab.run("train", {"ref": base, "overrides": overrides})
    saved = lab.run("save", {"ref": trained.data})
    pushed = lab.run("push", {"ref": saved.data})
    assert pushed.state == "Completed", trained.log + saved.log + pushed.log
    return str(pushed.data)


@pytest.fixture(scope="session")
def newer(lab: Lab, delivered: Delivery) -> str:
    """A model trained from the delivered commit with an override; pushed, not on main."""
    return _candidate(lab, delivered.commit, 2.0)


@pytest.fixture(scope="session")
def newest(lab: Lab, delivered: Delivery, newer: str) -> str:
    """Another one, from the same commit, made later."""
    return _candidate(lab, delivered.commit, 3.0)


@pytest.fixture(scope="session", autouse=True)
def wrong_credentials(lab: Lab) -> None:
    """A block `wrong-credentials`, whose secret is not the bucket's."""
    lab.block("wrong-credentials", aws_secret_access_key="wrong")
