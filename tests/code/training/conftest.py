"""A lab of its own: these tests push to main, and break the bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.local.stack import Stack
from tests.code.flows.harness import Lab, open_lab


@pytest.fixture(scope="session")
def lab(second_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A stack with nothing trained yet."""
    with open_lab(second_stack, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def delivered(lab: Lab) -> str:
    """The commit on main, with a trained model."""
    lab.run_by_worker("retrain/retrain")
    return lab.head()


@pytest.fixture(scope="session")
def newer(lab: Lab, delivered: str) -> str:
    """A model trained from that commit with an override; pushed, not on main."""
    return _train_candidate(lab, delivered, 2.0)


@pytest.fixture(scope="session")
def newest(lab: Lab, delivered: str, newer: str) -> str:
    """Another one, from the same commit, made later."""
    return _train_candidate(lab, delivered, 3.0)


def _train_candidate(lab: Lab, base: str, cost: float) -> str:
    """Train a model from a commit with an override, save and push it; return its commit."""
    overrides = {"train.grid.C": [cost], "train.grid.gamma": ["scale"]}
    trained = lab.run("train", {"ref": base, "overrides": overrides})
    saved = lab.run("save", {"ref": trained.data})
    pushed = lab.run("push", {"ref": saved.data})
    assert pushed.state == "Completed", trained.log + saved.log + pushed.log
    return str(pushed.data)
