"""Run in a model server's environment: score the tables of each line, and answer them as requests.

Each line of standard input has a bundle, the texts of CSV files, and how they are written.
"""

import contextlib
import csv
import dataclasses
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

from serving.bundle import BundleError
from serving.errors import RequestError, to_json
from serving.scoring import __main__ as program
from serving.scoring import chunks, remote
from serving.scoring.cells import make_value
from serving.scoring.cutting import cut_files
from serving.scoring.job import Job, Reading, SourceError
from serving.scoring.layout import make_options

STAMP = {"model": "m", "version": "v1", "commit": "c", "run": "r", "time": "t"}
scorers = {}


def write_parquet(path, columns):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)


def read(path):
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def answer(scorer, reading, text):
    """Answer each row as a request of its own: its prediction, or the reason of the refusal."""
    predictor = scorer.predictor
    columns = predictor.interface.columns
    answers = []
    rows = csv.DictReader(text.splitlines(keepends=True), **make_options(reading))
    for row in rows:
        values = {column.name: make_value(row[column.name], column, reading) for column in columns}
        try:
            (value,) = predictor.rows(to_json(predictor.interface.wrap([values])))
            answers += [str(answer) for answer in predictor.predict("predict", [value])]
        except RequestError as refused:
            answers.append(str(refused))
        except ValueError:  # as the service answers it
            answers.append("The model does not accept these values.")
    return answers


@contextlib.contextmanager
def score_elsewhere(scorer, job, folder, failure):
    """Score chunks in another thread, with a folder of its own, for as long as messages come."""
    scorer._job = dataclasses.replace(job, folder=folder, files={}, ahead=0)
    (scorer._job.result / "rejected").mkdir(parents=True)
    (there, messages), (replies, back) = os.pipe(), os.pipe()
    with os.fdopen(there, "rb") as read_there, os.fdopen(back, "wb") as write_back:
        model = BundleError(failure) if failure else scorer
        work = (model, scorer._job, read_there, write_back)
        thread = threading.Thread(target=remote.serve_chunks, args=work)
        thread.start()
        with os.fdopen(messages, "wb") as write, os.fdopen(replies, "rb") as read:
            program.send_chunks = lambda job, waiting, *_: remote.send_chunks(
                job, waiting, read, write
            )
            yield
        thread.join()


for line in sys.stdin:
    case = json.loads(line)
    reading = Reading(**case.get("reading", {}))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "table.parquet" if "columns" in case else "table.csv")
        if "columns" in case:
            write_parquet(source, case["columns"])
        else:
            source.write_bytes(case["text"].encode(case.get("written", reading.encoding)))
        files = {source.name: str(source)}
        for name, text in case.get("more", {}).items():
            Path(folder, name).write_bytes(text.encode(reading.encoding))
            files[name] = f"{folder}/{name}"
        job = Job(
            case["bundle"], files, folder, case.get("method", "predict"),
            reading, source.suffix, True, STAMP, 1, case.get("block_bytes", 4 << 20),
            case.get("ahead", 0),
        )  # fmt: skip
        scorer = scorers.setdefault(case["bundle"], None)
        try:
            if scorer is None:
                scorer = scorers[case["bundle"]] = chunks.Scorer(job)
            scorer._job = job
            program.chunks.Scorer = lambda _, scorer=scorer: scorer
            for number in case.get("finished", ()):
                job.records.mkdir(exist_ok=True)
                record = {"rows": 0, "rejected": 0, "bytes": 0, "problems": {}}
                chunks.write_record(job, number, record)
                (job.result / "rejected").mkdir(parents=True, exist_ok=True)
                (job.result / f"part-{number:05}.csv").write_text("former\n")
            with contextlib.ExitStack() as contexts:
                # What is printed here is the result.
                contexts.enter_context(contextlib.redirect_stdout(sys.stderr))
                if job.ahead:
                    elsewhere = (scorer, job, f"{folder}/there", case.get("failure", ""))
                    contexts.enter_context(score_elsewhere(*elsewhere))
                total = program.score_files(job)
        except (SourceError, BundleError) as error:
            print(json.dumps({"problem": str(error)}), flush=True)
            continue
        rejected = [
            row for path in sorted((job.result / "rejected").iterdir()) for row in read(path)
        ]
        result = {
            "total": total,
            "rows": read(Path(folder, f"single{source.suffix}")),
            "rejected": rejected,
            "chunks": [[chunk.start, chunk.rows] for chunk in cut_files(job)],
        }
        if case.get("compare"):
            result["answers"] = answer(scorer, reading, case["text"])
        print(json.dumps(result), flush=True)
