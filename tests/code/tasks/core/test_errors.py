from __future__ import annotations

import pickle

from tasks.core.errors import ConfigurationError, TransientError


def test_error_shows_cause_state_and_next_step() -> None:
    error = TransientError("S3 is down", state="nothing was pushed", next_step="run push again")
    assert str(error) == "S3 is down\nState: nothing was pushed\nNext: run push again"


def test_error_survives_pickling_with_its_type() -> None:
    error = pickle.loads(pickle.dumps(ConfigurationError("bad", state="s", next_step="n")))
    assert isinstance(error, ConfigurationError)
    assert (error.what, error.state, error.next_step) == ("bad", "s", "n")
