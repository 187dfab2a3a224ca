"""Pictures from the web, only where a user asks for it by name."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fusioncam
from fusioncam.errors import ImageError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.photos.decode import decode_image
from fusioncam.runtime.photos.limits import MAX_PIXELS
from fusioncam.runtime.photos.photo import Photo

SCHEMES = ("http", "https")
TIMEOUT, MOST = 20.0, 50_000_000  # seconds, bytes
PIECE = 1 << 16  # bytes read at a time


def fetch_picture(address: str, *, timeout: float = TIMEOUT, max_bytes: int = MOST) -> Photo:
    """Fetch a picture from the web, and decode it.

    Explainers fetch nothing by themselves. A program that fetches whatever address a stranger sends can be made to read
    from its own network (server-side request forgery), so pass addresses only that you trust.

    Args:
        address: It begins with http:// or https://, and so does each address that it is redirected to.
        timeout: Seconds for the whole download.
        max_bytes: The most bytes of the file.

    Returns:
        The photo; its name is the address without user, query and fragment, as these may hold secrets.

    Raises:
        ImageError: The address is of another kind, gives no picture in this time and size, or the picture is refused
            as those of strangers are, see `decode_image`.
    """
    data = fetch(address, timeout, max_bytes)
    name = public_address(address)
    return Photo(decode_image(data, quote(name), MAX_PIXELS, declared=True), name)


def fetch(address: str, timeout: float = TIMEOUT, max_bytes: int = MOST) -> bytes:
    """Return the bytes at an address of the web; arguments and errors are those of `fetch_picture`."""
    end = time.monotonic() + timeout
    name = public_address(address)
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"fusioncam/{fusioncam.__version__}"})
        with _opener().open(request, timeout=timeout) as answer:
            return _read(answer, end, max_bytes, name)
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        status = ""
        if isinstance(error, urllib.error.HTTPError):
            status = f"status {error.code}, "
            error.close()
        raise ImageError(f"cannot fetch {quote(name)}: {status}{reason}: check the address") from error


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens http and https, and nothing else: no files, no FTP, no data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def public_address(address: str) -> str:
    """Return an address without the parts that may hold secrets; raise ImageError where it is not of the web."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
        port = "" if parts.port is None else f":{parts.port}"
    except (ValueError, TypeError, AttributeError):
        parts, host, port = urlsplit(""), None, ""
    if parts.scheme not in SCHEMES or not host:
        raise ImageError(f"{quote(address)} is no address of the web: it must begin with http:// or https://")
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def _read(answer: Any, end: float, most: int, name: str) -> bytes:
    data = bytearray()
    while piece := answer.read1(PIECE):
        data += piece
        if len(data) > most:
            raise ImageError(f"{quote(name)} has more than {most:,} bytes: allow more with max_bytes, or shrink it")
        if time.monotonic() > end:
            raise ImageError(f"cannot fetch {quote(name)}: the time is up: allow more with timeout")
    return bytes(data)
