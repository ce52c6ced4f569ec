"""The report on a merge or pull request: its changes to the model.

It compares the model in the checkout, as `dvc repro` left it, with that of a base commit, and
writes `report.md` and its pictures into a folder. `deployments.github.pull_request` and
`deployments.gitlab.merge_request` are its commands; another job publishes the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deployments.ci.comment import REPORT
from deployments.ci.job import without_pictures
from deployments.ci.scoring import score
from tasks.bucket import dvc
from tasks.core.errors import SlipwayError, TerminalError
from tasks.package.package import read_metrics
from tasks.platforms.catalogue import load_environment
from tasks.reports import model_reports
from tasks.reports.markdown import findings_table
from tasks.reports.pictures import draw, draw_intervals
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.training.gate import Verdict, judge
from tasks.training.rules import PARAMETERS, Rules, TrustedRules, find_rules
from tasks.training.verdict import compare_stored

_HERE = "this branch"
_INTERVALS = "intervals.png"
NOT_SCORED = (
    "Not scored: there is no access to the bucket here, so the models were not asked; the gate of"
    " the deploy will score them. What follows are the metrics that the commits state."
)
_LONGEST_CARD = 40_000  # a comment has room for 65,536 characters


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        text: Its markdown.
        passed: `true`, `false`, or `unknown` if the models were not asked.
        verdict: The verdict of the gate in words.
    """

    text: str
    passed: str
    verdict: str


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
    """Return the report in markdown, with links to pictures in the same folder.

    Args:
        model: Name of the model.
        base: Branch of the champion.
        verdict: Verdict of the gate.
        metrics: Table of the metrics that differ; empty if none does.
        parameters: Table of the parameters that differ; empty if none does.
        pictures: File names of pictures by their titles.
        card: The model card.
    """
    parts = [
        f"## {model_title(model, verdict)}",
        *([] if verdict.is_scored else [NOT_SCORED]),
        "\n".join(f"- {reason}" for reason in verdict.reasons),
        f"The champion is the model in `{base}`; the rules are those of {verdict.source}.",
        *filter(None, [findings_table(verdict.findings)]),
        "### Metrics",
        metrics.strip() or f"The same as in `{base}`.",
        "### Parameters",
        parameters.strip() or f"The same as in `{base}`.",
        *(f"### {title}\n\n![{title}]({name})" for title, name in pictures.items()),
    ]
    details = without_pictures(card).strip()
    if len(details) > _LONGEST_CARD:
        details = "The model card is too long for a comment."
    parts.append(f"<details>\n<summary>Model card</summary>\n\n{details}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def model_title(model: str, verdict: Verdict) -> str:
    """Return the verdict in a line."""
    if not verdict.passed:
        return f"❌ {model} does not pass the gate"
    return f"✅ {model} passes the gate" if verdict.is_scored else f"❔ {model} was not scored"


def plot_specifications(plots: Mapping[str, Any], base: str) -> dict[str, dict[str, Any]]:
    """Return the Vega-Lite specifications in the output of `dvc plots diff --json`.

    Args:
        plots: The output.
        base: The base revision of the comparison.

    Returns:
        Specifications by the path of their data, with revisions named as people know them.
    """
    names = {"workspace": _HERE, base: base.removeprefix("origin/")}
    specifications = {}
    for path, plots_of_path in plots.get("data", {}).items():
        for plot in plots_of_path:
            if plot["type"] == "vega":
                rows = plot["content"]["data"]["values"]
                renamed = [{**row, "rev": names.get(row["rev"], row["rev"])} for row in rows]
                specifications[path] = {**plot["content"], "data": {"values": renamed}}
    return specifications


def read_rules(git: Git, base: str, environment: str) -> Rules | None:
    """Return the gate's rules in the file of an environment, None if the base has none.

    Args:
        git: Git in the checkout.
        base: The commit whose file counts.
        environment: Name of the environment.

    Raises:
        ConfigurationError: The file is wrong.
    """
    name = f"{environment}.toml"
    shown = git.run("show", f"{base}:deployments/environments/{name}")
    if shown.code:
        return None
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(shown.stdout)
        return load_environment(environment, Path(folder)).gate_rules


def write(folder: Path, base: str, environment: str, checkout: Path) -> Report:
    """Write the report and its pictures.

    The model is judged by the rules of the base: a pull request does not choose its own.

    Args:
        folder: The folder to write to.
        base: The commit to compare with.
        environment: Name of the environment that main is deployed to.
        checkout: The checkout, with the reports that `dvc repro` wrote.

    Raises:
        TerminalError: The checkout has no model, or DVC fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    git = Git(checkout)
    workspace = Workspace(checkout, git("rev-parse", "HEAD"), "HEAD")
    name = base.removeprefix("origin/")
    before = git.run("show", f"{base}:reports/metrics.json")
    champion = None if before.code else json.loads(before.stdout)
    metrics = read_metrics(workspace)
    own = read_rules(git, base, environment)
    trusted = TrustedRules(environment, own, checkout / PARAMETERS, checkout=_HERE)
    shown = git.run("show", f"{base}:{PARAMETERS}")
    rules, source = find_rules(trusted, metrics, name, "" if shown.code else shown.stdout)
    evidence = asyncio.run(
        compare_stored(workspace, metrics, base, champion, rules, is_offline=True)
    )
    rules = rules.model_copy(update={"tests": False})  # the job `model` runs them
    evidence = asyncio.run(score(workspace, base, rules, evidence))
    verdict = judge(metrics, champion, rules, source, evidence)
    pictures = {}
    if verdict.findings:
        (folder / _INTERVALS).write_bytes(draw_intervals(verdict.findings))
        pictures["Gains with intervals"] = _INTERVALS
    plots = json.loads(_run(dvc.plots_diff(base), checkout))
    for path, specification in plot_specifications(plots, base).items():
        picture = re.sub(r"\W+", "-", str(Path(path).with_suffix(""))) + ".png"
        (folder / picture).write_bytes(draw(specification))
        pictures[Path(path).stem.capitalize()] = picture
    report = markdown(
        model=workspace.model,
        base=name,
        verdict=verdict,
        metrics=_rows(_run(dvc.metrics_diff(base), checkout)),
        parameters=_rows(_run(dvc.parameters_diff(base), checkout)),
        pictures=pictures,
        card=asyncio.run(
            model_reports.model_card(workspace, workspace.commit, base, is_offline=True)
        ),
    )
    (folder / REPORT).write_text(report)
    passed = "unknown" if verdict.passed and not verdict.is_scored else str(verdict.passed).lower()
    text = verdict.text if verdict.is_scored else f"{NOT_SCORED} {verdict.text}"
    return Report(report, passed, text)


def _rows(table: str) -> str:
    """Return a table of DVC's; empty if it has a head only."""
    return table if len(table.strip().splitlines()) > 2 else ""


def _run(argv: Sequence[str], checkout: Path) -> str:
    with TemporaryDirectory() as cache:  # DVC unpickles what it finds there
        result = subprocess.run(
            argv,
            cwd=checkout,
            env=os.environ | {"DVC_SITE_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise TerminalError(
            f"{' '.join(argv)} failed: {result.stderr.strip()[-800:]}",
            state="no report was written",
            next_step=f"run it yourself: {' '.join(argv)}",
        )
    return result.stdout


def run(program: str, show: Callable[[Path, Report], None]) -> int:
    """Write the report from the command line of a job.

    Args:
        program: Name of the job's program.
        show: Shows the report in the folder as the job's CI does.
    """
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--base", required=True, help="commit to compare the checkout with")
    parser.add_argument(
        "--environment", required=True, help="environment whose gate will judge the model"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        report = write(arguments.to, arguments.base, arguments.environment, Path.cwd())
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(report.text)
    show(arguments.to, report)
    return 0
