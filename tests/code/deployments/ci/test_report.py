"""The report on a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployments.ci.report import markdown, plot_specifications, read_rules
from deployments.github.pull_request import summary_of
from tasks.repository.git import Git
from tasks.training.gate import Verdict
from tests.commits import commit_all


def report(**changes: Any) -> str:
    facts: dict[str, Any] = {
        "model": "wine",
        "base": "main",
        "verdict": Verdict(True, ("f1_macro 0.97 meets the minimum 0.9",)),
        "metrics": "| Metric | Change |\n|---|---|\n| f1_macro | 0.03 |\n",
        "parameters": "",
        "pictures": {"Predictions": "reports-predictions.png"},
        "card": f"# wine\n\n![predictions](data:image/png;base64,{'A' * 90_000})\n\nWords",
    }
    return markdown(**{**facts, **changes})


def test_report_has_verdict_differences_and_card_in_this_order() -> None:
    text = report()
    assert text.startswith("## ✅ wine passes the gate\n\n- f1_macro 0.97 meets the minimum 0.9\n")
    assert "### Metrics\n\n| Metric | Change |" in text
    assert "### Parameters\n\nThe same as in `main`." in text
    assert "![Predictions](reports-predictions.png)" in text
    assert "<summary>Model card</summary>\n\n# wine" in text
    assert "data:image" not in text  # GitHub would not show it


def test_report_shows_a_model_that_does_not_pass() -> None:
    text = report(verdict=Verdict(False, ("worse than accepted",)))
    assert text.startswith("## ❌ wine does not pass the gate\n\n- worse than accepted\n")


def test_report_claims_no_verdict_on_models_that_were_not_asked() -> None:
    text = report(verdict=Verdict(True, ("f1_macro 0.99 meets the minimum",), is_scored=False))
    assert text.startswith("## ❔ wine was not scored\n\nNot scored: there is no access")
    assert "passes" not in text
    rejected = report(verdict=Verdict(False, ("misses the minimum",), is_scored=False))
    assert rejected.startswith("## ❌ wine does not pass the gate\n\nNot scored: ")


def test_card_too_long_for_a_comment_is_left_out() -> None:
    text = report(card="x" * 100_000)
    assert len(text) < 65_536
    assert "too long" in text


def test_summary_names_the_artifact_with_the_pictures() -> None:
    text = summary_of(report())
    assert "reports-predictions.png" not in text
    assert "artifact `report`" in text


def test_revisions_have_names_that_people_know() -> None:
    def plot(kind: str, *revisions: str) -> dict[str, Any]:
        rows = [{"actual": "1", "rev": revision} for revision in revisions]
        return {"type": kind, "content": {"mark": "rect", "data": {"values": rows}}}

    plots = {
        "data": {
            "reports/a.csv": [plot("vega", "workspace", "origin/main")],
            "picture.png": [{"type": "image", "url": "somewhere"}],
            "reports/none.csv": [],
        }
    }
    ((path, specification),) = plot_specifications(plots, "origin/main").items()
    assert path == "reports/a.csv"
    assert specification["mark"] == "rect"
    assert [row["rev"] for row in specification["data"]["values"]] == ["this branch", "main"]
    assert plot_specifications({}, "origin/main") == {}


def test_rules_are_those_of_the_base_although_the_branch_has_others(tmp_path: Path) -> None:
    file = tmp_path / "deployments" / "environments" / "production.toml"
    file.parent.mkdir(parents=True)
    text = 'target = "process"\nport = 8081\ngate_rules = {metric = "f1_macro", minimum = %s}\n'
    file.write_text(text % 0.95)
    base = commit_all(tmp_path, "base")
    file.write_text(text % 0.1)
    commit_all(tmp_path, "branch")
    rules = read_rules(Git(tmp_path), base, "production")
    assert rules
    assert (rules.metric, rules.minimum) == ("f1_macro", 0.95)
    assert read_rules(Git(tmp_path), base, "staging") is None
