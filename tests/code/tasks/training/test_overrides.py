from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks.core.errors import ConfigurationError
from tasks.training.overrides import replace_values
from tests.template import OVERLAY

TEXT = """\
name: "wine"   # quoted
data:
  source: 'data/source/a.csv'
  version: '1.10'
  schema:
      zip:   {type: text}
train:
  params:
  grid:
    # values of the penalty
    C:
    - 0.1
    - 1.0   # ten
    gamma: [scale, 0.01,   0.1]

  note: a plain line that goes on and on, and is longer than the eighty characters of a writer
  cv: 5 # folds
"""


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("train.cv", 3, "cv: 5 # folds", "cv: 3 # folds"),
        ("name", "grape", '"wine"   # quoted', "grape   # quoted"),
        ("data.version", "2.0", "'1.10'", '"2.0"'),
        ("data.source", "no", "'data/source/a.csv'", '"no"'),
        ("train.grid.gamma", ["auto", 1e-9], "[scale, 0.01,   0.1]", '["auto", 1e-09]'),
        ("train.grid.C", [2.0], "\n    - 0.1\n    - 1.0   # ten", " [2.0]   # ten"),
        ("train.params", {"kernel": "rbf"}, "params:", 'params: {"kernel": "rbf"}'),
        ("train.params", None, "params:", "params: null"),
        ("data.schema.zip", {"type": "number"}, "{type: text}", '{"type": "number"}'),
        ("data.schema", {}, "\n      zip:   {type: text}", " {}"),
        ("train.note", "é: #" * 40, TEXT[TEXT.index("a plain") : TEXT.index("\n  cv")],
         '"' + "é: #" * 40 + '"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_override_changes_nothing_but_its_value(
    key: str, value: Any, old: str, new: str, line_end: str
) -> None:
    before, after = (text.replace("\n", line_end) for text in (TEXT, TEXT.replace(old, new, 1)))
    assert replace_values(before, {key: value}) == after


def test_overrides_of_the_template_are_those_values() -> None:
    before = (OVERLAY / "params.yaml").read_text()
    overrides = {"train.grid": {"C": [0.5]}, "data.drop": ["ash", "hue"], "gate.minimum": 0}
    expected = YAML(typ="safe").load(before)
    expected["train"]["grid"] = {"C": [0.5]}
    expected["data"]["drop"], expected["gate"]["minimum"] = ["ash", "hue"], 0
    assert YAML(typ="safe").load(replace_values(before, overrides)) == expected


def test_key_may_be_a_number_or_have_a_dot() -> None:
    text = "schema:\n  a.b: {type: text}\nclass_weight: {0: 1, 1: 5}\n"
    overrides = {"schema.a.b.type": "date", "class_weight.1": 9}
    expected = text.replace("text", "date").replace("1: 5", "1: 9")
    assert replace_values(text, overrides) == expected


def test_value_that_others_share_is_refused() -> None:
    text = "a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n"
    for key in ("a.x", "b", "c.x"):
        with pytest.raises(ConfigurationError, match="overrides cannot be written into params"):
            replace_values(text, {key: 9})
    assert replace_values(text, {"c.y": 3}) == text.replace("y: 2", "y: 3")
