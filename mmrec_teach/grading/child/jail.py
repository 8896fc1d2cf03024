"""What a student's process may do: limits on memory, files and CPU; system calls it may not make; files it may not see.

All of it is given up for good before the first line of a submission runs, without any privilege: ``setrlimit``, then
``seccomp`` (no new process, no program started, no socket, no signal to others, no look into other processes), and, where no
bubblewrap has built a small world of files already, ``Landlock`` (nothing readable but Python's own folders).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAP_AMBIENT = 1, 4, 38, 22, 47
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: number on x86_64, on aarch64 (None: not there)
_DENIED = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200), "listen": (50, 201), "accept4": (288, 242),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "setpgid": (109, 154), "setsid": (112, 157), "setpriority": (141, 140), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "personality": (135, 92),
    "pivot_root": (155, 41), "chroot": (161, 51), "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432), "mount_setattr": (442, 442),
    "acct": (163, 89), "swapon": (167, 224), "reboot": (169, 142), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # what Landlock does not guard: a file's rights, owner, times and attributes; its length before Landlock's third version
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None),
    "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "truncate": (76, 45), "sched_setattr": (314, 274),
    "io_setup": (206, 0), "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "syslog": (103, 116),
}  # fmt: skip
_CLONE, _CLONE3, _PRLIMIT, _FCNTL, _IOCTL = (56, 220), (435, 435), (302, 261), (72, 25), (16, 29)
_UNKNOWN = 448  # from here on calls are too new to be known; programs fall back when they are absent
_CLONE_THREAD = 0x00010000
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI = 0x8901, 0x8902, 0x5412  # a signal's addressee; typing into a terminal

_LANDLOCK_READ = 1 << 2 | 1 << 3  # read file, read directory
_LANDLOCK_EXECUTE = 1 << 0
_LANDLOCK_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def address_space() -> int:
    """Bytes of address space in use; 0 where the system does not tell. Landlock hides the answer from a forked process."""
    import resource

    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0


def limit(memory: int, cpu: float, file_size: int, open_files: int = 64, threads: int = 256) -> None:
    """Lower this process's limits for good.

    Args:
        memory: bytes of address space; 0 sets no limit.
        cpu: CPU seconds; then the process is killed.
        file_size: bytes a file may grow to; 0 forbids writing files.
        open_files: file descriptors.
        threads: threads and processes of this user; 0 sets no limit. Without a name space of its own, the user's others count.
    """
    import resource

    wanted = {
        resource.RLIMIT_CPU: int(cpu) + 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_NOFILE: open_files,
    }
    if memory:
        wanted[resource.RLIMIT_AS] = memory
    if threads:
        wanted[resource.RLIMIT_NPROC] = threads
    for which, value in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (value, value))


def hide_memory() -> None:
    """Let no other process of this user read or write this one's memory, and end with the parent. Linux only; else nothing."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _libc().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up what root may do beyond others (raise limits, look into any process), for good. Linux only; else nothing."""
    if sys.platform == "linux":
        libc = _libc()
        libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)  # clear all
        header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
        libc.capset(header, nothing)


def seccomp_works() -> bool:
    """Whether this system can filter system calls, and we know its numbers."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES or sys.byteorder != "little":
        return False
    allow = ctypes.c_uint32(0x7FFF0000)
    return _libc().syscall(317 if platform.machine() == "x86_64" else 277, 2, 0, ctypes.byref(allow)) == 0


def deny_system_calls() -> None:
    """Install the filter: a denied call fails with EPERM.

    Raises:
        OSError: the kernel refuses.
    """
    machine = list(_ARCHITECTURES).index(platform.machine())
    program = _program(machine, _ARCHITECTURES[platform.machine()])
    libc = _libc()
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    buffer = ctypes.create_string_buffer(program, len(program))

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    wanted = Filter(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p).value)
    _call(libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(wanted), 0, 0), "seccomp")


def _program(machine: int, architecture: int) -> bytes:
    """The filter in the kernel's little language: load, compare, jump, return."""
    load, equal, at_least, any_bit, back = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    refuse, absent = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    number, arch, argument = 0, 4, lambda index: 16 + 8 * index
    steps: list[tuple[int, int, int, int]] = [
        (load, 0, 0, arch), (equal, 1, 0, architecture), (back, 0, 0, kill), (load, 0, 0, number),
    ]  # fmt: skip
    if machine == 0:  # the x32 way of calling
        steps += [(at_least, 0, 1, 0x40000000), (back, 0, 0, refuse)]
    for numbers in _DENIED.values():
        if numbers[machine] is not None:
            steps += [(equal, 0, 1, numbers[machine]), (back, 0, 0, refuse)]
    steps += [(equal, 0, 1, _CLONE3[machine]), (back, 0, 0, absent)]  # glibc then falls back on clone, whose flags can be seen
    steps += [(at_least, 0, 1, _UNKNOWN), (back, 0, 0, absent)]
    steps += [(equal, 0, 4, _CLONE[machine]), (load, 0, 0, argument(0)), (any_bit, 1, 0, _CLONE_THREAD),
              (back, 0, 0, refuse), (back, 0, 0, allow)]  # fmt: skip
    steps += [(equal, 0, 4, _PRLIMIT[machine]), (load, 0, 0, argument(0)), (equal, 1, 0, 0),
              (back, 0, 0, refuse), (back, 0, 0, allow)]  # fmt: skip
    for which, bad in ((_FCNTL, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)), (_IOCTL, (_FIOSETOWN, _SIOCSPGRP, _TIOCSTI))):
        steps += [(equal, 0, 6, which[machine]), (load, 0, 0, argument(1))]
        steps += [
            (equal, 2, 0, bad[0]),
            (equal, 1, 0, bad[1]),
            (equal, 0, 1, bad[2]),
            (back, 0, 0, refuse),
            (back, 0, 0, allow),
        ]
    steps += [(back, 0, 0, allow)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def landlock_version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, _libc().syscall(444, None, 0, 1))


def see_only(folders: Iterable[str]) -> None:
    """From now on nothing outside ``folders`` can be opened, and nothing anywhere written (/dev/null excepted).

    Raises:
        OSError: the kernel refuses.
    """
    libc = _libc()
    handled = _LANDLOCK_ALL[min(landlock_version(), 3)]
    attributes = struct.pack("<Q", handled)
    ruleset = libc.syscall(444, attributes, len(attributes), 0)
    _call(ruleset, "landlock_create_ruleset")
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            allowed = _LANDLOCK_READ | _LANDLOCK_EXECUTE if os.path.isdir(folder) else 1 << 2 | _LANDLOCK_EXECUTE
            if folder == "/dev/null":
                allowed = 1 << 1 | 1 << 2
            rule = struct.pack("<Qi", allowed, handle)
            _call(libc.syscall(445, ruleset, 1, rule, 0), f"landlock_add_rule {folder}")
            os.close(handle)
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _call(libc.syscall(446, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
