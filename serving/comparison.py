"""Compare predictions: the golden ones with new ones."""

import math
from typing import Any

RELATIVE, ABSOLUTE = 1e-6, 1e-9  # processors differ in the last digits of a float


def is_same(expected: Any, predicted: Any) -> bool:
    """Compare a prediction with the expected one: floats nearly, everything else exactly.

    Args:
        expected: as saved, from JSON.
        predicted: as predicted, in plain Python types.

    Returns:
        True if they agree in shape and value.
    """
    if isinstance(expected, list) or isinstance(predicted, list):
        return (
            isinstance(expected, list)
            and isinstance(predicted, list)
            and len(expected) == len(predicted)
            and all(is_same(e, p) for e, p in zip(expected, predicted, strict=True))
        )
    if isinstance(predicted, float) and not math.isfinite(predicted):
        return expected is None  # as it is served
    if isinstance(predicted, float) and isinstance(expected, int | float):
        return math.isclose(expected, predicted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(expected == predicted)
