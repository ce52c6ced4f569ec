"""The model as two services of BentoML: `Frames` takes DataFrames, `Batches` arrays, in batches."""

import os
import pickle
from pathlib import Path

import bentoml
import numpy as np
import pandas as pd

MODEL = Path(os.environ["BENCHMARK_MODEL"])


@bentoml.service(workers=1)
class Frames:
    """As the documentation shows it for tables."""

    def __init__(self) -> None:
        """Load the model."""
        self.model = pickle.loads(MODEL.read_bytes())

    @bentoml.api
    def predict(self, values: pd.DataFrame) -> np.ndarray:
        """Predict the rows of a request."""
        return self.model.predict(values)


@bentoml.service(workers=1)
class Batches:
    """With BentoML's adaptive batching."""

    def __init__(self) -> None:
        """Load the model."""
        self.model = pickle.loads(MODEL.read_bytes())

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, values: np.ndarray) -> np.ndarray:
        """Predict the rows of several requests."""
        return self.model.predict(values)
