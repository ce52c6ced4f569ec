"""The outcome and the state of a release, for each point that it can have passed and each error."""

from __future__ import annotations

import asyncio
from copy import copy
from pathlib import Path

import pytest

from tasks.core.errors import (
    CandidateRejected,
    ConfigurationError,
    SlipwayError,
    TerminalError,
    TransientError,
)
from tasks.package.package import Package
from tasks.platforms.base.target import Live
from tasks.platforms.catalogue import load_environment, make_target
from tasks.reports.milestones import Milestone, describe_state, outcome_of
from tasks.reports.release_report import Release
from tasks.repository.workspace import Workspace

# Before a release began there is nothing to roll back; after the switch nobody does.
_STATES = [
    (Milestone.STARTED, None, "nothing was changed"),
    (Milestone.COMPARED, None, "nothing was released; wine@1111111 keeps serving"),
    (Milestone.STAGED, None, "traffic was not switched; wine@1111111 keeps serving"),
    (Milestone.STAGED, True, "traffic was not switched; wine@1111111 keeps serving"),
    (Milestone.STAGED, False, "traffic was not switched; wine@1111111 keeps serving"),
    (Milestone.RELEASING, True, "wine v3 was rolled back; wine@1111111 serves"),
    (
        Milestone.RELEASING,
        False,
        "the rollback did not complete: wine v3 and wine@1111111 may both run",
    ),
    (Milestone.SWITCHING, True, "wine v3 was rolled back; wine@1111111 serves"),
    (
        Milestone.SWITCHING,
        False,
        "the rollback did not complete: wine v3 and wine@1111111 may both run and get traffic",
    ),
    (Milestone.SWITCHED, None, "wine v3 serves all traffic; its release may not be recorded"),
    (Milestone.RECORDED, None, "wine v3 is live and recorded"),
]
_ERRORS = [
    TransientError("lost the lock of local"),
    TransientError("the bucket does not answer", state="what was live goes on serving"),
    TerminalError("the bucket refuses the credentials"),
    ConfigurationError("no such key"),
    CandidateRejected("wine predicts something else", state="what was live goes on serving"),
    TimeoutError(),
    asyncio.CancelledError(),
    RuntimeError("a bug"),
]


def _release(folder: Path) -> Release:
    workspace = Workspace(folder, "3" * 40, "main")
    package = Package(workspace, "wine", "3" * 40, "", "", 0, "3.12.1", {}, {}, "")
    release = Release(package, "local", make_target(load_environment("flyio")), {})
    release.before = Live("a-release", "wine", "1" * 40, "", "", "v1", healthy=True)
    release.version = "v3"
    return release


@pytest.mark.parametrize("error", _ERRORS, ids=repr)
@pytest.mark.parametrize(("milestone", "rolled_back", "state"), _STATES)
def test_state_follows_from_the_milestone_whatever_the_error(
    milestone: Milestone, rolled_back: bool | None, state: str, error: BaseException, tmp_path: Path
) -> None:
    release = _release(tmp_path)
    release.milestone, release.rolled_back = milestone, rolled_back
    error = copy(error)  # it is changed
    release.fail(error)
    data = release.data()
    assert data.state == state
    assert data.reason
    assert data.next_step.startswith("run this flow again") is (rolled_back is False)
    if isinstance(error, SlipwayError):
        assert f"State: {state}" in str(error), "the state of the flow run says it as well"
        assert data.reason == error.what


@pytest.mark.parametrize("error", _ERRORS, ids=repr)
@pytest.mark.parametrize(("milestone", "rolled_back", "state"), _STATES)
def test_outcome_follows_from_the_milestone_and_the_error(
    milestone: Milestone, rolled_back: bool | None, state: str, error: BaseException
) -> None:
    outcome = outcome_of(milestone, error, rolled_back=rolled_back)
    if milestone is Milestone.RECORDED:
        assert outcome == "live"
    elif milestone in {Milestone.RELEASING, Milestone.SWITCHING} and rolled_back:
        assert outcome == "rolled_back"
    elif milestone < Milestone.RELEASING and isinstance(error, CandidateRejected):
        assert outcome == "rejected"
    else:
        assert outcome == "failed"


def test_state_names_only_what_was_live() -> None:
    def state(milestone: Milestone, rolled_back: bool | None = None) -> str:
        return describe_state(milestone, "wine v1", rolled_back=rolled_back)

    assert state(Milestone.STAGED) == "traffic was not switched; nothing is live"
    assert state(Milestone.RELEASING, True) == "wine v1 was rolled back; nothing is live"
    assert state(Milestone.SWITCHING, False) == (
        "the rollback did not complete: wine v1 may run and get traffic"
    )
    ill = describe_state(Milestone.STAGED, "wine v2", "wine v1", healthy_before=False)
    assert ill == (
        "traffic was not switched;"
        " wine v1 keeps serving, which was not healthy before this run either"
    )
