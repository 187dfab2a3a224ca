"""Pictures from the web, only where a user asks for it by name."""

import base64
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote as escaped
from urllib.parse import unquote, urlsplit, urlunsplit

import fusioncam
from fusioncam.errors import ImageError, UsageError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.photos.decode import decode_image
from fusioncam.runtime.photos.limits import MAX_PIXELS
from fusioncam.runtime.photos.photo import Photo

SCHEMES = ("http", "https")
TIMEOUT, MOST = 20.0, 50_000_000  # seconds, bytes
PIECE = 1 << 16  # bytes read at a time
LONGEST = 24 * 3600  # seconds
PLAIN = "%/:=&?~#+!$,;'@()*[]"  # characters besides letters and digits that an address has as they are


def fetch_picture(address: str, *, timeout: float = TIMEOUT, max_bytes: int = MOST) -> Photo:
    """Fetch a picture from the web, and decode it.

    Explainers fetch nothing by themselves. A program that fetches whatever address a stranger sends can be made to read
    from its own network (server-side request forgery), so pass addresses only that you trust.

    Args:
        address: It begins with http:// or https://, and so does each address that it is redirected to. A user and a
            password in it, `https://user:password@host`, are sent to that host alone.
        timeout: Seconds for the whole download, redirections included.
        max_bytes: The most bytes of the file.

    Returns:
        The photo; its name is the address without user, query and fragment, as these may hold secrets.

    Raises:
        ImageError: The address is of another kind, gives no picture in this time and size, or the picture is refused
            as those of strangers are, see `decode_image`.
        UsageError: The timeout is no such number.
    """
    data = fetch(address, timeout, max_bytes)
    name = public_address(address)
    return Photo(decode_image(data, quote(name), MAX_PIXELS, declared=True), name)


def fetch(address: str, timeout: float = TIMEOUT, max_bytes: int = MOST) -> bytes:
    """Return the bytes at an address of the web; arguments and errors are those of `fetch_picture`."""
    if not (isinstance(timeout, int | float) and 0 < timeout <= LONGEST):
        raise UsageError(f"timeout must be a number of seconds above 0, at most {LONGEST}, not {timeout!r}")
    name, clock = public_address(address), _Clock(timeout)
    try:
        agent = {"User-Agent": f"fusioncam/{fusioncam.__version__}"}
        request = urllib.request.Request(escaped(address.strip(), PLAIN), headers=agent)
        with clock, _opener(clock).open(request, timeout=timeout) as answer:
            data = _read(answer, max_bytes, name)
            if clock.is_over:  # a connection that is cut looks like the end
                raise TimeoutError
            return data
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        if clock.is_over:
            raise ImageError(f"cannot fetch {quote(name)}: the time is up: allow more with timeout") from error
        status = f"status {error.code}, " if isinstance(error, urllib.error.HTTPError) else ""
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise ImageError(f"cannot fetch {quote(name)}: {status}{reason}: check the address") from error


class _Clock:
    """The time of a download: when it is up, connections are cut, whatever a server sends to draw them out."""

    def __init__(self, timeout: float) -> None:
        self._end, self._timer = time.monotonic() + timeout, threading.Timer(timeout, self._cut)
        self._timer.daemon = True
        self._sockets = list[socket.socket]()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def is_over(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() >= self._end

    def watched(self, connection_class: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes connections which are cut when the time is up."""

        def make(*arguments: Any, **options: Any) -> Any:
            connection = connection_class(*arguments, **options)
            plain = connection.connect

            def connect() -> None:
                plain()
                self._sockets.append(connection.sock)
                if self.is_over:
                    self._cut()

            connection.connect = connect
            return connection

        return make

    def _cut(self) -> None:
        for opened in self._sockets:
            with suppress(OSError):  # closed meanwhile
                opened.shutdown(socket.SHUT_RDWR)


class _Credentials(urllib.request.BaseHandler):
    """Takes user and password out of an address: urllib takes them for a part of the host, and shows them in errors."""

    handler_order = 400  # before the handlers that send

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Return a request whose address has no user; the host alone is told of it, as no redirection repeats it."""
        parts = urlsplit(request.full_url)
        user, at, host = parts.netloc.rpartition("@")
        if at:
            request.full_url = urlunsplit(parts._replace(netloc=host))
            login = base64.b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {login}")
        return request

    https_request = http_request


def _opener(clock: _Clock) -> urllib.request.OpenerDirector:
    """Return what opens http and https, and nothing else: no files, no FTP, no data."""

    class Http(urllib.request.HTTPHandler):
        def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:
            return super().do_open(clock.watched(http_class), *arguments, **options)

    class Https(urllib.request.HTTPSHandler):
        def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:
            return super().do_open(clock.watched(http_class), *arguments, **options)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Credentials(),
        Http(),
        Https(),
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
        # What it is instead may hold a secret, too: before an @, or as a parameter.
        scheme, mark, rest = address.rpartition("://") if isinstance(address, str) else ("", "", type(address).__name__)
        shown = quote(scheme + mark + rest.rpartition("@")[2].partition("?")[0])
        raise ImageError(f"{shown} is no address of the web: it must begin with http:// or https://")
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def _read(answer: Any, most: int, name: str) -> bytes:
    data = bytearray()
    while piece := answer.read1(PIECE):
        data += piece
        if len(data) > most:
            raise ImageError(f"{quote(name)} has more than {most:,} bytes: allow more with max_bytes, or shrink it")
    if answer.length:  # of what the server announced
        raise http.client.IncompleteRead(bytes(data), answer.length)
    return bytes(data)
