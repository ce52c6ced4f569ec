"""Let OpenSSF's own program verify a signature of Slipway's, and refuse it for other bytes.

    uvx --with pyopenssl --from model-signing python -m model_signing --help   # fetches it once
    .venv/bin/python -m benchmarks.model_signing

It is no dependency: with what it needs it takes 50 MB, and a call takes a second of CPU.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tasks.package.statement import Signer, sign

_VERIFY = [
    "uvx", "--with", "pyopenssl", "--from", "model-signing", "python", "-m", "model_signing",
    "verify", "key",
]  # fmt: skip


def main() -> int:
    """Sign some files, verify them, change one, verify again; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / "model" / "wine", folder / "serving" / "app.py", folder / "dvc.lock"]
        for number, file in enumerate(files):
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"content {number}\n")
        (folder / "README.md").write_text("not signed\n")
        key = ec.generate_private_key(ec.SECP256R1())
        digests = {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        }
        signature, public = folder / "model" / "wine.sig", folder / "key.pem"
        signature.write_text(sign("wine", digests, key))
        public.write_bytes(Signer("", key.public_key()).pem)
        argv = [*_VERIFY, str(folder), "--signature", str(signature), "--public_key", str(public),
                "--ignore_unsigned_files"]  # fmt: skip
        before = subprocess.run(argv, capture_output=True, text=True, check=False)
        files[0].write_text("other content\n")
        after = subprocess.run(argv, capture_output=True, text=True, check=False)
    for label, done in (("as signed", before), ("changed", after)):
        print(f"{label}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return 0 if before.returncode == 0 and after.returncode != 0 else 1


if __name__ == "__main__":
    sys.exit(main())
