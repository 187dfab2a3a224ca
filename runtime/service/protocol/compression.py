"""Bodies that come or go packed: gzip and deflate, which is zlib's format (RFC 9110, 8.4.1)."""

import re
import zlib
from collections.abc import Mapping

from fusioncam.errors import UsageError
from fusioncam.runtime.service.errors import RefusedError
from fusioncam.runtime.service.protocol.request_parser import quote

# zlib's window bits, which say the format, too.
WINDOWS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
OFFERED = ("gzip", "deflate")
LEVEL = 1  # maps hardly shrink any further, and this takes a tenth of the time
WORTH_IT = 1024  # bytes


def unpack(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body as it was before it was packed.

    Args:
        body: As it came.
        encoding: The header Content-Encoding, if there is one.
        limit: The most it may grow to, in bytes; no more than that is ever unpacked.

    Raises:
        RefusedError: 415 for another encoding, 413 where the body grows beyond the limit.
        UsageError: The body is damaged.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in WINDOWS:
        raise RefusedError(
            415,
            f"the body's encoding is {quote(encoding)}; send it plain, or as {' or '.join(OFFERED)}",
            {"Accept-Encoding": ", ".join(OFFERED)},
        )
    unpacker = zlib.decompressobj(WINDOWS[name])
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise UsageError(f"the body is not {name}, or is damaged: check Content-Encoding") from None
    if len(plain) > limit:
        raise RefusedError(
            413, f"the body unpacks to more than {limit:,} bytes, the limit: send a smaller picture, or fewer"
        )
    if not unpacker.eof:
        raise UsageError(f"the body ends before its {name} data does: send all of it")
    if unpacker.unused_data:
        raise UsageError(f"bytes follow the end of the body's {name} data: pack the body as a whole, once")
    return plain


def chosen(accepted: str | None) -> str | None:
    """The encoding to answer in, by the header Accept-Encoding: gzip, deflate, or None for plain."""
    weights = {"*": 0.0}
    for part in (accepted or "").lower().split(","):
        name, _, weight = part.partition(";")
        found = re.fullmatch(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*", weight)
        weights[name.strip()] = float(found[1]) if found else 1.0
    wanted = {name: weights.get(name, weights["*"]) for name in OFFERED}
    best = max(wanted, key=lambda name: wanted[name])
    return best if wanted[best] > 0 else None


def pack(body: bytes, encoding: str) -> bytes:
    """The body packed by one of `OFFERED`."""
    packer = zlib.compressobj(LEVEL, wbits=WINDOWS[encoding])
    return packer.compress(body) + packer.flush()
