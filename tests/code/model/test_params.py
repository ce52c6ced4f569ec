"""Mistakes in params.yaml are refused before anything runs, naming key and allowed values."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from model import params
from tests.code.model import support

BAD = [
    # text in params.yaml, what stands there instead, how the message begins and what it mentions
    ("name: wine\n", "nane: wine\n", "nane: unknown key; did you mean 'name'? Allowed: ", "seed"),
    ("name: wine\n", "name: train\n", "name: model/ already has something called 'train'", ""),
    ("name: wine\n", "name: My_Model\n", "name: string does not match", "'My_Model'"),
    ("  drop: []", "  dorp: []", "data.dorp: unknown key; did you mean 'drop'?", "test_size"),
    ("  drop: []", "  drop: [ahs]", "data.drop: 'ahs' is not a column", "did you mean 'ash'?"),
    ("target: target", "target: cultivar", "data.target: 'cultivar' is not a column", "proline"),
    ("task: classification", "task: classify", "data.task: ", "did you mean 'classification'?"),
    ("task: classification", "task: regression", "gate.metric: 'f1_macro' is not ", "rmse"),
    ("test_size: 0.2", "test_size: 1.5", "data.test_size: ", "less than 1, not 1.5"),
    ("test_size: 0.2", "test_size: many", "data.test_size: value is not a valid float", "'many'"),
    ("load_wine\n", "load_wien\n", "data.source: no such file", "load_wine"),
    ("load_wine\n", "load_wine\n  source: x\n", "line 7: found duplicate key", "source"),
    ("sklearn.svm.SVC\n", "sklearn.svm.SCV\n", "train.estimator: unknown class", "sklearn.svm.SVC"),
    ("sklearn.svm.SVC\n", "SVC\n", "train.estimator: unknown class", "mean 'sklearn.svm.SVC'?"),
    ("sklearn.svm.SVC\n", "sklearn.svm.SVR\n", "train.estimator: sklearn.svm.SVR is not a", "task"),
    ("sklearn.svm.SVC\n", "model.train.X\n", "train.estimator: 'model.train.X': code of", "custom"),
    ("sklearn.svm.SVC\n", "json.dumps\n", "train.estimator: 'json.dumps' is not an estimator", ""),
    ("kernel: rbf", "kernell: rbf", "train.params.kernell: ", "did you mean 'kernel'?"),
    (
        "kernel: rbf",
        "kernel: cubic",
        "train.params: The 'kernel' parameter of SVC must be",
        "'rbf'",
    ),
    ("    C: [", "    c: [", "train.grid.c: sklearn.svm.SVC has no parameter 'c'", "Allowed: C"),
    ("[0.1, 1.0, 10.0]", "[-1]", "train.grid.C: The 'C' parameter of SVC must be a float", ""),
    ("[0.1, 1.0, 10.0]", "[]", "train.grid: C has no values", ""),
    ("transformers: []", "transformers: [model.custom.no.X]", "train.transformers[0]: unknown", ""),
    ("cv: 5", "cv: 1", "train.cv: ensure this value is greater than or equal to 2, not 1", ""),
    ("scoring: f1_macro", "scoring: f1_macor", "train.scoring: unknown scorer", "'f1_macro'?"),
    ("scoring: f1_macro", "scoring: r2x", "train.scoring: unknown scorer", "neg_log_loss"),
    ("golden: 32", "golden: 3", "save.golden: ensure this value is greater than", "20"),
    ("golden: 32", "golden: 32\n  arrow: true", "save.arrow: the model environment has", "uv add"),
    ("metric: f1_macro", "metric: f1", "gate.metric: 'f1' is not measured", "f1_macro"),
    ("metric: f1_macro", "metric: log_loss", "gate.minimum: less of log_loss is better", "maximum"),
    (
        "tolerance: 0.01",
        "slices: [hue, ahs < 3]\n  tolerance: 0.01",
        "gate.slices: 'ahs' is not a column that the model takes; did you mean 'ash'?",
        "",
    ),
    (
        "tolerance: 0.01",
        "behaviour: [{column: hue, expect: not lower}]\n  tolerance: 0.01",
        "gate.behaviour.0.label: missing",
        "",
    ),
    (
        "tolerance: 0.01",
        "also: [{metric: log_loss, minimum: 1}]\n  tolerance: 0.01",
        "gate.also.0.minimum: less of log_loss is better: give gate.also.0.maximum instead",
        "",
    ),
    ("seed: 42", "seed: [", "line ", ""),
    ("seed: 42\n", "", "seed: missing", ""),
    ("save:\n  golden: 32\n", "", "save: missing", ""),
]
# With defaults in the code, as every key that a later version brings.
OPTIONAL = """\
  drop: []
  task: classification
  test_size: 0.2
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    folder = support.workspace(tmp_path_factory.mktemp("params") / "w")
    cases = folder / "cases.json"
    # The last four are not mistakes.
    edits = [[old, new] for old, new, *_ in BAD]
    edits += [["[scale, 0.01, 0.1]", "[1e-3]"], ["    gamma: [scale, 0.01, 0.1]\n", ""]]
    edits.append([OPTIONAL, "  task: classification\n"])
    edits.append(["    C: [0.1, 1.0, 10.0]\n    gamma: [scale, 0.01, 0.1]\n", ""])  # an empty grid
    cases.write_text(json.dumps(edits))
    done = support.model_python(Path(__file__).with_name("bad_params.py"), cases, cwd=folder)
    return [(code, item) for code, item in json.loads(done.stdout)]


@pytest.mark.parametrize("i", range(len(BAD)), ids=[f"{new}".strip() for _, new, *_ in BAD])
def test_mistake_is_refused(answers: list[tuple[int, str]], i: int) -> None:
    code, output = answers[i]
    _, _, begins, mentions = BAD[i]
    assert code == 2
    assert f"params.yaml: {begins}" in output
    assert mentions in output
    assert all(line.startswith("params.yaml: ") for line in output.splitlines())


def test_correct_parameters_are_accepted(answers: list[tuple[int, str]]) -> None:
    assert answers[len(BAD) :] == [(0, "")] * 4


def test_stages_name_only_parameters_that_must_be_given() -> None:
    """DVC refuses to run a stage if params.yaml lacks one that it names."""
    stages = YAML(typ="safe").load(support.ROOT / "dvc.yaml")["stages"].values()
    named = {name for stage in stages for name in stage.get("params", [])}
    schema = "from model.params import Params; print(Params.schema_json())"
    description = json.loads(support.model_python("-c", schema, cwd=support.ROOT).stdout)
    required = {*description["required"]}
    for section, definition in description["definitions"].items():
        required |= {f"{section.lower()}.{key}" for key in definition.get("required", [])}
    assert named <= required


def test_error_is_explained_without_values() -> None:
    cell = "-".join(["Al", "ice"])
    with pytest.raises(ValueError, match="Al-ice") as failure:
        float(cell)
    text = params.explain_without_values(failure.value)
    assert "in test_error_is_explained_without_values" in text
    assert "ValueError (the message is left out, since data.private is set" in text
    assert "Al-ice" not in text
