"""Bodies that come or go packed."""

import gzip
import zlib

import pytest
from starlette.exceptions import HTTPException

from fusioncam.errors import UsageError
from fusioncam.runtime.service.errors import error_response
from fusioncam.runtime.service.protocol.compression import OFFERED, choose_encoding, compress, decompress

BODY = b"some body " * 100


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (None, BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("Deflate ", zlib.compress(BODY)),
    ],
)
def test_unpacked_up_to_the_limit(encoding, packed):
    assert decompress(packed, encoding, len(BODY)) == BODY


@pytest.mark.parametrize("encoding", OFFERED)
def test_what_is_packed_is_unpacked(encoding):
    assert decompress(compress(BODY, encoding), encoding, len(BODY)) == BODY
    assert decompress(compress(b"", encoding), encoding, 0) == b""


@pytest.mark.parametrize(
    ("encoding", "packed", "limit", "status", "words"),
    [
        ("br", BODY, 10_000, 415, "gzip or deflate"),
        ("gzip, gzip", BODY, 10_000, 415, "gzip or deflate"),
        ("gzip", BODY, 10_000, 400, "not gzip"),
        ("deflate", zlib.compress(BODY)[2:], 10_000, 400, "not deflate"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], 10_000, 400, "ends before"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"x", 10_000, 400, "bytes follow"),
        ("gzip", b"", 10_000, 400, "ends before"),
        ("gzip", gzip.compress(BODY, mtime=0), len(BODY) - 1, 413, "unpacks to more than 999 bytes"),
        ("gzip", gzip.compress(bytes(1 << 26)), 1000, 413, "unpacks to more than 1,000 bytes"),
    ],
)
def test_refused(encoding, packed, limit, status, words):
    with pytest.raises((UsageError, HTTPException)) as caught:
        decompress(packed, encoding, limit)
    assert error_response(caught.value).status_code == status
    assert words in error_response(caught.value).body.decode()


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        (None, None), ("", None), ("identity", None), ("br", None), ("gzip", "gzip"), ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"), ("gzip;q=0.5, deflate", "deflate"), ("gzip;q=0", None), ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"), ("GZIP", "gzip"), (";;,q=1,;q=", None),
    ],
)  # fmt: skip
def test_chosen(accepted, encoding):
    assert choose_encoding(accepted) == encoding
