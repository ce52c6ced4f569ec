"""A filter of system calls for a box that inherits a socket of the host's network.

A box of its own network namespace reaches nothing. But a socket belongs to the namespace in which
it was made, and whoever holds one can connect it, again and again, to what that reaches. So where a
server gets its socket from outside, nothing in the box connects any socket.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x80000000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in `struct seccomp_data`
_SECOND_FLAGS, _THIRD_FLAGS = 16 + 2 * 8, 16 + 3 * 8  # of its arguments 2 and 3, counted from 0
_X32 = 0x40000000  # calls of x86-64's other ABI, which have numbers of their own
_CONNECT_AND_SEND = 0x20000000  # MSG_FASTOPEN
_IO_URING = 425  # makes calls that no filter sees
# Architecture; numbers of connect, sendto, sendmsg, sendmmsg.
_MACHINES = {
    "x86_64": (0xC000003E, 42, 44, 46, 307),
    "aarch64": (0xC00000B7, 203, 206, 211, 269),
}


def forbid_connections(machine: str = platform.machine()) -> bytes:
    """Make a filter that denies whatever connects a socket; empty for an unknown processor.

    Returns:
        A program for `bwrap --seccomp`.
    """
    if machine not in _MACHINES:
        return b""
    architecture, connect, sendto, sendmsg, sendmmsg = _MACHINES[machine]
    # Jumps count the instructions to skip: if true, if false.
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 10, 0, _X32),
        (_EQUAL, 9, 0, connect),
        (_EQUAL, 8, 0, _IO_URING),
        (_EQUAL, 3, 0, sendto),
        (_EQUAL, 2, 0, sendmmsg),
        (_EQUAL, 3, 0, sendmsg),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _THIRD_FLAGS),
        (_ANY_BIT, 2, 1, _CONNECT_AND_SEND),
        (_LOAD, 0, 0, _SECOND_FLAGS),
        (_ANY_BIT, 0, 1, _CONNECT_AND_SEND),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
