"""Which tests run on the same worker of pytest-xdist, and in which order workers get them."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# What is made once a worker is shared: by flows a stack, and models delivered through it; by
# targets a Docker engine, of which two on one host get into each other's way.
_TOGETHER = ("tests/code/flows/", "tests/code/targets/")
# What takes longest, first: a worker that gets it last works on when the other is through.
_FIRST = (
    "tests/code/flows/",
    "tests/code/targets/",
    "tests/code/deployments/local/test_self_healing.py",
    "tests/code/images/",
    "tests/code/deployments/",
    "tests/code/serving/",
)


def rank(nodeid: str) -> int:
    """The place of a test in the order of all: of equals, the one collected first."""
    return next((i for i, start in enumerate(_FIRST) if nodeid.startswith(start)), len(_FIRST))


class Scheduling(LoadFileScheduling):
    """Whole files, and whole folders of what is made once a worker."""

    def _split_scope(self, nodeid: str) -> str:
        together = (folder for folder in _TOGETHER if nodeid.startswith(folder))
        return next(together, None) or super()._split_scope(nodeid)
