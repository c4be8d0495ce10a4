"""Runs a command that may make only the system calls whose names stand in a file: what SystemCallFilter= does.

    python3 confined.py FILE COMMAND...
"""

import ctypes
import os
import platform
import re
import struct
import sys
from pathlib import Path

# The numbers, by the kernel's own header (Debian: linux-libc-dev).
HEADER = Path(f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h")
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2  # prctl(2)
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM


def numbers(names: list[str]) -> list[int]:
    """The numbers of those that this kind of machine has."""
    known = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", HEADER.read_text()))
    return [int(known[name]) for name in names if name in known]


def confine(allowed: list[int]) -> None:
    """This process and what it becomes may make these calls."""
    steps = [(LOAD_NUMBER, 0, 0, 0)]
    for number in allowed:
        steps += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, REFUSE))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps), ctypes.addressof(code))
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    confine(numbers(Path(sys.argv[1]).read_text().split()))
    os.execv(sys.argv[2], sys.argv[2:])
