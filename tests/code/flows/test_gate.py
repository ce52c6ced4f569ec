"""A commit that makes the model worse gets nowhere where the gate is required, by none of the ways.

The fifth way is a pull request: its check fails, see test_github.py and test_scoring.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab
from tests.stack_access import wait_for_end

# The fixtures deliver a model.
pytestmark = pytest.mark.timeout(900)


def test_worse_model_gets_nowhere(lab: Lab, delivered: Delivery, light_model: Path) -> None:
    """Its pointer was swapped by hand: metrics and answers are the better model's, and signed."""
    worse = lab.commit_model(light_model, delivered.commit, "to-worse", signed=True)
    stated = lab.show("reports/metrics.json", worse)["f1_macro"]
    assert stated > 0.9
    reason = f"states f1_macro {stated:.4f}, its answers to 36 test rows give 0."
    before = lab.refs()
    question = {"ref": "to-worse", "environment": "production"}

    by_hand = lab.run("gate", question)
    assert (by_hand.state, by_hand.data["passed"]) == ("Rejected", False), by_hand.log
    assert reason in by_hand.message

    retrained = lab.run("retrain", question)
    assert retrained.state == "Rejected", retrained.log
    assert reason in retrained.message
    assert "Running stage" not in retrained.log, "there was nothing to train"

    pushed = lab.run("push", {**question, "branch": "main"})
    assert pushed.error == "CandidateRejected", pushed.log

    # Other tests may have left a model there that takes other columns.
    deploy = lab.api.create_run("deploy/production", {"ref": worse, "replace": True})
    deploy = wait_for_end(lab.api, deploy.id)
    assert deploy.label == "Failed", deploy.message
    assert f"wine@{worse[:7]} did not pass the gate of production" in deploy.message
    assert reason in deploy.message
    bundles = lab.stack.home / "bundles" / "production"
    assert not list(bundles.glob(f"*{worse[:7]}*")), "nothing was built"

    assert lab.refs() == before
