"""The outcome of a release as data: what the deploy flow returns and publishes, and others read.

It needs nothing but the standard library, so that a CI job can read it without Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

# live: it serves, and the history of the environment has it.
# rolled_back: it was started on the platform, failed there, and what was live before serves again.
# rejected: the candidate failed its checks, or a person or a rule said no.
# superseded: something newer is live.
# failed: it could not be done, for instance because of an outage, a crash or wrong credentials.
Outcome = Literal["live", "rolled_back", "rejected", "superseded", "failed"]

# The key of the artifact ends so.
KEY_SUFFIX = "-release-data"


@dataclass(frozen=True)
class PreviousRelease:
    """The release that was live when the deploy began.

    Attributes:
        version: Name of the model version, None if it has none.
        commit: The commit that it was made from.
        metrics: Its metrics on its test split, None if its commit has none.
    """

    version: str | None
    commit: str
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ReleaseData:
    """One release and its outcome, in values that JSON has.

    Attributes:
        version: Name of the model version, None if the commit was not registered as one.
        md5: md5 of the model file.
        url: Public URL of the environment; empty if the platform has none yet.
        page: Address of the page to try the model, None where browsers cannot.
        reason: Why the release ended so.
        state: What serves now, and what is left behind; empty where `outcome` says it all.
        next_step: What to do about it; empty if nothing.
        before: What was live before, None if nothing was, or nobody could find out.
        rollback: Whether it went back to an earlier version.
        run: Id of the flow run.
        seconds: Time from the start of the release until its outcome was known.
    """

    outcome: Outcome
    model: str
    version: str | None
    commit: str
    md5: str
    environment: str
    url: str
    page: str | None
    reason: str
    state: str
    next_step: str
    metrics: Mapping[str, float]
    before: PreviousRelease | None
    rollback: bool
    run: str | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the release as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned, also that of a later version with more keys.

        Raises:
            KeyError: A key is missing.
        """
        known = _known(cls, values)
        before = known["before"]
        if before:
            before = PreviousRelease(**_known(PreviousRelease, before))
        return cls(**{**known, "before": before or None})


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind)}
