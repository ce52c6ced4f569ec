"""What a job of GitHub Actions leaves behind: its outputs, its summary, an annotation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.prefect_api.release_note import ReleaseNote

# GitHub shows no pictures that the markdown carries itself.
_CARRIED_PICTURE = re.compile(r"!\[[^]]*\]\(data:[^)]*\)")


@dataclass(frozen=True)
class Ended:
    """How far the run of a deploy has come.

    Attributes:
        outcome: Its outcome.
        seconds: How long it ran.
        note: What it said of itself, None if it had nothing to say.
    """

    outcome: str
    seconds: float
    note: ReleaseNote | None = None


def without_pictures(markdown: str) -> str:
    """Markdown without the pictures that it carries itself, as data URIs."""
    return _CARRIED_PICTURE.sub("", markdown)


def summary(title: str, run_url: str, ended: Ended | None, reason: str) -> str:
    """The summary of a deploy, in markdown.

    Args:
        title: Which commit, and where to.
        run_url: The run in the Prefect UI, empty if there is none.
        ended: How it ended, None if it has not.
        reason: Why the job fails, empty if it does not.

    Returns:
        A heading, how long it took, the reason, the release note.
    """
    parts = [f"## Deploy {title}: {ended.outcome if ended else 'failed'}"]
    facts = [f"{ended.seconds:.1f} s"] if ended else []
    facts += [f"[run in the Prefect UI]({run_url})"] if run_url else []
    parts += [", ".join(facts)] if facts else []
    parts += [f"```\n{reason}\n```"] if reason else []
    if ended and ended.note:
        parts.append(re.sub(r"^#", "###", without_pictures(ended.note.markdown), flags=re.M))
    return "\n\n".join(parts) + "\n"


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
        end: How that run ended.
    """

    outputs: Path | None
    report: Path | None
    title: str = ""
    run_url: str = ""
    end: Ended | None = None

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

    def ended(self, end: Ended) -> None:
        """The run has ended, or waits."""
        self.end = end
        self._output(outcome=end.outcome, url=(end.note and end.note.data.page) or "")

    def finish(self, reason: str = "") -> None:
        """Write the summary, and say why the job fails if it does."""
        if self.report:
            with self.report.open("a") as file:
                file.write(summary(self.title, self.run_url, self.end, reason))
            if reason:
                print(annotation(f"deploy {self.title}", reason), flush=True)

    def _output(self, **values: str) -> None:
        if self.outputs:
            with self.outputs.open("a") as file:
                file.writelines(f"{name}={' '.join(v.split())}\n" for name, v in values.items())
