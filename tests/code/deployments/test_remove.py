"""An environment of the real stack is taken down, once somebody is sure."""

from __future__ import annotations

import os
import subprocess

import pytest

from deployments.local.stack import Stack
from tests.code.deployments.servers import CHECKED_OUT


def _remove(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    place = (f"--home={stack.home}", f"--env-file={os.devnull}")
    return CHECKED_OUT.run("deployments.cli", *place, "remove", *words)


def test_it_says_what_is_live_before_it_does_anything(stack: Stack) -> None:
    asked = _remove(stack, "production")
    assert asked.returncode == 0, asked.stderr
    assert "slipway remove production --yes" in asked.stdout
    done = _remove(stack, "production", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("production is down; before, nothing is live")


@pytest.mark.parametrize(("name", "says"), [("moon", "known: "), ("flyio", "Next: ")])
def test_what_cannot_be_done_is_told_with_what_to_do(stack: Stack, name: str, says: str) -> None:
    refused = _remove(stack, name, "--yes")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
