"""Errors as answers: `{"error": "..."}`, one clear line, and the status that says who can mend it.

Starlette's HTTPException has a status of its own; the statuses of fusioncam's errors are in `STATUSES`.
"""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fusioncam.errors import (
    BusyError,
    DeadlineError,
    FusionCamError,
    ImageError,
    OutOfMemoryError,
    UsageError,
    out_of_memory,
)

STATUSES: tuple[tuple[type[FusionCamError], int], ...] = (
    (BusyError, 503),
    (OutOfMemoryError, 503),
    (DeadlineError, 504),
    (ImageError, 400),
    (UsageError, 400),
    (FusionCamError, 500),
)
RETRY_AFTER = 1  # seconds
WAIT_FOR_MEMORY = 5  # seconds in which other requests may free theirs
CLIENT_GONE = 499  # nginx's number for a client that did not wait; only logs and metrics see it


def error_response(error: Exception) -> JSONResponse:
    """Return the answer to a request that ended in an error."""
    if isinstance(error, HTTPException):
        return error_json(error.status_code, str(error.detail), error.headers)
    error = out_of_memory(error) or error
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    wait = WAIT_FOR_MEMORY if isinstance(error, MemoryError) else getattr(error, "retry_after", None)
    return error_json(status, str(error), None if wait is None else {"Retry-After": str(wait)})


def error_json(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer that is an error."""
    return JSONResponse({"error": message}, status, dict(headers or {}))
