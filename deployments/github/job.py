"""The results of a job of GitHub Actions: its outputs, its summary, an annotation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.ci.job import DeployJob, summary


def annotation(title: str, text: str) -> str:
    """Return the command that shows an error on the pages of the job's run and of the commit."""
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(character, code)
    return f"::error title={title}::{text}"


@dataclass
class GitHubJob(DeployJob):
    """The job that runs this process; outside of a job, nothing is written.

    Attributes:
        outputs: The file for outputs, None outside of a job.
        report: The file for the summary, None outside of a job.
    """

    outputs: Path | None = None
    report: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> GitHubJob:
        """Return the job that the variables of GitHub's runner describe."""
        outputs, report = (
            Path(environment[name]) if environment.get(name) else None
            for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        )
        return cls(outputs=outputs, report=report)

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
