"""Peak memory of one explanation, measured in a process of its own, where nothing else hides it."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fusioncam.errors import FusionCamError
from fusioncam.runtime.sessions.heap import return_freed_memory

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory(NamedTuple):
    """Resident memory in bytes: `loaded` with the model loaded, `peak` at most while it explains.

    Only Linux tells both. Elsewhere `loaded` is None and the peak is that of the whole process; on Windows both are
    None.
    """

    loaded: int | None
    peak: int | None

    @property
    def added(self) -> int | None:
        """Return the memory that explaining takes over the loaded model."""
        return None if self.loaded is None or self.peak is None else max(0, self.peak - self.loaded)


def measure_here(load: Callable[[], Callable[[], object]]) -> Memory:
    """Return the memory of this process, which does nothing else.

    Args:
        load: Loads the model, and returns the function that explains.
    """
    explain = load()
    _forget_peak()
    loaded = _kilobytes("VmRSS")
    explain()
    peak = _kilobytes("VmHWM")
    return Memory(loaded and 1024 * loaded, 1024 * peak if peak else _resource_peak())


def in_fresh_process(command: Sequence[str], inputs: dict[str, Any]) -> Memory:
    """Return the memory of a new process of this Python.

    Args:
        command: The arguments of `python`; the program calls `answer`.
        inputs: The input of the program.

    Raises:
        FusionCamError: The program fails; its last line says why.
    """
    done = subprocess.run(
        [sys.executable, *command], input=json.dumps(inputs), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise FusionCamError(f"memory cannot be measured: {lines[-1]}")
    return Memory(**json.loads(done.stdout.strip().splitlines()[-1]))


def answer(load: Callable[[dict[str, Any]], Callable[[], object]]) -> None:
    """Read the input that `in_fresh_process` sends, measure, and print the result."""
    inputs = json.load(sys.stdin)
    measured = measure_here(lambda: load(inputs))
    print(json.dumps(measured._asdict()))  # noqa: T201


def _forget_peak() -> None:
    """Return the freed memory of loading to the system, and reset the peak, so that loading does not count."""
    return_freed_memory()
    with suppress(OSError):
        CLEAR.write_text("5")


def _kilobytes(key: str) -> int | None:
    """Return a number of /proc/self/status, or None where there is no such file or line."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def _resource_peak() -> int | None:
    """Return the peak of the whole process, loading included."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
