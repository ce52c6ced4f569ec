"""Run in the model environment, in a workspace: ask the saved model, print the answers as JSON."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score

from model import mlem_api

train, test = pd.read_csv("data/train.csv"), pd.read_csv("data/test.csv")
features, target = test.drop(columns="target"), test["target"]
model = mlem_api.load(Path("model/wine"))
golden = json.loads(Path("model/wine.golden.json").read_text())
dummy = DummyClassifier(strategy="stratified", random_state=0)
dummy.fit(train.drop(columns="target"), train["target"])
probabilities = model.predict_proba(features)
order = np.random.default_rng(0).permutation(len(features))
one_by_one = np.vstack([model.predict_proba(features.iloc[[i]]) for i in range(10)])
inputs = pd.DataFrame(golden["inputs"])
print(
    json.dumps(
        {
            "f1_macro": f1_score(target, model.predict(features), average="macro"),
            "f1_macro_dummy": f1_score(target, dummy.predict(features), average="macro"),
            "shuffled": np.abs(
                model.predict_proba(features.iloc[order]) - probabilities[order]
            ).max(),
            "one_by_one": np.abs(one_by_one - probabilities[:10]).max(),
            "sum": np.abs(probabilities.sum(axis=1) - 1).max(),
            "golden_predict": model.predict(inputs).tolist() == golden["outputs"]["predict"],
            "golden_proba": np.abs(
                model.predict_proba(inputs) - golden["outputs"]["predict_proba"]
            ).max(),
            "columns": list(model.feature_names_in_),
        }
    )
)
