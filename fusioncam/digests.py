"""Digests: of files, and the one that a manifest has of itself."""

import hashlib
import re
from pathlib import Path

DIGEST = re.compile(rb'"digest":\s*"([0-9a-f]{64})"')


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signed(text: bytes) -> bytes:
    """Return a manifest's text with its own digest: the sha256 of the text in which the digest is 64 zeros.

    Args:
        text: JSON of an object whose `digest` is any 64 digits; without one it stays as it is.
    """
    blank = DIGEST.sub(b'"digest": "%s"' % (b"0" * 64), text)
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)
