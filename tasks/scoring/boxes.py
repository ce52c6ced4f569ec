"""The box in which a model scores, on the host of the run or of a cluster."""

from __future__ import annotations

from pathlib import Path

from tasks.sandbox.box import Box

MODULE = "serving.scoring"
# One thread a process: there is a process for each processor.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_box(work: Path, bundle: Path, python: Path, *readable: Path) -> Box:
    """Make the box of a job: no network, no credentials.

    Args:
        work: The only folder that it may change, but for one beside it for temporary files.
        bundle: The bundle.
        python: Path of its runtime's Python.
        readable: Further files and folders.
    """
    return Box(
        folder=work,
        writable=(work,),
        readable=(bundle, *readable),
        pythons=(python,),
        temporary=work.with_name("tmp"),
        settings={"PYTHONPATH": str(bundle), **dict.fromkeys(_THREADS, "1")},
    )
