"""The tests of two samples agree with SciPy's, and a profile with its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.monitoring.profile import Profile
from tasks.monitoring.two_samples import (
    chi_square_tail,
    compare_categories,
    compare_numbers,
)
from tests.code.model import support


@pytest.fixture(scope="module")
def samples() -> dict[str, Any]:
    script = Path(__file__).with_name("make_samples.py")
    return dict(json.loads(support.model_python(script, cwd=support.ROOT).stdout))


def test_numbers_are_compared_as_by_scipy(samples: dict[str, Any]) -> None:
    for reference, values, distance, chance in samples["numbers"]:
        result = compare_numbers(reference, len(reference), values)
        assert result.distance == pytest.approx(distance, abs=1e-12)
        assert result.chance == pytest.approx(chance, rel=0.15)


def test_categories_are_compared_as_by_scipy(samples: dict[str, Any]) -> None:
    for (before, after), chance in samples["counts"]:
        names = [str(n) for n in range(len(before))]
        result = compare_categories(
            dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True))
        )
        assert result.chance == pytest.approx(chance, rel=1e-9)
    for value, degrees, chance in samples["tails"]:
        assert chi_square_tail(value, degrees) == pytest.approx(chance, rel=1e-9)


def test_profile_keeps_shapes_and_no_private_value(samples: dict[str, Any]) -> None:
    profile = Profile.model_validate(samples["profile"])
    columns = profile.columns
    assert profile.rows == 2000
    assert columns["height"].missing == 100
    assert len(columns["height"].points) == 400
    assert columns["height"].points[200] == pytest.approx(samples["median"], abs=0.5)
    assert sum(columns["city"].counts.values()) == 2000
    assert set(columns["smoker"].counts) == {"True", "False"}
    assert columns["name"].counts == {}, "a name that one row has identifies it"
    assert columns["name"].others == 2000
    assert samples["profile"]["columns"]["secret"] == {"missing": 0, "kind": "other"}
    assert columns["since"].kind == "other"
    assert samples["exact"]["columns"]["rooms"]["points"] == samples["rooms"]


def test_nothing_differs_from_nothing() -> None:
    assert compare_numbers([], 0, [1.0]).chance == 1.0
    assert compare_numbers([1.0], 1, []).distance == 0.0
    assert compare_categories({}, {"a": 3}).chance == 1.0
    assert compare_categories({"a": 900}, {"a": 20}).chance == 1.0


def test_rare_categories_are_counted_together() -> None:
    before = {"a": 500, "b": 480, **{f"rare {n}": 1 for n in range(20)}}
    after = {"a": 52, "b": 46, "new": 1, "newer": 1}
    result = compare_categories(before, after)
    assert result.chance > 0.5, "twenty cells with one row each are no difference"
    assert result.distance < 0.05
