"""The description of a job, which the orchestrator writes as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PARQUET = ".parquet"
# Columns of the result that are not of the model: a source cannot carry any of these names.
PLACE = ("file", "row")
STAMP = ("model", "version", "commit", "run", "time")
PREDICTION, PROBABILITY = "prediction", "probability_"
PROBLEM = "problem"  # of a rejected row


class SourceError(Exception):
    """A source that cannot be scored as a whole; the message says which file and why."""


@dataclass(frozen=True)
class Reading:
    """The format of the CSV files: that of the data that the model was trained on.

    Attributes:
        missing: Words that stand for a missing value, by column; of columns of texts the model's
            interface has them.
        missing_words: Such words of all columns.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"
    quote: str = '"'
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    missing_words: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        bundle: Folder of the model.
        files: The files of the source, by the name that results give them.
        folder: Folder of the job: what is finished there is not done again.
        method: `predict`, or `predict_proba` for probabilities beside the predictions.
        reading: The format of CSV files.
        ending: `.csv` or `.parquet`, of the parts of the result.
        single: Whether the result is one file.
        stamp: Values of the columns `STAMP`.
        processes: Number of processes; 0 for one per processor.
        block_bytes: Size of a chunk of a CSV file.
        ahead: Number of chunks that are on their way to other hosts at once; 0 to score here.
    """

    bundle: str
    files: Mapping[str, str]
    folder: str
    method: str
    reading: Reading
    ending: str
    single: bool
    stamp: Mapping[str, str]
    processes: int = 0
    block_bytes: int = 4 << 20
    ahead: int = 0

    @property
    def result(self) -> Path:
        """Folder of the result: parts, and those with rejected rows in `rejected/`."""
        return Path(self.folder, "result")

    @property
    def records(self) -> Path:
        """Folder of the records of finished chunks."""
        return Path(self.folder, "records")


def read_job(path: Path) -> Job:
    """Read the description of a job."""
    content = json.loads(path.read_text())
    return Job(**{**content, "reading": Reading(**content["reading"])})
