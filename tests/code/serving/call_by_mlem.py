"""Call running services with MLEM's own client, in the model environment; print the answers.

`python call_by_mlem.py '{"wine": PORT, ...}'`
"""

import json
import sys

import mlem.contrib.numpy
import mlem.contrib.pandas
import mlem.contrib.sklearn  # noqa: F401 (imported to register what the client can read)
import numpy as np
import pandas as pd
import requests
from mlem.runtime.client import HTTPClient


def main(ports):
    """Print each model's answers for its first golden input."""
    answers = {}
    for name, port in ports.items():
        client = HTTPClient(host="127.0.0.1", port=port)
        kind = next(iter(client.methods.values())).args[0].data_type
        sample = requests.get(f"{client.base_url}/model.json", timeout=10).json()["samples"][:1]
        if kind.type == "ndarray":
            data = np.array(sample)
        else:
            data = pd.DataFrame(sample).astype(dict(zip(kind.columns, kind.dtypes, strict=True)))
        answers[name] = {
            method: getattr(client, method)(data).tolist() for method in client.methods
        }
    print(json.dumps(answers))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
