from __future__ import annotations

from typing import Any

import pytest

from tasks.platforms.base.golden import first_difference


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ([0, 1], [0, 1]),
        (["a"], ["a"]),
        ([[0.25, 0.75]], [[0.25, 0.75]]),
        ([1.0], [1.0 + 1e-12]),  # another order of summing
        ([2.0], [2]),
    ],
)
def test_equal_predictions_have_no_difference(expected: list[Any], got: Any) -> None:
    assert first_difference(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        ([0, 1, 2], [0, 2, 2], "row 1: expected 1, got 2"),
        (["a"], ["b"], "row 0: expected 'a', got 'b'"),
        ([[0.2, 0.8]], [[0.2, 0.80001]], "row 0: expected [0.2, 0.8], got [0.2, 0.80001]"),
        ([1], ["1"], "row 0: expected 1, got '1'"),
        ([1, 2], [1], "expected 2 predictions, got 1"),
        ([1], {"detail": "no"}, "expected 1 predictions, got no list"),
        ([1.0], [float("nan")], "row 0: expected 1.0, got nan"),
    ],
)
def test_first_difference_is_described(expected: list[Any], got: Any, difference: str) -> None:
    assert first_difference(expected, got) == difference
