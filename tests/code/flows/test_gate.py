"""A commit that makes the model worse gets nowhere where the gate is required, by none of the ways.

The fifth way is a pull request: its check fails, see test_github.py.
"""

from __future__ import annotations

import hashlib

import pytest
import yaml

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab
from tests.stack_access import wait_for_end

# The fixtures deliver a model.
pytestmark = pytest.mark.timeout(900)

_METRICS = '{"f1_macro": 0.3}'


def _lock(text: str) -> str:
    """Have DVC take the metrics for what the stage has made."""
    locked = yaml.safe_load(text)
    (out,) = (o for o in locked["stages"]["evaluate"]["outs"] if o["path"].endswith("metrics.json"))
    digest = hashlib.md5(_METRICS.encode(), usedforsecurity=False).hexdigest()
    out.update(md5=digest, size=len(_METRICS))
    return yaml.safe_dump(locked)


def test_worse_model_gets_nowhere(lab: Lab, delivered: Delivery) -> None:
    worse = lab.commit(
        {"reports/metrics.json": _METRICS, "dvc.lock": _lock},
        delivered.commit,
        "to-worse",
        signed=True,
    )
    reason = "f1_macro 0.3000 misses the minimum 0.9 (gate.minimum)"
    before = lab.refs()
    question = {"ref": "to-worse", "environment": "production"}

    # What it states does not fit its stored answers: both models are started, and answer.
    by_hand = lab.run("gate", {"ref": "to-worse"})
    assert (by_hand.state, by_hand.data["passed"]) == ("Rejected", False), by_hand.log
    assert reason in by_hand.message
    assert "test rows of either, scored by both" in by_hand.message

    retrained = lab.run("retrain", question)
    assert retrained.state == "Rejected", retrained.log
    assert reason in retrained.message
    assert "Running stage" not in retrained.log, "there was nothing to train"

    pushed = lab.run("push", {**question, "branch": "main"})
    assert pushed.error == "CandidateRejected", pushed.log

    deploy = lab.api.create_run("deploy/production", {"ref": worse})
    deploy = wait_for_end(lab.api, deploy.id)
    assert deploy.label == "Failed", deploy.message
    assert f"wine@{worse[:7]} did not pass the gate of production" in deploy.message

    assert lab.refs() == before
