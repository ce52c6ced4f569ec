"""Give Dask workers boxes without a model: `distributed` loads this before a worker connects.

A box answers a chunk with its capital letters. With `HANGS_IN` it makes a file of this name when
the second chunk comes, and does not answer.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tasks.scoring.cluster_worker import Boxes

BOX = """
import os, sys
from pathlib import Path
from tasks.scoring.messages import read_content, write_message

stream = sys.stdin.buffer
for line in stream:
    number, chunk = read_content(stream, line)
    if number and (mark := os.environ.get("HANGS_IN")):
        Path(mark).touch()
        stream.read()  # until its worker has ended
    write_message(sys.stdout.buffer, number, chunk.upper())
"""


def start_box(boxes: Boxes) -> subprocess.Popen[bytes]:
    """Start a box in place of one in which the model predicts."""
    process = subprocess.Popen(
        [sys.executable, "-c", BOX], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    boxes._boxes.append(process)
    return process


Boxes._start = start_box  # type: ignore[method-assign]
