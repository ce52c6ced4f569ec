"""YAML that is read by the C library."""

from __future__ import annotations

import pytest
import yaml

from tasks.core.fast_yaml import read_yaml


@pytest.mark.parametrize("text", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000])
def test_documents_that_are_too_deep_do_not_end_the_process(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="more than 100 levels"):
        read_yaml(text)


def test_records_of_dvc_are_read_as_without_the_library() -> None:
    text = "schema: '2.0'\nstages:\n  a@1:\n    deps:\n    - {path: x, md5: 12e5, size: 3}\n"
    assert read_yaml(text) == yaml.safe_load(text)
