"""The names, docstrings and sizes that CONTRIBUTING.md asks for."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.core.settings import CHECKOUT

# A participle or a pronoun does not say what a function does, or what a value is.
_FORBIDDEN = {
    "asked", "described", "ended", "held", "kept", "noted", "reported", "said", "settled",
    "standing", "stood", "taken_back", "told", "waived", "wanted",
}  # fmt: skip
# `each`, `found` and `one` say nothing of a variable, but are good parts of longer names.
_FORBIDDEN_VARIABLES = _FORBIDDEN | {"each", "found", "one"}
_FORBIDDEN_FIRST_WORDS = {"How", "Of", "What", "Where", "Whether", "Which", "Who", "Whoever"}
_MODULE_LINES = 320
_FUNCTION_LINES = 70

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _own_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [CHECKOUT / name for name in listing.stdout.split("\0") if name]
    return sorted(path for path in files if path.is_file())


_FILES = _own_files()
_TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _FILES}


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(CHECKOUT)}:{line}"


def _names(path: Path) -> Iterator[tuple[int, str, set[str]]]:
    """Yield line, name and forbidden words of each function, class, variable and attribute."""
    for node in ast.walk(_TREES[path]):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name.lower(), _FORBIDDEN
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id, _FORBIDDEN_VARIABLES
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr, _FORBIDDEN_VARIABLES
            case ast.arg():
                yield node.lineno, node.arg, _FORBIDDEN_VARIABLES


def test_names_are_verbs_and_nouns() -> None:
    wrong = [
        f"{_place(path, line)} {name}"
        for path in _FILES
        for line, name, forbidden in _names(path)
        if name.strip("_") in forbidden
    ]
    wrong += [str(path.relative_to(CHECKOUT)) for path in _FILES if path.stem in _FORBIDDEN]
    assert not wrong, "rename:\n" + "\n".join(wrong)


def test_docstrings_do_not_open_with_a_clause() -> None:
    wrong = [
        f"{_place(path, node.lineno)} {node.name}: {first}"
        for path in _FILES
        for node in ast.walk(_TREES[path])
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef))
        for first in [(ast.get_docstring(node) or "").partition(" ")[0]]
        if first in _FORBIDDEN_FIRST_WORDS
    ]
    assert not wrong, "say what it returns or does:\n" + "\n".join(wrong)


def test_modules_and_functions_fit_in_the_head() -> None:
    sources = [path for path in _FILES if not path.is_relative_to(CHECKOUT / "tests")]
    long = [
        f"{path.relative_to(CHECKOUT)} has {lines} lines"
        for path in sources
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > _MODULE_LINES
    ]
    long += [
        f"{_place(path, node.lineno)} {node.name} has {lines} lines"
        for path in sources
        for node in ast.walk(_TREES[path])
        if isinstance(node, _FUNCTIONS)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > _FUNCTION_LINES
    ]
    assert not long, "split:\n" + "\n".join(long)
