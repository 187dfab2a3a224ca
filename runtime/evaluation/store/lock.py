"""One process at a time in a folder: a lock of the operating system's, which ends with the process, however it ends."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        # Beyond the end, so that others can still read who holds it.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def hold(path: Path) -> Callable[[], None] | None:
    """Take a lock, a file that goes when it is given back; None where another process has it.

    What a process that was killed has left is no lock, and is taken over.

    Returns:
        What gives it back.

    Raises:
        OSError: The file cannot be made.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        _lock(file)
    except OSError as error:
        # A file system may have no locks: then it is for the user not to start two.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            file.close()
            return None
    if not _is_at(file, path):  # whoever had it has just removed it, and another may be making it anew
        file.close()
        return hold(path)
    file.truncate(0)
    file.write(str(os.getpid()).encode())
    file.flush()

    def release() -> None:
        with suppress(OSError):  # on Windows it cannot go while it is open, and stays
            path.unlink()
        file.close()

    return release


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
