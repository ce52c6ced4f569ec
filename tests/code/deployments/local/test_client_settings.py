"""The Prefect command line in the checkout finds the local stack by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from deployments.local.client_settings import NAME, remove_settings, write_settings
from deployments.local.layout import Layout
from deployments.local.stack import Stack
from tests.code.deployments.servers import clean_environment


def layout_of(checkout: Path, stack: Stack) -> Layout:
    """Return the layout of a running stack as if it were the one of another checkout."""
    home = checkout / ".slipway"
    home.mkdir()
    return replace(stack.layout, home=home, checkout=checkout)


def test_prefect_command_creates_a_run_at_the_local_stack(stack: Stack, tmp_path: Path) -> None:
    layout, lines = layout_of(tmp_path, stack), list[str]()
    write_settings(layout, stack.credentials, lines.append)
    assert any(f"PREFECT_API_URL={stack.prefect_api_url}" in line for line in lines)
    assert not any(stack.credentials.prefect in line for line in lines)
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0
    command = [sys.executable, "-m", "prefect", "deployment", "run", "train/train"]
    environment = {**clean_environment(), "PREFECT_HOME": str(tmp_path / "prefect")}
    result = subprocess.run(
        [*command, "--param", "ref=no-such-ref", "--watch"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no-such-ref" in result.stdout + result.stderr
    with stack.open_api() as api:
        assert api.find_runs(["FAILED"], deployment="train/train")
    remove_settings(layout)
    assert not (tmp_path / NAME).exists()


def test_users_own_settings_are_left_alone(stack: Stack, tmp_path: Path) -> None:
    layout, lines = layout_of(tmp_path, stack), list[str]()
    own = tmp_path / NAME
    own.write_text('[api]\nurl = "https://prefect.example.com/api"\n')
    before = own.read_text()
    write_settings(layout, stack.credentials, lines.append)
    remove_settings(layout)
    assert own.read_text() == before
    assert f"{NAME} is a file of yours" in lines[0]


def test_stack_outside_of_its_checkout_writes_no_settings(stack: Stack, tmp_path: Path) -> None:
    elsewhere = replace(stack.layout, home=tmp_path / "elsewhere", checkout=tmp_path)
    write_settings(elsewhere, stack.credentials, print)
    assert not (tmp_path / NAME).exists()
