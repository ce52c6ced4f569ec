"""The results of a job of GitHub Actions: its outputs, its summary, an annotation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.prefect_api.release_note import ReleaseNote

# GitHub does not show pictures whose data are in the markdown.
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


def annotation(title: str, text: str) -> str:
    """Return the command that shows an error on the pages of the job's run and of the commit."""
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(character, code)
    return f"::error title={title}::{text}"


@dataclass
class GitHubJob:
    """The job that runs this process; outside of a job, nothing is written.

    Attributes:
        outputs: The file for outputs, None outside of a job.
        report: The file for the summary, None outside of a job.
        title: Commit and environment, for headings.
        run_url: The deploy run in the Prefect UI.
        result: Its result.
    """

    outputs: Path | None
    report: Path | None
    title: str = ""
    run_url: str = ""
    result: DeployResult | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> GitHubJob:
        """Return the job that the variables of GitHub's runner describe."""
        outputs, report = (
            Path(environment[name]) if environment.get(name) else None
            for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        )
        return cls(outputs, report)

    def link_run(self, run_url: str) -> None:
        """Set the output `run_url`, and link the run in the summary however the job ends."""
        self.run_url = run_url
        self._output(run_url=run_url)

    def set_result(self, result: DeployResult) -> None:
        """Set the outputs `outcome` and `url`."""
        self.result = result
        page = result.note.data.page if result.note else None
        self._output(outcome=result.outcome, url=page or "")

    def set_verdict(self, text: str, *, passed: str) -> None:
        """Set the outputs `passed` and `verdict`, which the job `gate` reads.

        Args:
            text: The verdict in words.
            passed: `true`, `false`, or `unknown` if the models were not asked.
        """
        self._output(passed=passed, verdict=text)

    def finish(self, reason: str = "") -> None:
        """Write the summary, and an annotation with the reason if the job fails."""
        if self.report:
            with self.report.open("a") as file:
                file.write(summary(self.title, self.run_url, self.result, reason))
            if reason:
                print(annotation(f"deploy {self.title}", reason), flush=True)

    def _output(self, **values: str) -> None:
        if self.outputs:
            with self.outputs.open("a") as file:
                file.writelines(f"{name}={' '.join(v.split())}\n" for name, v in values.items())
