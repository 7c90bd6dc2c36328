"""The process that sets one document: a program of its own, which gives up its rights before it reads a template.

`python -I -S -B typesetting_child.py FOLDER-OF-PACKAGES`, in a folder that holds `main.typ` and nothing else but what
it may read. It writes one byte to its output, `+` before a PDF or `-` before a JSON object that says what is wrong.
"""

import ctypes
import json
import os
import platform
import re
import resource
import signal
import struct
import sys
from typing import Any

CPU_SECONDS = 6
"""Of processor time, for all of a document."""
WALL_SECONDS = 20
"""After which it ends by itself, whoever waits for it."""
MEMORY = 768 * 1024 * 1024
"""Bytes of address space; typst with its fonts takes 290 MB of it without using them."""
LARGEST = 10 * 1024 * 1024
"""Bytes of a PDF."""
_FILES = 16
_NO_PACKAGES = "/nonexistent"
_PLACE = re.compile(r"┌─ (\S+):([0-9]+):([0-9]+)")

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED: dict[str, tuple[int, ...]] = {
    # What the kernel refuses from then on, by numbers of x86_64 and aarch64; 0 where the architecture has no such call.
    "socket, socketpair, connect": (41, 198, 53, 199, 42, 203),
    "fork, vfork, execve, execveat": (57, 0, 58, 0, 59, 221, 322, 281),
    "kill, pidfd_send_signal, ptrace": (62, 129, 424, 424, 101, 117),
    "process_vm_readv, process_vm_writev": (310, 270, 311, 271),
    "io_uring_setup, bpf, memfd_create": (425, 425, 321, 280, 319, 279),
    "creat, openat2, open_by_handle_at": (85, 0, 437, 437, 304, 265),
    "rename, renameat, renameat2": (82, 0, 264, 38, 316, 276),
    "mkdir, mkdirat, rmdir, mknod, mknodat": (83, 0, 258, 34, 84, 0, 133, 0, 259, 33),
    "link, linkat, symlink, symlinkat": (86, 0, 265, 37, 88, 0, 266, 36),
    "unlink, unlinkat, truncate, ftruncate": (87, 0, 263, 35, 76, 45, 77, 46),
    "chmod, fchmod, fchmodat, fchmodat2": (90, 0, 91, 52, 268, 53, 452, 452),
    "chown, fchown, lchown, fchownat, utimensat": (92, 0, 93, 55, 94, 0, 260, 54, 280, 88),
    "mount, unshare, setns": (165, 40, 272, 97, 308, 268),
    "add_key, request_key, keyctl": (248, 217, 249, 218, 250, 219),
}
_OPENING = ((2, 0, 1), (257, 56, 2))
"""open and openat, each with the place of the flags among its arguments."""
_CLONE, _CLONE3 = (56, 220), 435
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_FOREIGN = 0x40000000
"""Where the numbers of another table begin, which x86_64 has for programs with short addresses."""
_ALLOW, _DENY, _UNKNOWN = 0x7FFF0000, 0x00050001, 0x00050026
"""Answers: go on; fail with EPERM; fail with ENOSYS, so that the C library makes threads by the older call."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _GIVE = 0x20, 0x15, 0x35, 0x45, 0x06


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction of classic BPF; `yes` and `no` are how many to skip."""
    return struct.pack("=HBBI", code, yes, no, value)


def _argument(place: int) -> bytes:
    """Loads the lower half of an argument of the call."""
    return _step(_LOAD, 16 + 8 * place)


def _filter() -> bytes:
    """The program of the kernel's filter (seccomp) for this architecture; empty where there is none."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        return b""
    column = list(_ARCHITECTURES).index(machine)
    deny, allow = _step(_GIVE, _DENY), _step(_GIVE, _ALLOW)
    steps = [_step(_LOAD, 4), _step(_EQUAL, _ARCHITECTURES[machine], yes=1), deny]
    steps += [_step(_LOAD, 0), _step(_AT_LEAST, _FOREIGN, no=1), deny]
    for numbers in _REFUSED.values():
        for number in filter(None, numbers[column::2]):
            steps += [_step(_EQUAL, number, no=1), deny]
    steps += [_step(_EQUAL, _CLONE3, no=1), _step(_GIVE, _UNKNOWN)]
    for numbers in _OPENING:
        if (number := numbers[column]) != 0:
            flags = _argument(numbers[2])
            steps += [_step(_EQUAL, number, no=4), flags, _step(_ANY_OF, _WRITING, no=1), deny, allow]
    thread = _step(_ANY_OF, _CLONE_THREAD, yes=1)
    steps += [_step(_EQUAL, _CLONE[column], no=3), _argument(0), thread, deny]
    return b"".join([*steps, allow])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def confine() -> None:
    """Gives up, for good, what setting a document does not need; raises OSError where the kernel refuses."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))  # the first ends it by a signal of its own
    if steps := _filter():
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(steps, len(steps))
        program = _Program(len(steps) // 8, ctypes.cast(buffer, ctypes.c_void_p))
        no_new_privileges, set_filter, by_program = 38, 22, 2
        for arguments in ((no_new_privileges, 1, 0, 0, 0), (set_filter, by_program, ctypes.byref(program), 0, 0)):
            if libc.prctl(*arguments) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


def _fault(error: Any, root: str) -> bytes:
    """What typst says, without the folder that it looked in."""
    text = str(error.message).replace(f"{root}/", "").replace(root, "")
    found = _PLACE.search(str(error.diagnostic))
    file, line, column = (found[1].rsplit("/", 1)[-1], int(found[2]), int(found[3])) if found else (None, None, None)
    hints = [str(hint) for hint in error.hints]
    return b"-" + json.dumps({"message": text, "file": file, "line": line, "column": column, "hints": hints}).encode()


def main() -> None:
    """Sets `main.typ` of the present folder."""
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)  # unhandled, its signal ends the process
    os.nice(5)  # whoever waits for a record goes first
    sys.path.insert(0, sys.argv[1])
    import typst  # noqa: PLC0415 - the packages are not on the path before

    confine()
    root = os.getcwd()  # noqa: PTH109 - pathlib is not loaded for it
    try:
        found: Any = typst.compile(
            f"{root}/main.typ",
            root=root,
            ignore_system_fonts=True,
            package_path=_NO_PACKAGES,
            package_cache_path=_NO_PACKAGES,
            format="pdf",
            timestamp=int(sys.argv[2]),
        )
        reply = b"+" + found
        if len(reply) > LARGEST:
            reply = b"-" + json.dumps({"message": f"the PDF has more than {LARGEST} bytes"}).encode()
    except typst.TypstError as error:
        reply = _fault(error, root)
    except BaseException as error:  # noqa: BLE001 - a panic of typst is no Exception
        reply = b"-" + json.dumps({"message": f"typst fails at it ({type(error).__name__})"}).encode()
    while reply:
        reply = reply[os.write(1, reply) :]


if __name__ == "__main__":
    main()
