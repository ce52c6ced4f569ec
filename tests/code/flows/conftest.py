"""The lab, and a model delivered through the worker as `slipway demo` does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.local.stack import Stack
from deployments.prefect_api.models import FlowRun
from tests.code.flows.harness import Lab, open_lab


@pytest.fixture(scope="session")
def lab(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The stack with nothing delivered yet."""
    with open_lab(stack, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@dataclass(frozen=True)
class Delivery:
    """The main job, done once by the worker.

    Attributes:
        commit: What is live: the candidate and its signature.
        candidate: The commit before it, without the signature.
    """

    retrain: FlowRun
    deploy: FlowRun
    commit: str
    candidate: str


@pytest.fixture(scope="session")
def delivered(lab: Lab) -> Delivery:
    """A trained model on main, live in `local`."""
    retrain = lab.run_by_worker("retrain/retrain")
    deploy = lab.run_by_worker("deploy/local")
    return Delivery(retrain, deploy, lab.head(), lab.head("main^"))


@pytest.fixture(scope="session")
def light(lab: Lab, delivered: Delivery, light_model: Path) -> str:
    """A commit after the delivered one whose model is another, of which a server starts quickly."""
    return lab.commit_model(light_model, delivered.commit, "light")
