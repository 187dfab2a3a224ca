"""The sockets that workers accept connections from."""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from fusioncam.errors import FusionCamError, UsageError

# The kernel then deals connections out evenly: workers that share a socket take as many as they can get hold of.
OWN_SOCKETS = sys.platform == "linux"
FILES = 1 << 16  # open in a process at a time; each connection is one


def open_sockets(host: str, port: int, workers: int = 1) -> list[socket.socket]:
    """Return one socket per worker, or one for all, bound but not listening yet.

    Args:
        host: Name or address.
        port: 0 for any free one.
        workers: The number of workers.

    Raises:
        UsageError: There is no such host.
        FusionCamError: The address cannot be bound to.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"there is no host {host!r} ({error}); use --host 127.0.0.1, or 0.0.0.0 for all") from error
    alone = _bound(family, address, shared=False)  # fails if another service listens, even one that shares
    if workers == 1 or not OWN_SOCKETS:
        return [alone]
    address = alone.getsockname()
    alone.close()
    return [_bound(family, address, shared=True) for _ in range(workers)]


@contextmanager
def reserved_port(host: str, port: int | None, workers: int) -> Iterator[str | None]:
    """Yield HOST:PORT for servers that open sockets themselves; keep the port for them, where that is possible.

    Args:
        host: See `open_sockets`.
        port: See `open_sockets`; None yields None.
        workers: The number of servers.

    Raises:
        UsageError: See `open_sockets`; or several servers cannot share a port on this system.
        FusionCamError: The address cannot be bound to.
    """
    if port is None:
        yield None
        return
    if workers > 1 and not OWN_SOCKETS:
        raise UsageError("several workers share a gRPC port on Linux only; leave out --workers or --grpc-port")
    try:
        bound = open_sockets(host, port, 2)  # sockets that share the port, where there are such
    except FusionCamError as error:
        raise type(error)(str(error).replace("--port", "--grpc-port")) from error
    address = url_of(bound[0]).removeprefix("http://")
    for unused in bound[OWN_SOCKETS:]:
        unused.close()
    try:
        yield address
    finally:
        bound[0].close()


def _bound(family: int, address: Sequence[object], shared: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it lets two services have one port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(address)  # type: ignore[arg-type]
    except (OSError, OverflowError) as error:
        opened.close()
        raise _bind_error(str(address[0]), address[1], error) from error
    return opened


def _bind_error(host: str, port: object, error: Exception) -> FusionCamError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return FusionCamError(f"port {port} of {host} is in use; stop what listens there, or choose another --port")
    if number == errno.EACCES:
        return FusionCamError(f"port {port} of {host} is reserved by the system; choose a --port above 1023")
    if number == errno.EADDRNOTAVAIL:
        return UsageError(f"this machine has no address {host}; use --host 127.0.0.1, or 0.0.0.0 for all")
    return FusionCamError(f"cannot listen at port {port} of {host}: {error}; choose another --host or --port")


def url_of(listening: socket.socket) -> str:
    """Return the URL that leads to a socket from this machine."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listening: socket.socket) -> bool:
    """Return whether only this machine can connect to a socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def close_unread(listening: socket.socket, seconds: float) -> None:
    """Have Linux close connections of clients that have not read for so long; other systems never do."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(seconds * 1000) + 1, (1 << 31) - 1))


def raise_file_limit() -> int:
    """Raise the limit of open files of this process and its children as far as allowed; return the limit."""
    if sys.platform == "win32":
        return FILES
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return limit
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
