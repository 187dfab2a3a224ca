"""Compressed bodies: gzip and deflate, which is zlib's format (RFC 9110, 8.4.1)."""

import re
import zlib
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote

# zlib's window bits, which choose the format, too.
WINDOWS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
OFFERED = ("gzip", "deflate")
LEVEL = 1  # maps hardly shrink any further, and this level takes a tenth of the time
WORTH_IT = 1024  # bytes


def decompress(body: bytes, encoding: str | None, limit: int) -> bytes:
    """Return a body decompressed.

    Args:
        body: The received body.
        encoding: The header Content-Encoding, if there is one.
        limit: The most bytes to decompress to; no more are ever decompressed.

    Raises:
        HTTPException: 415 for another encoding, 413 where the body grows beyond the limit.
        UsageError: The body is damaged.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in WINDOWS:
        raise HTTPException(
            415,
            f"the body's encoding is {quote(encoding)}; send it plain, or as {' or '.join(OFFERED)}",
            {"Accept-Encoding": ", ".join(OFFERED)},
        )
    decompressor = zlib.decompressobj(WINDOWS[name])
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise UsageError(f"the body is not {name}, or is damaged: check Content-Encoding") from None
    if len(plain) > limit:
        raise HTTPException(
            413, f"the body unpacks to more than {limit:,} bytes, the limit: send a smaller picture, or fewer"
        )
    if not decompressor.eof:
        raise UsageError(f"the body ends before its {name} data does: send all of it")
    if decompressor.unused_data:
        raise UsageError(f"bytes follow the end of the body's {name} data: pack the body as a whole, once")
    return plain


def choose_encoding(accepted: str | None) -> str | None:
    """Return the encoding of an answer, by the header Accept-Encoding: gzip, deflate, or None for plain."""
    weights = {"*": 0.0}
    for part in (accepted or "").lower().split(","):
        name, _, weight = part.partition(";")
        match = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", weight)
        weights[name.strip()] = float(match[1]) if match else 1.0
    offered = {name: weights.get(name, weights["*"]) for name in OFFERED}
    best = max(OFFERED, key=offered.__getitem__)
    return best if offered[best] > 0 else None


def compress(body: bytes, encoding: str) -> bytes:
    """Return a body compressed by one of `OFFERED`."""
    compressor = zlib.compressobj(LEVEL, wbits=WINDOWS[encoding])
    return compressor.compress(body) + compressor.flush()
