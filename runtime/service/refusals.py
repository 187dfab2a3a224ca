"""Errors as answers: `{"error": "..."}`, one clear line, and the status that says whose fault it is."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fusioncam.errors import BusyError, DeadlineError, FusionCamError, ImageError, UsageError

STATUSES: tuple[tuple[type[FusionCamError], int], ...] = (
    (BusyError, 503),
    (DeadlineError, 504),
    (ImageError, 400),
    (UsageError, 400),
    (FusionCamError, 500),
)
CLIENT_GONE = 499  # nginx's number for a client that did not wait; only logs and metrics see it
SHOWN = 80  # characters of what a client sent that an error repeats


class RefusedError(FusionCamError):
    """A request that is turned down with a status of its own."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def bad(message: str) -> RefusedError:
    """A request that cannot be understood."""
    return RefusedError(400, message)


def shown(given: Any) -> str:
    """What a client sent, as an error repeats it: on one line, and not all of it."""
    text = repr(given[: SHOWN + 1] if isinstance(given, str | bytes) else given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def answer(error: Exception) -> JSONResponse:
    """What the client is told of an error."""
    if isinstance(error, RefusedError):
        return refused(error.status, str(error), error.headers)
    if isinstance(error, HTTPException):
        return refused(error.status_code, str(error.detail), error.headers)
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, BusyError) else None
    return refused(status, str(error), headers)


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as an answer."""
    return JSONResponse({"error": message}, status, dict(headers or {}))
