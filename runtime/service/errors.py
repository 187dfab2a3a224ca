"""Errors as answers: `{"error": "..."}`, one clear line, and the status that says who can mend it.

Starlette's HTTPException has a status of its own; the statuses of fusioncam's errors are in `STATUSES`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fusioncam.errors import (
    BusyError,
    DeadlineError,
    DeadlineTooShortError,
    FusionCamError,
    ImageError,
    OutOfMemoryError,
    UsageError,
    out_of_memory,
)


class UnknownModelError(FusionCamError):
    """An error of a request for a model or version that is not served."""


class NotLoadedError(FusionCamError):
    """An error of a change of models that was not made: a bundle on the disk cannot be opened."""


STATUSES: tuple[tuple[type[FusionCamError], int], ...] = (
    (UnknownModelError, 404),
    (NotLoadedError, 409),
    (BusyError, 503),
    (OutOfMemoryError, 503),
    (DeadlineTooShortError, 503),
    (DeadlineError, 504),
    (ImageError, 400),
    (UsageError, 400),
    (FusionCamError, 500),
)
RETRY_AFTER = 1  # seconds
WAITS: Mapping[type[Exception], int] = {
    OutOfMemoryError: 5,  # seconds in which other requests may free theirs
    DeadlineTooShortError: RETRY_AFTER,  # when other requests have ended, less time may be enough
}
CLIENT_GONE = 499  # nginx's number for a client that did not wait; only logs and metrics see it


class ErrorAnswer(NamedTuple):
    """An error as it is answered.

    Attributes:
        status: Of HTTP.
        message: One line.
        headers: Of HTTP.
    """

    status: int
    message: str
    headers: Mapping[str, str]


def error_answer(error: Exception) -> ErrorAnswer:
    """Return the answer to a request that ended in an error."""
    if isinstance(error, HTTPException):
        return ErrorAnswer(error.status_code, str(error.detail), error.headers or {})
    error = out_of_memory(error) or error
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    wait = error.retry_after if isinstance(error, BusyError) else WAITS.get(type(error))
    return ErrorAnswer(status, str(error), {} if wait is None else {"Retry-After": str(wait)})


def error_response(error: Exception) -> JSONResponse:
    """Return the answer over HTTP to a request that ended in an error."""
    return error_json(*error_answer(error))


def error_json(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer that is an error."""
    return JSONResponse({"error": message}, status, dict(headers or {}))
