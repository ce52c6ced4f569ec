"""Which tests run on the same worker of pytest-xdist, and in which order workers get them."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# What is made once a worker is shared: by flows a stack, and models delivered through it; by
# targets the places that they release to.
_FLOWS, _TARGETS = "tests/code/flows/", "tests/code/platforms/"
# The repository's own model is trained and served once.
_MODEL = ("tests/data/", "tests/model/", "tests/pipeline/")
# Two workers share the platforms: these are in the name of a test's file or parameter.
_ELSEWHERE = ("flyio", "heroku", "sagemaker")
# What takes longest, first: a worker that gets it last works on when the other is through.
_FIRST = (
    _FLOWS,
    _TARGETS,
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
        if nodeid.startswith(_FLOWS):
            return _FLOWS
        if nodeid.startswith(_TARGETS):
            elsewhere = any(platform in nodeid for platform in _ELSEWHERE)
            return f"{_TARGETS} elsewhere" if elsewhere else _TARGETS
        if nodeid.startswith(_MODEL):
            return "model"
        return super()._split_scope(nodeid)
