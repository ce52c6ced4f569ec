"""The model behind a FastAPI application as one writes it by hand: arguments MODEL ROW PORT.

ROW is JSON with an example of a row, from which the validated type is made.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import create_model

model = pickle.loads(Path(sys.argv[1]).read_bytes())
example = json.loads(sys.argv[2])
names = list(example)
Row = create_model("Row", **{name: (type(value), ...) for name, value in example.items()})
Request = create_model("Request", values=(list[Row], ...))
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> list[int]:
    """Predict the rows of a request."""
    rows = [[getattr(row, name) for name in names] for row in request.values]
    return model.predict(np.array(rows, dtype=float)).tolist()


@app.get("/ready")
async def ready() -> str:
    """Answer that the model is loaded."""
    return "ready"


uvicorn.run(app, port=int(sys.argv[3]), access_log=False, log_level="warning")
