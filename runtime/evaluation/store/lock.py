"""One process at a time in a folder: a lock of the operating system, which ends with the process."""

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


def hold(path: Path) -> Callable[[], None] | None:
    """Take the lock of a file and return the function that releases it, or None where another process holds it.

    The file is removed on release. The file that a killed process leaves is no lock, and is taken over.

    Raises:
        OSError: The file cannot be made.
    """
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        # Some file systems have no locks: there the user must not start two processes.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise

    def release() -> None:
        with suppress(OSError):  # Windows does not remove an open file: it stays
            path.unlink()
        lock.release()

    return release
