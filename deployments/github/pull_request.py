"""The report on a pull request, in a job of GitHub Actions.

`python -m deployments.github.pull_request --base origin/main --environment production --to report`
writes the folder that `deployments.github.sticky_comment` publishes as a comment, the job's summary
without pictures, and the outputs that the job `gate` reads.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from deployments.ci.report import Report, run
from deployments.github.job import GitHubJob

_PICTURE = re.compile(r"!\[([^]]*)\]\([\w.-]+\.png\)")


def summary_of(report: str) -> str:
    """Return the report for the job's summary, which cannot show pictures."""
    return _PICTURE.sub(r"The picture is in the artifact `report` of this run.", report)


def show(_: Path, report: Report) -> None:
    """Write the job's summary and outputs."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(summary_of(report.text))
    GitHubJob.from_environment().set_verdict(report.verdict, passed=report.passed)


if __name__ == "__main__":
    sys.exit(run("deployments.github.pull_request", show))
