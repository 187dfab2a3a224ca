"""Files that appear whole or not at all, and where those lie that can be made again."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path

from fusioncam.supervisor import remember

CACHE = "FUSIONCAM_CACHE"  # environment variable: a folder that takes the place of the user's cache folder


def cache_root() -> Path:
    """The folder for what can be made again, as it is named: a `~` in it stands for the home."""
    return Path(os.environ.get(CACHE) or user_cache_path("fusioncam"))


def replace_file(target: Path, data: bytes) -> None:
    """Write a file that is never seen half done, whoever else writes it at the same time; what was there goes.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    with replacing() as opened, opened(target) as file:
        file.write(data)


@contextmanager
def replacing() -> Iterator[Callable[[Path], AbstractContextManager[BinaryIO]]]:
    """Write files that appear together once all of them are whole, in the order they were opened in.

    Until the end they are temporary files beside their targets. No file system renames several files at once, but what
    fails for good, a full disk above all, fails before the first is renamed.

    Yields:
        Opens a target for writing, for use in a `with` statement.

    Raises:
        OSError: One cannot be written; what was there before stays.
    """
    pairs: list[tuple[Path, Path]] = []

    @contextmanager
    def opened(target: Path) -> Iterator[BinaryIO]:
        # Not tempfile.mkstemp, whose files only their owner can read: this one gets what the umask allows.
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        pairs.append((temporary, target))
        remember(temporary)
        with temporary.open("xb") as file:
            yield file

    try:
        yield opened
        for temporary, target in pairs:
            temporary.replace(target)
    finally:
        # After a success there is nothing left to remove; after Ctrl-C there may be.
        for temporary, _ in pairs:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
