"""The heap of the process: memory of sessions that are closed goes back to the system."""

import ctypes
from contextlib import suppress


def return_freed_memory() -> None:
    """Return freed memory to the system, where the C library is glibc; it would keep much of what sessions freed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
