from __future__ import annotations

import subprocess
import sys

import pytest

from tasks.core.settings import CHECKOUT

_CORE = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    for path in (CHECKOUT / "tasks" / "core").glob("*.py")
)


@pytest.mark.parametrize(
    "modules",
    [_CORE, ["tasks.bucket.objects", "tasks.repository.git"]],
    ids=["core", "programs of the stack"],
)
def test_modules_for_short_programs_do_not_import_prefect(modules: list[str]) -> None:
    # It costs ten times as much as everything else that such a program does.
    code = (
        f"import sys, {', '.join(modules)}; from tasks.core.commands import run_logger;"
        " run_logger().info('a line'); print('prefect' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
