"""Files that appear whole or not at all, temporary files, and the folder for files that can be made again.

The process that makes a temporary file locks it. SIGKILL leaves it behind unlocked, and the next process removes it.
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path

from fusioncam.supervisor import remember

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked, and so nothing removed
    fcntl = None  # type: ignore[assignment]

CACHE = "FUSIONCAM_CACHE"  # environment variable: a folder that takes the place of the user's cache folder
KEPT = ".old"  # ending of a temporary folder that holds files while new ones take their place
_OURS = re.compile(r"\.fcam-[0-9a-f]{16}(\.old|\.tmp|\.onnx)?")
_swept: set[Path] = set()


def cache_root() -> Path:
    """Return the folder for files that can be made again, as configured: a `~` in it stands for the home."""
    return Path(os.environ.get(CACHE) or user_cache_path("fusioncam"))


def replace_file(target: Path, data: bytes) -> None:
    """Write a file that is never seen half done, whoever else writes it at the same time; replace what was there.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    with replacing() as opened, opened(target) as file:
        file.write(data)


@contextmanager
def replacing() -> Iterator[Callable[[Path], AbstractContextManager[BinaryIO]]]:
    """Write files that appear together once all of them are whole, in the order in which they were opened.

    Until the end they are temporary files beside their targets. No file system renames several files at once, but what
    fails for good, a full disk above all, fails before the first is renamed.

    Yields:
        A function that opens a target for writing, for use in a `with` statement.

    Raises:
        OSError: One cannot be written; what was there before stays.
    """
    pairs: list[tuple[Path, Path]] = []
    with ExitStack() as stack:

        @contextmanager
        def opened(target: Path) -> Iterator[BinaryIO]:
            temporary = stack.enter_context(temporary_file(target.parent))
            pairs.append((temporary, target))
            with temporary.open("r+b") as file:
                yield file

        yield opened
        for temporary, target in pairs:
            temporary.replace(target)


@contextmanager
def temporary_file(parent: Path, ending: str = ".tmp") -> Iterator[Path]:
    """Yield an empty file in a folder, locked, and remove it in the end unless it was moved.

    Not by `tempfile`, whose files only their owner can read: this file has the permissions that the umask allows.
    """
    with _ours(parent, ending, lambda path: path.touch(exist_ok=False)) as path:
        yield path


@contextmanager
def temporary_folder(parent: Path | None = None, ending: str = "") -> Iterator[Path]:
    """Yield an empty folder in another, locked, and remove it in the end unless it was moved.

    Args:
        parent: The other folder; by default the system's folder for temporary files; the new one is then private.
        ending: Ending of the name; with `KEPT`, the content moves back beside the folder, unless it was replaced.
    """
    if parent is None:
        made = _ours(Path(tempfile.gettempdir()), ending, lambda path: path.mkdir(0o700))
    else:
        made = _ours(parent, ending, lambda path: path.mkdir())
    with made as path:
        yield path


@contextmanager
def _ours(parent: Path, ending: str, make: Callable[[Path], None]) -> Iterator[Path]:
    if parent not in _swept:  # it may be large
        _swept.add(parent)
        sweep(parent)
    path = parent / f".fcam-{secrets.token_hex(8)}{ending}"
    lock = None
    if ending != KEPT:  # what is kept must not simply be removed
        remember(path)
    try:
        make(path)
        lock = _locked(path, wait=True)
        if lock is None and not path.exists():  # another process took it for left behind, in the moment between
            make(path)
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left behind in a folder."""
    if fcntl is None:
        return
    with suppress(OSError, ValueError):
        for path in [Path(entry.path) for entry in os.scandir(folder) if _OURS.fullmatch(entry.name)]:
            lock = _locked(path, wait=False)
            if lock is not None:
                _remove(path)
                os.close(lock)


def _locked(path: Path, wait: bool) -> int | None:
    """Lock a file or a folder; return the descriptor that holds the lock, or None where that is impossible.

    Another process may hold the lock, another user may own the file, or the file system may have no locks.
    """
    if fcntl is None:
        return None
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.fstat(opened).st_uid == os.geteuid() and os.path.samestat(os.fstat(opened), path.stat()):
            return opened
    except OSError:
        pass
    os.close(opened)
    return None


def _remove(path: Path) -> None:
    """Remove a file or folder if it exists; first move back what a `KEPT` folder holds."""
    with suppress(OSError):
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        for kept in path.iterdir() if path.name.endswith(KEPT) else ():
            if not os.path.lexists(path.parent / kept.name):
                kept.rename(path.parent / kept.name)
        shutil.rmtree(path, ignore_errors=True)
