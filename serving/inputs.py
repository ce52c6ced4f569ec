"""Make what a model takes, a NumPy array or a DataFrame, of validated rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.interface import Column, Interface


@dataclass(frozen=True)
class Columns:
    """Validated rows, as values by column."""

    values: Mapping[str, Sequence[Any]]
    rows: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows


def make_array_builder(interface: Interface) -> Callable[[Sequence[Any]], Any]:
    """Make a function from validated rows to an array.

    Args:
        interface: of a model on arrays, or an all-numeric one on DataFrames.

    Returns:
        A function from n rows to an array of shape (n, columns), or (n,) for flat input, with
        the type that the DataFrame's columns have in common.
    """
    import numpy as np

    if interface.container == "ndarray":
        # NumPy calls a text array's type `str96`, and does not know it by that name.
        dtype = np.dtype("U" if interface.dtype.startswith("str") else interface.dtype)
        return lambda rows: np.array(rows, dtype=dtype)
    names = [column.name for column in interface.columns]
    common = np.result_type(*(np.dtype(column.dtype) for column in interface.columns))
    # By columns in memory, as a DataFrame is: a sum in another order has other last digits.
    return lambda rows: np.array(
        [[row[name] for name in names] for row in rows], dtype=common, order="F"
    )


def make_matrix_builder(interface: Interface) -> Callable[[Mapping[str, Sequence[Any]]], Any]:
    """Make a function from values by column to the array that `make_array_builder` gives.

    Args:
        interface: of an all-numeric model on DataFrames.
    """
    import numpy as np

    names = [column.name for column in interface.columns]
    common = np.result_type(*(np.dtype(column.dtype) for column in interface.columns))

    def build(values: Mapping[str, Sequence[Any]]) -> Any:
        matrix = np.empty((len(values[names[0]]), len(names)), dtype=common, order="F")
        for number, name in enumerate(names):
            matrix[:, number] = values[name]
        return matrix

    return build


def make_frame_builder(interface: Interface) -> Callable[[Sequence[Any]], Any]:
    """Make a function from validated rows to the DataFrame the model was fitted on.

    Args:
        interface: of a model on DataFrames.

    Returns:
        A function from n rows to a frame of n rows with the recorded labels and dtypes.
    """
    build = make_table_builder(interface)
    return lambda rows: build({c.name: [row[c.name] for row in rows] for c in interface.columns})


def make_table_builder(interface: Interface) -> Callable[[Mapping[str, Sequence[Any]]], Any]:
    """Make a function from values by column to the DataFrame the model was fitted on.

    Args:
        interface: of a model on DataFrames.

    Returns:
        A function from n values of each column to a frame of n rows with the recorded labels and
        dtypes.
    """
    import numpy as np
    import pandas as pd

    def series(values: Sequence[Any], column: Column) -> Any:
        dtype = column.dtype
        if dtype == "object":  # a hole in pandas text is NaN, as read from a CSV file
            array = np.empty(len(values), dtype=object)
            missing = {None, *column.missing_words}
            array[:] = [math.nan if value in missing else value for value in values]
            return pd.Series(array, dtype=object)  # pandas makes text of type `str` of an array
        if dtype[0] in "fiub" and dtype != "boolean":
            return np.array(values, dtype=dtype)
        return pd.Series(values, dtype=dtype)

    def build(values: Mapping[str, Sequence[Any]]) -> Any:
        frame = pd.DataFrame({c.label: series(values[c.name], c) for c in interface.columns})
        return frame.set_index(list(interface.index)) if interface.index else frame

    return build
