"""The signal SIGHUP: it asks a service to load what is new, or says that its terminal was closed."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress


def on_hangup(reload: Callable[[], None], end: Callable[[], None]) -> None:
    """Have the signal call `reload`; or `end`, where it comes because the terminal of this process was closed."""
    if not hasattr(signal, "SIGHUP"):
        return
    terminal = _has_terminal()

    def handle(*_: object) -> None:
        (end if terminal and not _has_terminal() else reload)()

    signal.signal(signal.SIGHUP, handle)


def ignore_hangup() -> None:
    """Ignore the signal, which would end the process."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _has_terminal() -> bool:
    """Return whether standard input is a terminal; it is none any more once the terminal was closed."""
    with suppress(OSError):
        return os.isatty(0)
    return False
