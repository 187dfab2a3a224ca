"""Files that appear whole or not at all, and where those lie that can be made again."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

CACHE = "FUSIONCAM_CACHE"  # environment variable: a folder that takes the place of the user's cache folder


def cache_root() -> Path:
    """The folder for what can be made again, as it is named: a `~` in it stands for the home."""
    return Path(os.environ.get(CACHE) or user_cache_path("fusioncam"))


def replace_file(target: Path, data: bytes) -> None:
    """Write a file that is never seen half done, whoever else writes it at the same time; what was there goes.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    # Not tempfile.mkstemp, whose files only their owner can read: this one gets what the umask allows.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(target)
    finally:
        # After a success there is nothing left to remove; after Ctrl-C there may be.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
