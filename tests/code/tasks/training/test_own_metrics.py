"""Scorers of scikit-learn and of one's own, on the answers that both models gave to the gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tasks.core.settings import CHECKOUT
from tasks.package.package import Package
from tasks.repository.workspace import Workspace
from tasks.training.dossier import Evidence
from tasks.training.evidence import Evaluation
from tasks.training.own_metrics import compare_own
from tasks.training.rows import Data, Inputs, SharedRows
from tasks.training.rules import MetricRule, Rules
from tasks.training.scoring import Scores
from tasks.training.served import Model
from tasks.training.trials import weigh_own

_SAVED = """
def saved(model, rows, target):
    return float((rows["amount"] * (model.predict(rows) == target)).sum())
"""
_PARAMETERS = """
name: loans
data: {target: paid, positive: "no"}
train: {metrics: [roc_auc, model.custom.costs.saved]}
"""


async def test_metrics_of_ones_own_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "model" / "custom").mkdir(parents=True)
    (tmp_path / "model" / "custom" / "costs.py").write_text(_SAVED)
    (tmp_path / "params.yaml").write_text(_PARAMETERS)
    random = Random(2)
    actual = ["yes" if row % 2 else "no" for row in range(160)]

    def answer(noise: float) -> Evaluation:
        shares = [(label == "yes") + random.gauss(0, noise) for label in actual]
        shares = [min(1.0, max(0.0, share)) for share in shares]
        predicted = ["yes" if share > 0.5 else "no" for share in shares]
        pairs = [[1 - share, share] for share in shares]
        return Evaluation({}, "", actual, predicted, shares=pairs, classes=["no", "yes"])

    async def make_python(_: Package) -> Path:
        return CHECKOUT / "model" / ".venv" / "bin" / "python"

    package = Package(Workspace(tmp_path, "1", "main"), "loans", "1", "", "", 0, "", {}, {}, "")
    inputs = Inputs({"amount": "number"}, frozenset())
    data = Data(tmp_path, tmp_path, "paid", inputs)
    champion = Model(package, tmp_path, data, ["no", "yes"], make_python)
    rows = [{"amount": "2", "paid": label} for label in actual]
    scores = Scores(SharedRows(rows, 0, 0, former=range(80)), answer(1.5), answer(0.4))
    also = [MetricRule(metric=name, tolerance=0.01) for name in ("accuracy", "saved")]
    rules = Rules(metric="roc_auc", tolerance=0.01, also=also)
    evidence = await weigh_own(scores, rules, champion, Evidence())
    former, comparisons = evidence.former, evidence.comparisons
    assert former
    assert (former.rows, former.source) == (80, "80 test rows of the champion")
    assert former.word(0.01) == "worse", "on easier rows of its own it might not be"
    assert comparisons.keys() == {"roc_auc", "saved"}
    for metric, comparison in comparisons.items():
        assert comparison.word(0.01) == "worse", metric
        assert comparison.interval
        assert comparison.interval[0] < comparison.gain < comparison.interval[1]
    right = sum(a == b for a, b in zip(actual, scores.candidate.predicted, strict=True))
    assert comparisons["saved"].values
    assert comparisons["saved"].values[0] == 2 * right
    wins = sum(
        (yes[1] > no[1]) + (yes[1] == no[1]) / 2
        for yes, a in zip(scores.candidate.shares or (), actual, strict=True)
        for no, b in zip(scores.candidate.shares or (), actual, strict=True)
        if (a, b) == ("yes", "no")
    )
    assert comparisons["roc_auc"].values
    assert comparisons["roc_auc"].values[0] == pytest.approx(wins / 80**2)
    odd = replace(scores, candidate=replace(scores.candidate, predicted=["maybe"] * 160))
    assert await compare_own(odd, rules.metrics, champion) == {}, (
        "of its code, which decides nothing"
    )
