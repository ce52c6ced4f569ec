"""Save the model as one of MLflow, with a signature: arguments MODEL ROWS FOLDER.

ROWS is JSON with examples of rows. With the signature MLflow checks names and types of columns.
"""

import json
import pickle
import sys
from pathlib import Path

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature

model = pickle.loads(Path(sys.argv[1]).read_bytes())
rows = pd.DataFrame(json.loads(sys.argv[2]))
signature = infer_signature(rows, model.predict(rows))
mlflow.sklearn.save_model(
    model, sys.argv[3], signature=signature, serialization_format="cloudpickle"
)
