"""A public table from the file as it is to served answers; last here: another model is live."""

from __future__ import annotations

import pytest
import yaml

from tasks.bucket.objects import StoredObject
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab
from tests.code.flows.table_delivery import commit, score_answers, store
from tests.code.model.public_tables import SPECIES, TABLES

pytestmark = pytest.mark.timeout(900)


def test_table_goes_live_with_nothing_but_params(lab: Lab, delivered: Delivery) -> None:
    """benchmarks/public_tables.py does the same with all of them."""
    name, other = "species", TABLES["cars"]
    files = store(lab, [SPECIES, other])
    commit(lab, name, SPECIES, files, delivered.commit)
    trained = lab.run("retrain", {"ref": name, "branch": name})
    assert trained.state == "Completed", trained.log
    (out,) = yaml.safe_load(files[f"data/source/{other.file}.dvc"])["outs"]
    stored = StoredObject(out["md5"], None, "", "")
    assert not stored.is_cached(lab.stack.home / "dvc-cache"), "a run fetches what it uses"
    deployed = lab.run("deploy", {"ref": name})
    assert (deployed.data or {}).get("outcome") == "live", deployed.log
    assert score_answers(lab, name, SPECIES) >= SPECIES.least
