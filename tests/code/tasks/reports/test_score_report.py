"""The report on scores shows what code of a model has written as text."""

from __future__ import annotations

from tasks.reports.score_report import write_report


def test_reasons_are_no_markdown() -> None:
    facts = {
        "source": "data/scores/a_b.csv", "target": "s3://models/scores/a", "method": "predict",
        "version": "v0.0.2", "commit": "8c1f", "time": "2026-11-30T12:00:00+00:00",
        "rows": 12_000, "rejected": 2,
        "problems": {"![x](http://evil/)\n# a|b": (2, ["a.csv row 3", "<img src=x>"])},
    }  # fmt: skip
    lines = write_report("Scores of wine", facts).splitlines()
    assert lines[0] == "# Scores of wine"
    assert "| rows | 12,000 |" in lines
    assert r"| source | data/scores/a\_b.csv |" in lines
    reason = r"\!\[x\](http://evil/) \# a\|b"
    assert lines[-1] == rf"| 2 | {reason} | a.csv row 3, \<img src=x\> |"
    assert "problems" not in write_report("Scores of wine", {**facts, "problems": {}})
