"""One process at a time in a folder: a lock of the operating system, which ends with the process."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fusioncam.errors import UsageError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is removed on release. A file that a killed process has left is no lock.

    Raises:
        UsageError: Another process holds the lock.
        OSError: The file cannot be made.
    """
    lock = FileLock(path, blocking=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        message = f"another process is writing to {path.parent}; wait for it, or choose another folder with -o"
        raise UsageError(message) from None
    except OSError as error:
        # Some file systems have no locks: there the user must not start two processes.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file: it stays
            path.unlink()
        lock.release()
