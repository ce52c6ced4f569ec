"""Public tables, from the file as it is to a live model, by params.yaml alone, in the flows.

`python -m benchmarks.public_tables` brings up a stack of its own. For each table it commits the
record of the file and a params.yaml, has the worker retrain and deploy, and asks the live model for
all rows. It prints a table: seconds of both runs, and the score of the answers (rows to train on
are among them). It exits with 1 if one did not go live, or answers worse than the tests demand.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from deployments.local.stack import Stack
from tests.code.flows.harness import Lab, open_lab
from tests.code.flows.table_delivery import commit, score_answers, store
from tests.code.model.public_tables import SPECIES, TABLES, PublicTable
from tests.commits import commit_all
from tests.stack_access import wait_for_end
from tests.template import copy_template

_HEADER = "| model | file | predicts | rows | retrain, s | deploy, s | score | least |"


def deliver(lab: Lab, name: str, table: PublicTable, files: dict[str, str]) -> tuple[str, bool]:
    """Retrain and deploy one table; return its row, and whether all is well."""
    commit(lab, name, table, files, "main")
    parameters = lab.git("show", f"{name}:params.yaml")
    (lab.stack.checkout / "params.yaml").write_text(parameters)
    row = [name, table.file, table.target, str(len(table.read_rows()))]
    runs = {
        "retrain/retrain": {"ref": name, "branch": name},
        "deploy/local": {"ref": name, "replace": True},
    }
    for deployment, form in runs.items():
        start = time.monotonic()
        run = wait_for_end(lab.api, lab.api.create_run(deployment, form).id)
        row.append(f"{time.monotonic() - start:.0f}")
        if not run.succeeded:
            return f"| {' | '.join(row)} | {run.state}: {str(run.message).splitlines()[0]} |", False
    score = score_answers(lab, name, table)
    return f"| {' | '.join(row)} | {score:.3f} | {table.least} |", score >= table.least


def main() -> None:
    """Deliver all tables and print the results."""
    with tempfile.TemporaryDirectory(prefix="slipway-tables-") as folder:
        source = Path(folder) / "source"
        copy_template(source)
        commit_all(source, "Under test")
        # The rules of the gate are those of the checkout that deploys.
        stack = Stack(Path(folder) / "home", source, usual_ports=False, deploy_on_push=False)
        results = []
        try:
            stack.up(print)
            with open_lab(stack, Path(folder)) as lab:
                tables = {**TABLES, "species": SPECIES}
                files = store(lab, tables.values())
                print(_HEADER, "|---" * _HEADER.count(" | ") + "|---|", sep="\n", flush=True)
                for name, table in tables.items():
                    row, is_good = deliver(lab, name, table, files)
                    print(row, flush=True)
                    results.append(is_good)
        finally:
            stack.down()
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
