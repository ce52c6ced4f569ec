from __future__ import annotations

import hashlib

import pytest
import yaml

from tests.code.flows.harness import Lab, stages_run

pytestmark = pytest.mark.timeout(900)

SOURCE = "data/source/shop.csv"
ROWS = "".join(f"{i},{i % 7 / 2},{'yes' if i % 2 else 'no'}\n" for i in range(60))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _write_record(address: str, text: str) -> str:
    size = {"size": len(text)}
    return yaml.safe_dump(
        {
            "frozen": True,
            "deps": [{"path": address, "etag": _md5(text)} | size],
            "outs": [{"path": "shop.csv", "md5": _md5(text), "hash": "md5"} | size],
        }
    )


def test_refreshed_data_that_do_not_fit_are_rejected(lab: Lab, delivered: str) -> None:
    address = f"s3://{lab.bucket}/exports/shop.csv"
    rows = f"x,z,bought\n{ROWS}"
    lab.s3().put_object(Bucket=lab.bucket, Key=lab.key(_md5(rows)), Body=rows.encode())
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

    files = {"params.yaml": text, f"{SOURCE}.dvc": _write_record(address, rows), "dvc.lock": accept,
             "data/source/.gitignore": "/shop.csv\n"}  # fmt: skip
    commit = lab.commit(files, delivered, "shop")
    before = lab.refs()

    later = f"{rows}-1,0,no\n".encode()
    lab.s3().put_object(Bucket=lab.bucket, Key="exports/shop.csv", Body=later)
    rejected = lab.run("retrain", {"ref": "shop"}, SLIPWAY_SOURCES=f"s3://{lab.bucket}/exports")
    assert (rejected.state, rejected.error) == ("DataRejected", "DataRejected"), rejected.log
    assert "params.yaml: data.schema.x: '-1' (row 61) is not between 0 and inf" in rejected.message
    assert f"shop.csv was refreshed from {address}" in rejected.log
    assert stages_run(["fetch", "process", "train"], rejected.log) == ["fetch", "process"]
    assert lab.refs() == before
    assert lab.head("shop") == commit
