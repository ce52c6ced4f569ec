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


def test_remove_without_yes_only_reports(stack: Stack) -> None:
    report = _remove(stack, "production")
    assert report.returncode == 0, report.stderr
    assert "slipway remove production --yes" in report.stdout
    done = _remove(stack, "production", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("production is down; before, nothing is live")


@pytest.mark.parametrize(("name", "says"), [("moon", "known: "), ("flyio", "Next: ")])
def test_refusals_name_the_next_step(stack: Stack, name: str, says: str) -> None:
    refused = _remove(stack, name, "--yes")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr
