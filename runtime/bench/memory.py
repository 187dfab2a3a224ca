"""Peak memory of one way of explaining, in a process of its own: what others took must not hide it."""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fusioncam.errors import FusionCamError

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory(NamedTuple):
    """Resident memory in bytes: with the model loaded, and at most while it explains.

    Where the system does not tell (that is: anywhere but on Linux), `loaded` is None and the peak is that of the
    process; on Windows both are None.
    """

    loaded: int | None
    peak: int | None

    @property
    def added(self) -> int | None:
        """What explaining takes over the loaded model."""
        return None if self.loaded is None or self.peak is None else max(0, self.peak - self.loaded)


def measure_here(load: Callable[[], Callable[[], object]]) -> Memory:
    """In this process, which does nothing else.

    Args:
        load: Loads the model; what it gives explains.
    """
    explain = load()
    _forget_peak()
    loaded = _kilobytes("VmRSS")
    explain()
    peak = _kilobytes("VmHWM")
    return Memory(loaded and 1024 * loaded, 1024 * peak if peak else _resource_peak())


def in_fresh_process(command: Sequence[str], asked: dict[str, Any]) -> Memory:
    """In a process of its own, started with this Python.

    Args:
        command: What follows `python`; the program calls `answer`.
        asked: What it gets to read.

    Raises:
        FusionCamError: It fails; its last line says why.
    """
    done = subprocess.run(
        [sys.executable, *command], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise FusionCamError(f"memory cannot be measured: {lines[-1]}")
    return Memory(**json.loads(done.stdout.strip().splitlines()[-1]))


def answer(load: Callable[[dict[str, Any]], Callable[[], object]]) -> None:
    """The other end of `in_fresh_process`: read what is asked, measure, print."""
    asked = json.load(sys.stdin)
    found = measure_here(lambda: load(asked))
    print(json.dumps(found._asdict()))  # noqa: T201


def _forget_peak() -> None:
    """Let loading the model not count: what it took and gave back goes to the system, and the peak starts anew."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        CLEAR.write_text("5")


def _kilobytes(key: str) -> int | None:
    """A line of /proc/self/status."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def _resource_peak() -> int | None:
    """Peak of the whole process, loading included."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
