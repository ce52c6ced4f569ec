"""Save the model as one of MLflow: arguments MODEL FOLDER."""

import pickle
import sys
from pathlib import Path

import mlflow.sklearn

mlflow.sklearn.save_model(
    pickle.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2], serialization_format="cloudpickle"
)
