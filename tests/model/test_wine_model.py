"""What we trust about a trained and saved model."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.code.model import support


@pytest.fixture(scope="module")
def folder() -> Path:
    return support.trained_wine()


@pytest.fixture(scope="module")
def answers(folder: Path) -> Any:
    probe = Path(__file__).with_name("probe.py")
    return json.loads(support.model_python(probe, cwd=folder).stdout)


@pytest.fixture(scope="module")
def golden(folder: Path) -> Any:
    return json.loads((folder / "model/wine.golden.json").read_text())


def test_beats_guessing_by_far(answers: dict[str, Any]) -> None:
    assert answers["f1_macro"] > answers["f1_macro_dummy"] + 0.4


def test_other_rows_have_no_influence(answers: dict[str, Any]) -> None:
    assert answers["shuffled"] < 1e-12
    assert answers["one_by_one"] < 1e-12


def test_probabilities_add_up(answers: dict[str, Any]) -> None:
    assert answers["sum"] < 1e-9


def test_golden_predictions_replay(answers: dict[str, Any]) -> None:
    assert answers["golden_predict"]
    assert answers["golden_proba"] < 1e-12


def test_golden_inputs_cover_every_class(golden: dict[str, Any]) -> None:
    assert len(golden["inputs"]) >= 20
    assert set(golden["outputs"]["predict"]) == {0, 1, 2}
    assert all(len(outputs) == len(golden["inputs"]) for outputs in golden["outputs"].values())


def test_interface_asks_for_the_features_and_nothing_else(
    folder: Path, golden: dict[str, Any], answers: dict[str, Any]
) -> None:
    mlem = YAML(typ="safe").load(folder / "model/wine.mlem")
    methods = mlem["processors"]["model"]["methods"]
    for method in methods.values():
        schema = method["args"][0]["type_"]
        assert schema["columns"] == answers["columns"] == list(golden["inputs"][0])
        assert schema["index_cols"] == []
        assert "" not in schema["columns"]
        assert set(schema["dtypes"]) == {"float64"}
