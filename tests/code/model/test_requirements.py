"""Hashes of a model's packages, from the lock of its environment."""

import sys
from pathlib import Path

from model.requirements import find_hashes

PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"
LOCK = f"""
[[package]]
name = "one"
version = "1.0"
sdist = {{ url = "https://pypi/one-1.0.tar.gz", hash = "sha256:source" }}
wheels = [
  {{ url = "https://pypi/one-1.0%2Bcpu-{PYTHON}-{PYTHON}-linux_x86_64.whl", hash = "sha256:own" }},
  {{ url = "https://pypi/one-1.0-{PYTHON}-{PYTHON}-macosx_11_0_arm64.whl", hash = "sha256:mac" }},
  {{ url = "https://pypi/one-1.0-cp39-abi3-linux_x86_64.whl", hash = "sha256:stable" }},
  {{ url = "https://pypi/one-1.0-cp399-cp399-linux_x86_64.whl", hash = "sha256:other-python" }},
]

[[package]]
name = "one"
version = "2.0"
sdist = {{ url = "https://pypi/one-2.0.tar.gz", hash = "sha256:other-version" }}

[[package]]
name = "two"
version = "3.0"
wheels = [{{ filename = "two-3.0-py2.py3-none-any.whl", hash = "sha256:two" }}]

[[package]]
name = "three"
version = "4.0"
wheels = [{{ url = "https://pypi/three-4.0-py3-none-any.whl" }}]

[[package]]
name = "of-the-repository"
source = {{ virtual = "." }}
"""


def test_hashes_are_those_of_the_version_and_of_this_python(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text(LOCK)
    installed = {"one": "1.0", "two": "3.0", "three": "4.0", "four": "5.0"}
    assert find_hashes(installed, lock) == {
        "one": ["sha256:mac", "sha256:own", "sha256:source", "sha256:stable"],
        "two": ["sha256:two"],
    }
