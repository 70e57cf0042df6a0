"""Run a command in which a system call fails with EIO, as on a failing disk.

python -m tests.faults.seccomp fsync|fdatasync COMMAND...

A filter of the kernel (seccomp(2), SECCOMP_RET_ERRNO) does it, for this process and all that it
starts. captiond and SQLite write files to the disk with fdatasync, and the names of a folder with
fsync.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22  # prctl(2)
MODE_FILTER = 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF
CALLS = {
    "fsync": {"x86_64": 74, "aarch64": 82},
    "fdatasync": {"x86_64": 75, "aarch64": 83},
}


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def make_fail(call: str) -> None:
    filter_ = (
        instruction(LOAD, 0, 0, 0)  # the number of the call
        + instruction(JUMP_IF_EQUAL, 0, 1, CALLS[call][platform.machine()])
        + instruction(RETURN, 0, 0, ERRNO | errno.EIO)
        + instruction(RETURN, 0, 0, ALLOW)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(filter_) // 8, filter_)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl(2)")


if __name__ == "__main__":
    make_fail(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
