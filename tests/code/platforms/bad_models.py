"""Changes of a commit that make its model a bad one, each in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable

# Whether a server may get traffic: one that is only tried on the worker has no version.
_RELEASED = """
import json, os, sys, pathlib
_facts = json.loads(os.environ.get("SLIPWAY_RELEASE") or "{}")
if "--bundle" in sys.argv:
    _bundle = pathlib.Path(sys.argv[sys.argv.index("--bundle") + 1])
    _facts = json.loads((_bundle / "release.json").read_text())
if _facts.get("version"):
    DEED
"""
_ENDS = """
    import threading
    _make_answer = Predictor.make_answer
    def _answer(self, rows, predictions):
        if len(rows) == 1:
            threading.Timer(0.5, lambda: os._exit(1)).start()
        return _make_answer(self, rows, predictions)
    Predictor.make_answer = _answer
"""


_ENDS_PROVEN = """
import os, sys
_make_answer = Predictor.make_answer
_answered = set()
def _answer(self, rows, predictions):
    if len(rows) > 1 and repr(predictions) in _answered:
        print('no room here', file=sys.stderr, flush=True)
        os._exit(1)
    _answered.add(repr(predictions))
    return _make_answer(self, rows, predictions)
Predictor.make_answer = _answer
"""


def end_when_proven_again(source: str) -> str:
    """Change `serving/predictor.py` so that a server passes one proof, and ends at the next."""
    return f"{source}{_ENDS_PROVEN}"


def end_under_traffic(source: str) -> str:
    """Change `serving/predictor.py` so that a released server ends as soon as clients ask it.

    They ask for one row, golden predictions for more.
    """
    return f"{source}\n{_RELEASED.replace('DEED', _ENDS)}"


_ANSWERS_OTHERWISE = """
_make_answer = Predictor.make_answer
def _answer(self, rows, predictions):
    answer = _make_answer(self, rows, predictions)
    return Answer(b"[2]", 1, {}) if len(rows) == 1 else answer
Predictor.make_answer = _answer
"""


def answer_clients_otherwise(source: str) -> str:
    """Change `serving/predictor.py` so that one row, as clients ask for it, is answered with 2.

    Golden predictions do not find it: they are asked for all at once.
    """
    return f"{source}{_ANSWERS_OTHERWISE}"


def in_main(code: str) -> Callable[[str], str]:
    """Change `serving/__main__.py` so that every server does this first."""

    def change(source: str) -> str:
        doc, _, rest = source.partition('"""\n')
        return f'{doc}"""\n{code}\n{rest}'

    return change


def when_released(deed: str) -> Callable[[str], str]:
    """Change `serving/__main__.py` so that servers do this first, but not in a trial on the worker.

    On the worker's own host there is none: the server of preflight is the one that is released.
    """
    return in_main(_RELEASED.replace("DEED", deed))


def other_prediction(text: str) -> str:
    """Change golden predictions: the model predicts differently from one of them."""
    golden = json.loads(text)
    golden["outputs"]["predict"][3] = (golden["outputs"]["predict"][3] + 1) % 3
    return json.dumps(golden)
