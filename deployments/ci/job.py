"""The result of a deploy, as the job of a CI that waits for it shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployments.prefect_api.release_note import ReleaseNote

# Neither GitHub nor GitLab shows pictures whose data are in the markdown.
_INLINE_PICTURE = re.compile(r"!\[[^]]*\]\(data:[^)]*\)")


@dataclass(frozen=True)
class DeployResult:
    """The result of a deploy run, or its state if it waits.

    Attributes:
        outcome: The outcome of its release, or else the name of its state.
        seconds: Run time.
        note: Its release note, None if it ended before it had a candidate.
    """

    outcome: str
    seconds: float
    note: ReleaseNote | None = None


def without_pictures(markdown: str) -> str:
    """Return markdown without the pictures that are in it as data URIs."""
    return _INLINE_PICTURE.sub("", markdown)


def summary(title: str, run_url: str, result: DeployResult | None, reason: str) -> str:
    """Return the summary of a deploy in markdown: heading, run time, reason, release note.

    Args:
        title: Commit and environment.
        run_url: The run in the Prefect UI; empty if there is none.
        result: Its result, None if it has none.
        reason: Why the job fails; empty if it does not.
    """
    parts = [f"## Deploy {title}: {result.outcome if result else 'failed'}"]
    facts = [f"{result.seconds:.1f} s"] if result else []
    facts += [f"[run in the Prefect UI]({run_url})"] if run_url else []
    parts += [", ".join(facts)] if facts else []
    parts += [f"```\n{reason}\n```"] if reason else []
    if result and result.note:
        parts.append(re.sub(r"^#", "###", without_pictures(result.note.markdown), flags=re.M))
    return "\n\n".join(parts) + "\n"


@dataclass
class DeployJob:
    """The job of a CI that runs this process; outside of a CI, it shows nothing.

    Attributes:
        title: Commit and environment, for headings.
        run_url: The deploy run in the Prefect UI.
        result: Its result.
    """

    title: str = ""
    run_url: str = ""
    result: DeployResult | None = None

    def link_run(self, run_url: str) -> None:
        """Set the output `run_url`, and link the run however the job ends."""
        self.run_url = run_url
        self._output(run_url=run_url)

    def set_result(self, result: DeployResult) -> None:
        """Set the outputs `outcome` and `url`."""
        self.result = result
        page = result.note.data.page if result.note else None
        self._output(outcome=result.outcome, url=page or "")

    def finish(self, reason: str = "") -> None:
        """Write the summary, with the reason if the job fails."""

    def _output(self, **values: str) -> None:
        """Set outputs of the job."""
