from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.code.flows.harness import Lab, stages_run

pytestmark = pytest.mark.timeout(900)

SOURCE = "data/source/shop.csv"
ROWS = "".join(f"{i},{i % 7 / 2},{'yes' if i % 2 else 'no'}\n" for i in range(60))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _write_record(data: Path) -> str:
    text = data.read_text()
    stored = {"md5": _md5(text), "size": len(text), "hash": "md5"}
    return yaml.safe_dump(
        {
            "frozen": True,
            "deps": [stored | {"path": str(data)}],
            "outs": [stored | {"path": data.name}],
        }
    )


def test_refreshed_data_that_do_not_fit_are_rejected(
    lab: Lab, delivered: str, tmp_path: Path
) -> None:
    data = tmp_path / "shop.csv"
    data.write_text(f"x,z,bought\n{ROWS}")
    parameters = yaml.safe_load(lab.git("show", f"{delivered}:params.yaml"))
    parameters["data"] |= {
        "source": SOURCE,
        "target": "bought",
        "schema": {"x": {"minimum": 0}},
    }
    parameters["data"].pop("drop", None)
    text = yaml.safe_dump(parameters)

    def accept(lock: str) -> str:
        locked = yaml.safe_load(lock)
        (entry,) = (
            dep for dep in locked["stages"]["fetch"]["deps"] if dep["path"] == "params.yaml"
        )
        entry["md5"] = _md5(text)
        return yaml.safe_dump(locked)

    files = {"params.yaml": text, f"{SOURCE}.dvc": _write_record(data), "dvc.lock": accept,
             "data/source/.gitignore": "/shop.csv\n"}  # fmt: skip
    commit = lab.commit(files, delivered, "shop")
    before = lab.refs()

    data.write_text(f"x,z,bought\n{ROWS}-1,0,no\n")
    rejected = lab.run("retrain", {"ref": "shop"}, SLIPWAY_SOURCES=str(tmp_path))
    assert (rejected.state, rejected.error) == ("DataRejected", "DataRejected"), rejected.log
    assert "params.yaml: data.schema.x: '-1' (row 61) is not between 0 and inf" in rejected.message
    assert "shop.csv was refreshed from" in rejected.log
    assert stages_run(["fetch", "process", "train"], rejected.log) == ["fetch", "process"]
    assert lab.refs() == before
    assert lab.head("shop") == commit
