"""A process that watches another, so that a crash, an endless loop or a lack of memory in native code is one line.

Python cannot interrupt a library that runs, nor survive one that crashes. So the commands that read files of others go
on in a child process, which is forked before anything large is loaded; the parent waits, and exits as the child does.
"""

import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fusioncam.errors import print_error_json

COMMANDS = ("inspect", "export", "check", "explain")
PERIOD = 0.05  # seconds between two looks at the child
GRACE = 1.0  # seconds that an interrupted child has to end by itself
STOPPED = 1.0  # a longer gap between two looks: both processes were stopped meanwhile
MOST = 0.9  # share of the machine's memory that is the usual limit
GIGABYTE = 1e9
INTERRUPTS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
INTERRUPTED = "interrupted; no incomplete file is left behind"
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_to_parent: int | None = None


def supervise(arguments: Sequence[str]) -> None:
    """Continue in a child process, the only one to which this returns, where the command is one of `COMMANDS`.

    Where processes cannot be forked (on Windows) it returns at once, and nothing is watched.
    """
    global _to_parent
    command = next((a for a in arguments if not a.startswith("-")), None)
    if command not in COMMANDS or not hasattr(os, "fork"):
        return
    read, write = os.pipe()
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # until both know what to do with an interrupt
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(write)
        watch = _Watch(child, read, arguments)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        watch.until_it_ends()
    os.close(read)
    _to_parent = write
    signal.signal(signal.SIGINT, _interrupt_once)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    _die_with(parent)


def limit(subject: str, seconds: float = math.inf, gigabytes: float | None = None) -> None:
    """Ask the parent, where there is one, to end this process when it takes too much.

    Args:
        subject: What is worked on, for the message.
        seconds: Time from now on.
        gigabytes: Of memory; by default nine tenths of the machine's.
    """
    _tell({"subject": subject, "seconds": seconds, "gigabytes": gigabytes})


def uses(library: str) -> None:
    """Tell the parent, where there is one, of a library of others that may crash from now on."""
    _tell({"library": library})


def remember(temporary: Path) -> None:
    """Let the parent remove a file or folder, should this process be killed and not do so itself."""
    _tell({"temporary": os.fspath(temporary.absolute())})


def _tell(message: dict[str, Any]) -> None:
    if _to_parent is not None:
        os.write(_to_parent, json.dumps(message).encode() + b"\n")


def _interrupt_once(*_: object) -> NoReturn:
    """Raise on the first Ctrl-C only: the terminal and the parent send one each, and tidying up must not be stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _die_with(parent: int) -> None:
    """Let the kernel of the system kill this process when its parent dies, where that is possible."""
    if sys.platform != "linux":
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), signal.SIGKILL)


class _Watch:
    """The parent's side of the watch.

    Args:
        child: Process that is watched.
        messages: End of the pipe that the child writes to.
        arguments: Of the command line.
    """

    def __init__(self, child: int, messages: int, arguments: Sequence[str]) -> None:
        self._child, self._messages, self._unread, self._arguments = child, messages, b"", arguments
        self._temporary: list[Path] = []
        self._libraries: list[str] = []
        self._subject, self._given = "the file", math.inf
        self._seconds = self._bytes = math.inf
        self._elapsed = 0.0
        self._kill_at = math.inf
        self._verdict: tuple[str, str] | None = None  # kind of the failure, and message
        for number in INTERRUPTS:
            signal.signal(number, self._pass_on)

    def until_it_ends(self) -> NoReturn:
        """Wait for the child and exit as it did; a signal that killed it becomes a line, and exit status 1."""
        last = time.monotonic()
        while True:
            done, status = os.waitpid(self._child, os.WNOHANG)
            self._read_messages()
            if done:
                break
            now = time.monotonic()
            self._elapsed += min(now - last, STOPPED)
            last = now
            self._enforce(now)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            self._tidy_up()
            kind, message = self._verdict or self._crash(-code)
            if sys.stderr is not None:  # closed by whoever started us
                sys.stderr.write(f"error: {message}\n")
            with suppress(OSError):
                print_error_json(self._arguments, kind, message)
        sys.exit(1 if code < 0 else code)

    def _pass_on(self, number: int, _: object) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
        with suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _read_messages(self) -> None:
        """Wait for a message, for the end of the child, which closes the pipe, or for a while."""
        if select.select([self._messages], [], [], PERIOD)[0]:
            block = os.read(self._messages, 1 << 16)
            self._unread += block
            if not block:
                time.sleep(PERIOD / 10)  # until it can be waited for
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            with suppress(ValueError):  # where standard output was closed, the pipe has its number, and its lines
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "temporary" in message:
            self._temporary.append(Path(message["temporary"]))
            return
        if "library" in message:
            self._libraries.append(message["library"])
            return
        self._subject, self._given = message["subject"], message["seconds"]
        self._seconds = self._elapsed + message["seconds"]
        self._bytes = GIGABYTE * message["gigabytes"] if message["gigabytes"] else MOST * _machine_memory()

    def _enforce(self, now: float) -> None:
        """Kill the child where it takes too much, or does not end although it was told to."""
        if now > self._kill_at:
            self._verdict = "interrupted", INTERRUPTED
        elif self._elapsed > self._seconds:
            self._verdict = (
                "time_limit",
                f"{self._subject} takes more than {self._given:g} s: a loop in it may be endless; "
                "if it is only slow, give it more with --time-limit",
            )
        elif _resident(self._child) > self._bytes:
            self._verdict = (
                "memory_limit",
                f"{self._subject} takes more than {self._bytes / GIGABYTE:.3g} GB of memory; "
                "if that is right for this model, allow more with --memory-limit, or use a larger machine",
            )
        else:
            return
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def _crash(self, number: int) -> tuple[str, str]:
        """Return the kind and the message of the failure of a child that a signal ended."""
        if number in INTERRUPTS:  # before the child handles them, while it loads packages
            return "interrupted", INTERRUPTED
        name = signal.Signals(number).name
        if number == signal.SIGKILL:
            killed = f"the process that read {self._subject} was killed ({name}), most likely for lack of memory"
            return "killed", killed
        if self._libraries:
            libraries = " or ".join(self._libraries)
            return "crash", f"{libraries} crashed ({name}) with {self._subject}; leave it out of --providers"
        return "crash", f"{self._subject} makes a native library crash ({name}); it is damaged: export it again"

    def _tidy_up(self) -> None:
        import shutil

        for path in self._temporary:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _resident(process: int) -> float:
    """Return the bytes of memory that a process holds now, or 0 where that cannot be told."""
    try:
        if sys.platform == "linux":
            return int(Path(f"/proc/{process}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        import subprocess

        listed = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], capture_output=True, check=False)
        return 1024 * int(listed.stdout)
    except (OSError, ValueError, IndexError):  # it has just ended
        return 0


def _machine_memory() -> float:
    """Return the bytes of memory there are, or that this container may have."""
    sizes = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
    for limits in CGROUPS:
        with suppress(OSError, ValueError):
            sizes.append(float(Path(limits).read_text()))
    return min(sizes)
