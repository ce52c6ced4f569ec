"""Steps from a public table, as it is, to the score of a live model, by params.yaml alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import httpx
import yaml

from tasks.core.tls import ssl_context
from tests.code.flows.harness import Lab
from tests.code.model.public_tables import PublicTable, make_request
from tests.code.model.tables import PUBLIC, make_parameters


def store(lab: Lab, tables: Iterable[PublicTable]) -> dict[str, str]:
    """Store tables in the bucket, as `dvc add` and `dvc push` do; return the files to commit."""
    names = sorted({table.file for table in tables})
    files = {"data/source/.gitignore": "".join(f"/{name}\n" for name in names)}
    for name in names:
        content = (PUBLIC / name).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        lab.s3().put_object(Bucket=lab.bucket, Key=lab.key(md5), Body=content)
        out = {"md5": md5, "size": len(content), "hash": "md5", "path": name}
        files[f"data/source/{name}.dvc"] = yaml.safe_dump({"outs": [out]})
    return files


def commit(lab: Lab, name: str, table: PublicTable, files: dict[str, str], base: str) -> str:
    """Commit params.yaml and the records of tables to a branch of the model's name."""
    gate = {"metric": "r2" if "task" in table.data else "accuracy"}  # better than a dummy
    parameters = make_parameters(table.file, table.target, table.data, name=name, gate=gate)
    return lab.commit({"params.yaml": yaml.safe_dump(parameters), **files}, base, name)


def score_answers(lab: Lab, name: str, table: PublicTable) -> float:
    """Ask the live model for all rows of its table, and score the answers."""
    types = lab.show(f"model/{name}.runtime.json", name)["columns"]
    rows = make_request(table.read_rows(), types)
    answer = httpx.post(
        f"{lab.url}/predict",
        json={"data": {"values": rows}},
        timeout=60,
        trust_env=False,
        verify=ssl_context(),
    )
    assert answer.status_code == 200, answer.text
    return table.score(answer.json())
