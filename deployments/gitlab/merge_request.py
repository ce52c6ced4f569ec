"""The report on a merge request, in a job of GitLab CI.

`python -m deployments.gitlab.merge_request --base origin/main --environment production --to report`
writes the folder that `deployments.gitlab.sticky_note` publishes as a note, and beside it two files
with the verdict, which the job `gate` reads.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.ci.report import Report, run


def show(folder: Path, report: Report) -> None:
    """Write the verdict for the job `gate`.

    Into files, not into a report of the kind `dotenv`: its variables would reach the job that has
    the token, and the code of a merge request could name any.
    """
    (folder / "passed").write_text(f"{report.passed}\n")
    (folder / "verdict").write_text(f"{' '.join(report.verdict.split())}\n")


if __name__ == "__main__":
    sys.exit(run("deployments.gitlab.merge_request", show))
