from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tasks.core.byte_code import share_byte_code


def test_byte_code_is_shared_between_the_very_same_files_alone(tmp_path: Path) -> None:
    packages = [tmp_path / name / "lib" / "package" for name in ("compiled", "fresh")]
    for folder in packages:
        folder.mkdir(parents=True)
        (folder / "other.py").write_text("raise SystemExit('of its own')\n")
    compiled, fresh = packages
    (compiled / "same.py").write_text("def fail():\n    raise ValueError('as compiled')\n")
    os.link(compiled / "same.py", fresh / "same.py")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(compiled)], check=True)

    share_byte_code(tmp_path / "fresh")
    (shared,) = (fresh / "__pycache__").iterdir()
    assert shared.samefile(compiled / "__pycache__" / shared.name)
    # Taken as it is, and a traceback has the path of here.
    code = "import sys; sys.path.insert(0, sys.argv[1]); import same; same.fail()"
    failed = subprocess.run(
        [sys.executable, "-v", "-c", code, str(fresh)], capture_output=True, text=True, check=False
    )
    assert f"code object from '{shared}'" in failed.stderr
    assert f'File "{fresh / "same.py"}", line 2, in fail' in failed.stderr
