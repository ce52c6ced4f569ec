"""What a job of GitHub Actions leaves behind: its outputs, its summary, an annotation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.release_note import ReleaseNote


def summary(title: str, note: ReleaseNote, seconds: float, run_url: str) -> str:
    """The summary of a deploy, in markdown.

    Args:
        title: Which commit, and where to.
        note: What the run said of itself.
        seconds: How long it ran.
        run_url: Where it is in the Prefect UI.

    Returns:
        A heading and a table.
    """
    metrics = ", ".join(f"{name} {value}" for name, value in note.metrics.items())
    rows = {
        "model version": note.model,
        "metrics": metrics,
        "URL": note.url and f"[{note.url}]({note.url})",
        "duration": f"{seconds:.1f} s",
        "run": f"[in the Prefect UI]({run_url})",
    }
    body = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value)
    return f"### Deploy {title}: {note.outcome}\n\n| | |\n| --- | --- |\n{body}\n"


def annotation(title: str, text: str) -> str:
    """The command with which a job shows an error on the page of its run and of the commit."""
    for character, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(character, code)
    return f"::error title={title}::{text}"


@dataclass
class GitHubJob:
    """The job that we run in, or none.

    Attributes:
        outputs: The file that outputs go to, None outside of a job.
        report: The file that the summary goes to, None outside of a job.
        title: What the job does, for headings.
        run_url: The run that it has asked for.
    """

    outputs: Path | None
    report: Path | None
    title: str = ""
    run_url: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> GitHubJob:
        """The job that the variables of GitHub's runner tell of."""
        outputs, report = (
            Path(environment[name]) if environment.get(name) else None
            for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        )
        return cls(outputs, report)

    def asked(self, run_url: str) -> None:
        """There is a run; whatever happens, the job links to it."""
        self.run_url = run_url
        self._output(run_url=run_url)

    def ended(self, note: ReleaseNote, seconds: float) -> None:
        """The run has ended."""
        self._output(outcome=note.outcome, url=note.url)
        self._summarize(summary(self.title, note, seconds, self.run_url))

    def failed(self, reason: str) -> None:
        """The job fails; says why."""
        link = f"\n[The run in the Prefect UI]({self.run_url})\n" if self.run_url else ""
        self._summarize(f"### Deploy {self.title} failed\n\n```\n{reason}\n```\n{link}")
        if self.report:
            print(annotation(f"deploy {self.title}", reason), flush=True)

    def _output(self, **values: str) -> None:
        if self.outputs:
            with self.outputs.open("a") as file:
                file.writelines(f"{name}={' '.join(v.split())}\n" for name, v in values.items())

    def _summarize(self, text: str) -> None:
        if self.report:
            with self.report.open("a") as file:
                file.write(f"{text}\n")
