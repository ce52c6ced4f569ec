"""How far a release came, and what follows from it: its outcome, and what serves now.

Pure functions. What a person reads about the state of an environment is made here, from facts that
the deploy flow knows, and not by whatever failed: a lost lock, say, does not know what is live.
"""

from __future__ import annotations

from enum import IntEnum

from tasks.core.errors import CandidateRejected
from tasks.reports.release_data import Outcome


class Milestone(IntEnum):
    """The last point that a release has passed."""

    STARTED = 0
    COMPARED = 1  # what is live before the release is known
    STAGED = 2  # preflight passed; the platform runs nothing of the candidate
    RELEASING = 3  # the candidate may run, and gets traffic on platforms that switch by themselves
    SWITCHING = 4  # the candidate may have any share of the traffic
    SWITCHED = 5  # the candidate has all traffic, and passed its proof
    RECORDED = 6  # the history on origin has the release


def outcome_of(
    milestone: Milestone, error: BaseException, *, rolled_back: bool | None = None
) -> Outcome:
    """Return the outcome of a release that an error ended.

    Args:
        milestone: The last point that it passed.
        error: What ended it.
        rolled_back: Whether a rollback succeeded, None if none was tried.
    """
    if milestone is Milestone.RECORDED:
        return "live"
    if milestone >= Milestone.RELEASING and rolled_back:
        return "rolled_back"
    if milestone < Milestone.RELEASING and isinstance(error, CandidateRejected):
        return "rejected"
    return "failed"


def describe_state(
    milestone: Milestone,
    candidate: str,
    before: str = "",
    *,
    healthy_before: bool = True,
    rolled_back: bool | None = None,
) -> str:
    """Return what serves after an error ended a release, in one clause.

    Args:
        milestone: The last point that the release passed.
        candidate: Label of what was to be released.
        before: Label of what was live before; empty if nothing was.
        healthy_before: Whether that answered as it should.
        rolled_back: Whether a rollback succeeded, None if none was tried.
    """
    ill = "" if healthy_before else ", which was not healthy before this run either"
    keeps = f"{before} keeps serving{ill}" if before else "nothing is live"
    states = {
        Milestone.STARTED: "nothing was changed",
        Milestone.COMPARED: f"nothing was released; {keeps}",
        Milestone.STAGED: f"traffic was not switched; {keeps}",
        Milestone.SWITCHED: f"{candidate} serves all traffic; its release may not be recorded",
        Milestone.RECORDED: f"{candidate} is live and recorded",
    }
    if milestone in states:
        return states[milestone]
    if rolled_back:
        serves = f"{before} serves{ill}" if before else "nothing is live"
        return f"{candidate} was rolled back; {serves}"
    both = f"{candidate} and {before} may both run" if before else f"{candidate} may run"
    traffic = " and get traffic" if milestone is Milestone.SWITCHING else ""
    return f"the rollback did not complete: {both}{traffic}"
