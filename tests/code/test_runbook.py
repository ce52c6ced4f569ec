"""The runbook knows every message with which a flow or a command gives up."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tasks.core.settings import CHECKOUT

_ERRORS = {
    "CandidateRejected", "ConfigurationError", "TerminalError", "TransientError",
    "_proof_error", "_rollout_error", "release_error",
}  # fmt: skip
# What every message that is told to a person comes with.
_PARTS = {"state", "next_step"}
_SHORTEST = 6


def _words(text: str) -> str:
    return " ".join(text.replace("`", "").replace("…", " … ").split())


def _messages() -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each message, and its constant parts."""
    for folder in ("flows", "tasks", "deployments"):
        for path in sorted((CHECKOUT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                named = isinstance(node.func, ast.Name) and node.func.id in _ERRORS
                keywords = {keyword.arg for keyword in node.keywords} & _PARTS
                if not named and not keywords:
                    continue
                message = node.args[0]
                parts = message.values if isinstance(message, ast.JoinedStr) else [message]
                fixed = [
                    _words(part.value).strip(" .:;,()")
                    for part in parts
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                if telling := [item for item in fixed if len(item) >= _SHORTEST]:
                    yield f"{path.relative_to(CHECKOUT)}:{node.lineno}", telling


_ROWS = [_words(row) for row in (CHECKOUT / "docs" / "runbook.md").read_text().splitlines()]


def test_every_message_is_explained_in_one_row() -> None:
    missing = [
        f"{where}: {' … '.join(parts)}"
        for where, parts in _messages()
        if not any(all(part in row for part in parts) for row in _ROWS)
    ]
    assert not missing, "add to docs/runbook.md:\n" + "\n".join(missing)


def test_messages_are_found() -> None:
    results = [parts for _, parts in _messages()]
    assert len(results) > 60
    assert ["does not exist on origin"] in results
    assert ["the model server ended at start"] in results
    assert ["does not get ready in the cluster"] in results
