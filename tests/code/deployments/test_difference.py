"""What differs, as plain values."""

from __future__ import annotations

from pydantic import SecretStr

from deployments.catalogue.difference import Change, diff


def test_diff_lists_the_changes_to_make() -> None:
    desired = {"new": {"a": 1}, "same": {"a": 1}, "other": {"a": 1}}
    actual = {"old": {"a": 1}, "same": {"a": 1}, "other": {"a": 2}}
    changes = diff("thing", desired, actual)
    assert [(change.action, change.name) for change in changes] == [
        ("create", "new"),
        ("change", "other"),
        ("remove", "old"),
    ]
    assert diff("thing", desired, desired) == []


def test_fields_are_listed_by_path() -> None:
    before = {"a": {"b": [1, 2], "c": 3}, "d": {}, "same": "x"}
    after = {"a": {"b": [1], "e": "new"}, "d": {"f": None}, "same": "x"}
    assert Change("thing", "one", before, after).fields() == [
        "a.b[1]: 2 → -",
        "a.c: 3 → -",
        'a.e: - → "new"',
        "d: {} → -",
        "d.f: - → null",
    ]


def test_secrets_are_compared_and_not_shown() -> None:
    first, other = {"value": SecretStr("hush")}, {"value": SecretStr("quiet")}
    assert not diff("thing", {"a": first}, {"a": {"value": SecretStr("hush")}})
    (change,) = diff("thing", {"a": first}, {"a": other})
    assert change.fields() == ["value: (secret) → (secret)"]
    assert "hush" not in repr(change)
    assert "quiet" not in repr(change)


def test_long_values_are_cut() -> None:
    (line,) = Change("thing", "one", {"a": ""}, {"a": "x" * 500}).fields()
    assert len(line) < 100
