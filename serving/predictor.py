"""Answer requests with a loaded model, on the fastest path that gives the same predictions."""

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from serving.bundle import Bundle, BundleError, load_model
from serving.categories import count_unseen_categories, read_categories
from serving.comparison import is_same
from serving.errors import RequestError, explain, to_json
from serving.inputs import (
    Columns,
    make_array_builder,
    make_frame_builder,
    make_matrix_builder,
    make_table_builder,
)
from serving.interface import Interface, Kind
from serving.requests import make_rows_adapter
from serving.results import Answer
from serving.split import SplitReader

log = logging.getLogger(__name__)

REPLAY_ROWS = 500  # golden inputs are replayed in requests of this many
SINGLE_ROWS = 25  # of them are also replayed one by one
# Of them are predicted one by one on both paths, to choose one: paths differ in what is done, not
# by row, and all rows are compared at once. After imports a start costs most here.
PATH_ROWS = 8
NAMES_WARNING = "X does not have valid feature names"


class Predictor:
    """A loaded model with its interface: bytes of a request in, bytes of a response out."""

    def __init__(
        self,
        model: Any,
        interface: Interface,
        adapter: TypeAdapter[Any],
        max_rows: int,
        split: SplitReader | None = None,
    ) -> None:
        """Serve a model, at first on the path that MLEM takes: through a DataFrame.

        Args:
            model: the fitted estimator.
            interface: what it takes and gives.
            adapter: the validator of requests, from `make_request_adapter`.
            max_rows: the limit the adapter applies, for messages.
            split: reads requests that name the columns once, if these are taken.
        """
        self.interface = interface
        self.path = "dataframe" if interface.container == "dataframe" else "ndarray"
        self.seconds_a_row = 0.0  # of the slowest method; measured by `replay`
        self._adapter = adapter
        self._max_rows = max_rows
        self._methods = {name: getattr(model, name) for name in interface.methods}
        builder = make_frame_builder if self.path == "dataframe" else make_array_builder
        self._build = builder(interface)
        self.split = split
        if interface.container == "dataframe":
            self._build_columns = make_table_builder(interface)
        self._model = model
        self._categories = read_categories(model, interface)

    def make_answer(self, rows: Sequence[Any], predictions: Sequence[Any]) -> Answer:
        """Serialize the predictions of validated rows, and count what the model has never seen."""
        return Answer(to_json(predictions), len(rows), self.count_unseen(rows))

    def rows(self, body: bytes) -> list[Any]:
        """Validate a request.

        Args:
            body: the request's JSON.

        Returns:
            Its rows.

        Raises:
            RequestError: it is not valid; says why.
        """
        if self.split is not None and self.split.matches(body):
            request = self.split.open(body)
            return request.make_rows(request.read(body))
        return self.interface.unwrap(self._validate(self._adapter, body))

    def read_piece(self, piece: bytes, skipped: int) -> list[Any]:
        """Validate some rows of a request.

        Args:
            piece: from `cut_rows`.
            skipped: rows before these.

        Raises:
            RequestError: one is not valid; or they are no rows.
        """
        rows: list[Any] = self._validate(self._rows_adapter, piece, skipped)
        return rows

    def _validate(self, adapter: TypeAdapter[Any], text: bytes, skipped: int | None = None) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            raise explain(error, self.interface, self._max_rows, skipped=skipped) from None

    @cached_property
    def _rows_adapter(self) -> TypeAdapter[Any]:
        return make_rows_adapter(self.interface, self._max_rows)

    def predict(self, method: str, rows: Sequence[Any] | Columns) -> list[Any]:
        """Run one of the model's methods: see `predict_array`.

        Returns:
            One prediction a row, in plain Python types.
        """
        predictions: list[Any] = self.predict_array(method, rows).tolist()
        return predictions

    def predict_array(self, method: str, rows: Sequence[Any] | Columns) -> Any:
        """Run one of the model's methods.

        Args:
            method: one of the interface's.
            rows: validated rows.

        Returns:
            The array that the model returns: one prediction a row.

        Raises:
            Exception: what the model raises.
        """
        try:
            if isinstance(rows, Columns):
                inputs = self._build_columns(rows.values)
            else:
                inputs = self._build(rows)
            return self._methods[method](inputs)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # A panic of Rust code, `sys.exit`: it would end the server, or its clients would wait
            # for ever, as no future takes a StopIteration.
            raise RuntimeError(f"the model raised {type(error).__name__}: {error}") from error

    def count_unseen(self, rows: Sequence[Any] | Columns) -> dict[str, int]:
        """Count the validated rows with what the model has never seen, by column."""
        return count_unseen_categories(self._categories, rows)

    def predict_table(self, method: str, table: Any) -> Any:
        """Run one of the model's methods on a table, on the path that requests take.

        Args:
            method: one of the interface's.
            table: a frame from `make_table_builder`.

        Returns:
            The array that the model returns.
        """
        if self.path == "ndarray":
            import numpy as np

            table = np.asfortranarray(table.to_numpy())  # as `make_array_builder` makes it
        return self._methods[method](table)

    def choose_path(self, inputs: Sequence[Any]) -> None:
        """Serve through a plain array where that provably gives the same as a DataFrame.

        An all-numeric model is tried on the golden inputs, all at once and one by one, both ways.
        The array is used only if every result is equal to the last bit and nothing warned, but
        for scikit-learn's warning that an array has no column names: those are checked on entry.

        Args:
            inputs: the golden inputs, as validated rows.
        """
        numeric = all(
            c.kind in {Kind.NUMBER, Kind.INTEGER} and c.dtype[0] in "fiu" and not c.nullable
            for c in self.interface.columns
        )
        if self.path != "dataframe" or not numeric or self.interface.index or not inputs:
            return
        fitted = getattr(self._model, "feature_names_in_", None)
        if fitted is not None and list(fitted) != [c.label for c in self.interface.columns]:
            return
        slow, fast = self._build, make_array_builder(self.interface)
        batches = [inputs, *([row] for row in inputs[:PATH_ROWS])]
        try:
            for name, run in self._methods.items():
                for batch in batches:
                    expected = run(slow(batch))
                    with warnings.catch_warnings():
                        warnings.simplefilter("error")
                        warnings.filterwarnings("ignore", message=NAMES_WARNING)
                        result = run(fast(batch))
                    if result.dtype != expected.dtype or result.tobytes() != expected.tobytes():
                        log.info("%s differs on a plain array: serving through a DataFrame", name)
                        return
        except Exception as error:  # whatever the model's code raises on an array
            log.info("no plain array for this model (%s): serving through a DataFrame", error)
            return
        warnings.filterwarnings("ignore", message=NAMES_WARNING)
        self._build, self.path = fast, "ndarray"
        self._build_columns = make_matrix_builder(self.interface)

    def replay(self, golden: Mapping[str, Any]) -> int:
        """Predict the golden inputs as for a client, compare the answers, and time one row.

        Args:
            golden: inputs and each method's outputs, as saved with the model.

        Returns:
            The number of inputs replayed.

        Raises:
            BundleError: an answer is missing or differs; says which is the first.
        """
        inputs, outputs = golden.get("inputs") or [], golden.get("outputs") or {}
        if not inputs:
            raise BundleError("golden.json: has no inputs to replay")
        size = min(REPLAY_ROWS, self._max_rows)
        requests = [inputs[at : at + size] for at in range(0, len(inputs), size)]
        for method in self.interface.methods:
            expected = outputs.get(method)
            if not isinstance(expected, list) or len(expected) != len(inputs):
                raise BundleError(f"golden.json: has no output of {method} for every input")
            predicted: list[Any] = []
            for rows in requests:
                predicted += self.predict(method, self.golden_rows(rows))
            self._compare(method, expected, predicted)
            seconds = []
            for number, row in enumerate(inputs[:SINGLE_ROWS]):
                start = time.perf_counter()
                single = self.predict(method, self.golden_rows([row]))
                seconds.append(time.perf_counter() - start)
                self._compare(method, expected[number : number + 1], single, number)
            # The fastest: a machine that is busy just now must not count as a slow model.
            self.seconds_a_row = max(self.seconds_a_row, min(seconds))
        return len(inputs)

    def golden_rows(self, rows: Sequence[Any]) -> list[Any]:
        """Validate golden inputs as a client's.

        Args:
            rows: from the golden inputs, at most as many as one request may have.

        Returns:
            The validated rows.

        Raises:
            BundleError: the service would refuse them.
        """
        try:
            return self.rows(to_json(self.interface.wrap(rows)))
        except RequestError as refused:
            raise BundleError(f"golden.json: an input is not valid: {refused}") from None

    def _compare(
        self, method: str, expected: Sequence[Any], predicted: Sequence[Any], first: int = 0
    ) -> None:
        if len(expected) != len(predicted):
            raise BundleError(
                f"{method} gives {len(predicted)} predictions for {len(expected)} golden inputs"
            )
        for number, (golden, new) in enumerate(zip(expected, predicted, strict=True), first + 1):
            if not is_same(golden, new):
                raise BundleError(
                    f"golden prediction {number} of {method} differs: "
                    f"expected {golden!r}, got {new!r}"
                )


def load_predictor(
    bundle: Bundle,
    interface: Interface,
    adapter: TypeAdapter[Any],
    max_rows: int,
    split: SplitReader | None = None,
) -> Predictor:
    """Load a bundle's model, choose its path and replay its golden predictions.

    Args:
        bundle: from `read_bundle`; its digest is set.
        interface: from `read_interface`.
        adapter: from `make_request_adapter`.
        max_rows: the limit the adapter applies.
        split: reads requests that name the columns once, if these are taken.

    Returns:
        A predictor that gives the golden predictions.

    Raises:
        BundleError: the bytes are not those recorded, or the predictions differ.
    """
    model = load_model(bundle) if bundle.model is None else bundle.model
    for method in interface.methods:
        if not callable(getattr(model, method, None)):
            raise BundleError(f"{bundle.name}: the model has no method {method!r}")
    predictor = Predictor(model, interface, adapter, max_rows, split)
    try:
        samples = (bundle.golden.get("inputs") or [])[: min(REPLAY_ROWS, max_rows)]
        if samples:
            predictor.choose_path(predictor.golden_rows(samples))
        count = predictor.replay(bundle.golden)
    except BundleError:
        raise
    except Exception as error:  # whatever the model's code raises on its own golden inputs
        raise BundleError(
            f"{bundle.name}: fails on its golden inputs: {type(error).__name__}: {error}"
        ) from error
    log.info(
        "%s: %d golden predictions replayed, %.2f ms a row by %s",
        bundle.name, count, 1000 * predictor.seconds_a_row, predictor.path,
    )  # fmt: skip
    return predictor
