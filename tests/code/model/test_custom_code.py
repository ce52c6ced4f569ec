"""A transformer of the user's own travels inside the `.mlem` file."""

import base64
import json
import shutil
import zlib
from pathlib import Path

from ruamel.yaml import YAML

from tests.code.model import support

TRANSFORMER = '''
from sklearn.base import BaseEstimator, TransformerMixin

from ._arithmetic import ratio


class Ratio(TransformerMixin, BaseEstimator):
    """Adds a column."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.assign(ratio=ratio(X["alcohol"], X["ash"]) ** self.power)
'''
ARITHMETIC = "def ratio(a, b):\n    return a / b\n"
COSTS = """
def saved(model, features, target):
    return float((model.predict(features) == target).sum() * 20)
"""
UNRELATED = "raise RuntimeError('not part of the model')\n"
REPLAY = """
import json, pickle, sys
import pandas as pd
golden = json.load(open("m.golden.json"))
frame = pd.DataFrame(golden["inputs"])
if sys.argv[1] == "mlem":
    import mlem.api, mlem.contrib.numpy, mlem.contrib.pandas, mlem.contrib.sklearn
    model = mlem.api.load("m")
else:
    sys.path.insert(0, sys.argv[1])
    model = pickle.load(open("m", "rb"))
assert model.predict(frame).tolist() == golden["outputs"]["predict"]
assert "own" not in str(sys.modules.get("model"))
"""


def test_custom_code_is_inside_the_model(tmp_path: Path) -> None:
    own = support.workspace(
        tmp_path / "own",
        name="m1",
        train={
            "transformers": [{"name": "ratio", "transformer": "model.custom.ratios.Ratio"}],
            "grid": {"C": [1.0], "ratio__power": [1, 2]},
            "scoring": "model.custom.costs.saved",
            "metrics": ["model.custom.costs.saved"],
            "cv": 3,
        },
        gate={"metric": "saved", "minimum": 600},
    )
    (own / "model/custom/costs.py").write_text(COSTS)
    (own / "model/custom/ratios.py").write_text(TRANSFORMER)
    (own / "model/custom/_arithmetic.py").write_text(ARITHMETIC)
    (own / "model/custom/unrelated.py").write_text(UNRELATED)
    support.run_stages(own)
    reports = [json.loads((own / f"reports/{name}.json").read_text()) for name in ("metrics", "cv")]
    assert reports[0]["saved"] == round(36 * reports[0]["accuracy"]) * 20
    assert set(reports[1]["best_params"]) == {"C", "ratio__power"}

    trained = (own / "model/estimator.pkl").read_bytes()
    assert (own / "model/m1").read_bytes() == trained, "it is copied, not pickled again"

    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(own / "model/m1", alone / "m")
    shutil.copy(own / "model/m1.golden.json", alone / "m.golden.json")
    mlem = (own / "model/m1.mlem").read_text().replace("uri: m1", "uri: m")
    (alone / "m.mlem").write_text(mlem)
    quiet = "import warnings; warnings.simplefilter('ignore')"
    support.model_python("-c", f"{quiet}\n{REPLAY}", "mlem", cwd=alone)

    requirements = YAML(typ="safe").load(mlem)["requirements"]
    (custom,) = [item for item in requirements if item.get("type") == "custom"]
    assert custom["name"] == "model"
    assert [requirement["module"] for requirement in requirements] == [
        "numpy",
        "pandas",
        "sklearn",
        "model",
    ]
    packed = json.loads(zlib.decompress(base64.b64decode(custom["source64zip"])))
    files = {name: zlib.decompress(base64.b64decode(entry)) for name, entry in packed.items()}
    assert set(files) == {
        "model/__init__.py",
        "model/custom/__init__.py",
        "model/custom/_arithmetic.py",
        "model/custom/ratios.py",
    }
    for name, content in files.items():
        path = alone / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    support.model_python("-c", REPLAY, "code", cwd=alone)


PIPELINE = """
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline


def make_reader(analyzer="word", **options):
    words = make_column_transformer((TfidfVectorizer(analyzer=analyzer), "review"))
    return Pipeline([("words", words), ("answer", LogisticRegression(**options))])
"""


def test_own_pipeline_gets_the_table(tmp_path: Path) -> None:
    own = support.workspace(
        tmp_path / "own",
        name="reader",
        data={"source": "data/source/reviews.csv", "target": "mood"},
        train={
            "estimator": "model.custom.reader.make_reader",
            "params": {"analyzer": "char", "C": 5.0},
            "grid": {"answer__fit_intercept": [True, False]},
            "cv": 3,
        },
    )
    (own / "model/custom/reader.py").write_text(PIPELINE)
    rows = [
        f"{'good' if i % 2 else 'bad'} wine {i},{'glad' if i % 2 else 'sad'}" for i in range(60)
    ]
    (own / "data/source/reviews.csv").write_text("\n".join(["review,mood", *rows]) + "\n")
    support.run_stages(own)
    assert json.loads((own / "reports/metrics.json").read_text())["accuracy"] == 1.0
    assert "fit_intercept" in (own / "reports/cv.json").read_text()
    schema = YAML(typ="safe").load(own / "model/reader.mlem")["processors"]["model"]["methods"]
    assert schema["predict"]["args"][0]["type_"]["columns"] == ["review"]
