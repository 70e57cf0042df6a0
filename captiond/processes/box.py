"""The box of a process that handles hostile bytes: what the kernel forbids to it.

After `enter_box`, a process can open files of one folder for reading, whose names it has to know,
and nothing else. It cannot make sockets or processes, run programs, or change executable memory.
The two means are independent: landlock(7) restricts what it can open, and a filter of system calls
(seccomp(2)) allows the calls that decoding takes. Neither needs privileges. There is no Python
library for them that is well kept, so they are used through ctypes.
"""

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_SECCOMP = 38, 21, 22  # prctl(2)
MODE_FILTER = 2

# The interface of landlock(7)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the numbers are those of all machines
GET_VERSION, PATH_BENEATH = 1, 1
READ_FILE = 1 << 2
# The rights on files and on TCP ports, and the scopes, that each version of the interface has.
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NETWORK_RIGHTS = {4: 0b11}
SCOPES = {6: 0b11}

# The interface of seccomp(2)
LOAD, RETURN = 0x20, 0x06  # classic BPF
JUMP_IF_EQUAL, JUMP_IF_BITS = 0x15, 0x45
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # and the column in CALLS
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CLONE_THREAD, PROT_EXEC = 0x00010000, 0x4
CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101),
    "setitimer": (38, 103), "getpid": (39, 172), "sendto": (44, 206), "recvfrom": (45, 207),
    "exit": (60, 93), "fcntl": (72, 25), "getrusage": (98, 165), "sigaltstack": (131, 132),
    "gettid": (186, 178), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "newfstatat": (262, 79), "set_robust_list": (273, 99),
    "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293),
}  # fmt: skip
OPENAT, MMAP, MPROTECT = (257, 56), (9, 222), (10, 226)
CLONE, CLONE3, TGKILL, PRLIMIT = (56, 220), (435, 435), (234, 131), (302, 261)


class FilterProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def missing_parts() -> list[str]:
    """Return the parts of the box that this machine does not have."""
    missing = []
    if landlock_version() < 1:
        missing.append("landlock")
    if platform.machine() not in MACHINES or library().prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        missing.append("seccomp")
    return missing


def enter_box(folder: Path) -> None:
    """Restrict this process, for good. From then on it can only read files of `folder`.

    Parts that this machine does not have are left out. Modules have to be imported before.

    Raises:
        OSError: the kernel refuses a part that it has.
    """
    missing = missing_parts()
    check(library().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if "landlock" not in missing:
        restrict_files(folder)
    if "seccomp" not in missing:
        restrict_calls()


def check(result: int, part: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"the kernel refuses {part}")
    return result


def landlock_version() -> int:
    """Return the version of the kernel's landlock interface, less than 1 without one."""
    return int(library().syscall(CREATE_RULESET, None, 0, GET_VERSION))


def rights(table: dict[int, int], version: int) -> int:
    """Return the value of the latest version that is not later than `version`."""
    return next((table[known] for known in sorted(table, reverse=True) if known <= version), 0)


def restrict_files(folder: Path) -> None:
    """Allow only to read files beneath a folder; not to list it. Forbid TCP, where landlock can."""
    version, libc = landlock_version(), library()
    handled = [rights(table, version) for table in (FILE_RIGHTS, NETWORK_RIGHTS, SCOPES)]
    attributes = struct.pack("3Q", *handled)[
        : 8 * (3 if version >= 6 else 2 if version >= 4 else 1)
    ]
    ruleset = check(libc.syscall(CREATE_RULESET, attributes, len(attributes), 0), "landlock")
    try:
        place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", READ_FILE, place)
            check(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0), "landlock")
        finally:
            os.close(place)
        check(libc.syscall(RESTRICT_SELF, ruleset, 0), "landlock")
    finally:
        os.close(ruleset)


def restrict_calls() -> None:
    """Forbid all system calls that decoding does not take. They fail with EPERM."""
    code = call_filter(platform.machine(), os.getpid())
    program = FilterProgram(len(code) // 8, code)
    check(library().prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def call_filter(machine: str, process: int) -> bytes:
    """Return the filter's code for a machine and the id of the process."""
    architecture, column = MACHINES[machine]
    refused = instruction(RETURN, 0, 0, ERROR | errno.EPERM)
    allowed = instruction(RETURN, 0, 0, ALLOW)
    code = (
        instruction(LOAD, 0, 0, ARCHITECTURE)
        + instruction(JUMP_IF_EQUAL, 1, 0, architecture)
        + instruction(RETURN, 0, 0, KILL)
        + instruction(LOAD, 0, 0, NUMBER)
        # glibc makes a thread with clone instead, whose flags can be seen here.
        + when(CLONE3[column], instruction(RETURN, 0, 0, ERROR | errno.ENOSYS))
        + when(OPENAT[column], without_bits(2, WRITING))
        + when(MMAP[column], without_bits(2, PROT_EXEC))
        + when(MPROTECT[column], without_bits(2, PROT_EXEC))
        + when(CLONE[column], with_bits(0, CLONE_THREAD))
        + when(TGKILL[column], with_value(0, process))  # abort(3)
        + when(PRLIMIT[column], with_value(0, 0))  # of this process
    )
    for numbers in CALLS.values():
        code += when(numbers[column], allowed)
    return code + refused


def instruction(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def when(number: int, then: bytes) -> bytes:
    """Return code that runs `then` for the call of this number, and goes on for all others."""
    return instruction(JUMP_IF_EQUAL, 0, len(then) // 8, number) + then


def condition(argument: int, jump: int, value: int, *, expected: bool) -> bytes:
    """Return code that allows the call if a test of its argument's low word is as expected."""
    refused = instruction(RETURN, 0, 0, ERROR | errno.EPERM)
    allowed = instruction(RETURN, 0, 0, ALLOW)
    return (
        instruction(LOAD, 0, 0, ARGUMENTS + 8 * argument)
        + instruction(jump, 0 if expected else 1, 1 if expected else 0, value)
        + allowed
        + refused
    )


def without_bits(argument: int, bits: int) -> bytes:
    return condition(argument, JUMP_IF_BITS, bits, expected=False)


def with_bits(argument: int, bits: int) -> bytes:
    return condition(argument, JUMP_IF_BITS, bits, expected=True)


def with_value(argument: int, value: int) -> bytes:
    return condition(argument, JUMP_IF_EQUAL, value, expected=True)
