"""The end of a call: gRPC's status for each status of HTTP, and when to call again."""

from typing import Any, NamedTuple

from grpc import StatusCode

from fusioncam.runtime.service.errors import ErrorAnswer

CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


class CallEnd(NamedTuple):
    """The status with which a call ends.

    Attributes:
        code: The code.
        message: One line.
        retry_after: Seconds to wait before the same call is made again, if that can help.
    """

    code: StatusCode
    message: str = ""
    retry_after: int | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the trailing metadata: for people and proxies, and for gRPC's own retries (gRFC A6)."""
        if self.retry_after is None:
            return ()
        return ("retry-after", str(self.retry_after)), ("grpc-retry-pushback-ms", str(1000 * self.retry_after))


def call_end(error: ErrorAnswer) -> CallEnd:
    """Return the end of a call that ends in an error."""
    retry_after: Any = error.headers.get("Retry-After")
    return CallEnd(CODES[error.status], error.message, None if retry_after is None else int(retry_after))
