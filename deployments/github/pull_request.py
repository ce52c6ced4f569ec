"""The report on a pull request: what it changes in the model.

`python -m deployments.github.pull_request --base origin/main --to report` holds the model in the
checkout, as `dvc repro` has left it, against the one in a base commit. It writes `report.md` and
the pictures that it shows into a folder, and, in a job of GitHub Actions, the same without pictures
into the job's summary. `deployments.github.sticky_comment` makes a comment of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployments.github.job import without_pictures
from tasks.bucket import dvc
from tasks.core.errors import SlipwayError, TerminalError
from tasks.package.package import read_metrics
from tasks.reports import model_reports
from tasks.reports.pictures import draw
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.training.gate import Verdict, judge, read_rules

REPORT = "report.md"
_HERE = "this branch"
_LONGEST_CARD = 40_000  # a comment has room for 65,536 characters
_PICTURE = re.compile(r"!\[([^]]*)\]\([\w.-]+\.png\)")


def markdown(
    *,
    model: str,
    base: str,
    verdict: Verdict,
    metrics: str,
    parameters: str,
    pictures: Mapping[str, str],
    card: str,
) -> str:
    """The report.

    Args:
        model: Name of the model.
        base: What it is held against.
        verdict: What the gate says.
        metrics: Table of the metrics that differ, empty if none does.
        parameters: Table of the parameters that differ, empty if none does.
        pictures: File names of pictures, by what they show.
        card: The model card.

    Returns:
        Markdown; pictures are links to files beside it.
    """
    passed = "passes the gate" if verdict.passed else "does not pass the gate"
    parts = [
        f"## {'✅' if verdict.passed else '❌'} {model} {passed}",
        "\n".join(f"- {reason}" for reason in verdict.reasons),
        f"The champion is what is in `{base}`.",
        "### Metrics",
        metrics.strip() or f"They are those of `{base}`.",
        "### Parameters",
        parameters.strip() or f"They are those of `{base}`.",
        *(f"### {title}\n\n![{title}]({name})" for title, name in pictures.items()),
    ]
    inside = without_pictures(card).strip()
    if len(inside) > _LONGEST_CARD:
        inside = "It is too long to be shown here."
    parts.append(f"<details>\n<summary>Model card</summary>\n\n{inside}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def for_summary(report: str) -> str:
    """The report for where its pictures cannot be shown: the artifact of the job has them."""
    return _PICTURE.sub(r"The picture is in the artifact `report` of this run.", report)


def specifications(plots: Mapping[str, Any], base: str) -> dict[str, dict[str, Any]]:
    """The plots that can be drawn, out of what `dvc plots diff --json` prints.

    Args:
        plots: What it printed.
        base: The revision it was asked to compare with.

    Returns:
        Vega-Lite specifications by the path of the data; revisions are called what people call
        them.
    """
    called = {"workspace": _HERE, base: base.removeprefix("origin/")}
    found = {}
    for path, several in plots.get("data", {}).items():
        for each in several:
            if each["type"] == "vega":
                rows = each["content"]["data"]["values"]
                named = [{**row, "rev": called.get(row["rev"], row["rev"])} for row in rows]
                found[path] = {**each["content"], "data": {"values": named}}
    return found


def write(folder: Path, base: str, checkout: Path) -> str:
    """Write the report and its pictures.

    Args:
        folder: Where to.
        base: The commit to hold the checkout against.
        checkout: The checkout, with the reports that `dvc repro` wrote.

    Returns:
        The report.

    Raises:
        TerminalError: The checkout has no model, or DVC fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    git = Git(checkout)
    workspace = Workspace(checkout, git("rev-parse", "HEAD"), "HEAD")
    before = git.run("show", f"{base}:reports/metrics.json")
    champion = None if before.code else json.loads(before.stdout)
    pictures = {}
    plots = json.loads(_run(dvc.plots_diff(base), checkout))
    for path, specification in specifications(plots, base).items():
        name = re.sub(r"\W+", "-", str(Path(path).with_suffix(""))) + ".png"
        (folder / name).write_bytes(draw(specification))
        pictures[Path(path).stem.capitalize()] = name
    report = markdown(
        model=workspace.model,
        base=base.removeprefix("origin/"),
        verdict=judge(read_metrics(workspace), champion, read_rules(workspace.parameters)),
        metrics=_rows(_run(dvc.metrics_diff(base), checkout)),
        parameters=_rows(_run(dvc.parameters_diff(base), checkout)),
        pictures=pictures,
        card=asyncio.run(model_reports.model_card(workspace, workspace.commit)),
    )
    (folder / REPORT).write_text(report)
    return report


def _rows(table: str) -> str:
    """A table of DVC's, or nothing if it has a head only."""
    return table if len(table.strip().splitlines()) > 2 else ""


def _run(argv: Sequence[str], checkout: Path) -> str:
    done = subprocess.run(argv, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TerminalError(
            f"{' '.join(argv)} failed: {done.stderr.strip()[-800:]}",
            state="there is no report",
            next_step=f"run it yourself: {' '.join(argv)}",
        )
    return done.stdout


def main() -> int:
    """Write the report from the command line."""
    parser = argparse.ArgumentParser(prog="deployments.github.pull_request", description=__doc__)
    parser.add_argument("--base", required=True, help="commit to hold the checkout against")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        report = write(arguments.to, arguments.base, Path.cwd())
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(for_summary(report))
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
