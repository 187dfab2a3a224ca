"""The logs of the service: one JSON object a line, with the id of its request."""

import json
import logging
import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

ACCESS = logging.getLogger("fusioncam.service.access")
ERRORS = logging.getLogger("fusioncam.service")
LOGGERS = ("fusioncam", "py.warnings", "uvicorn")  # of this process

# The service writes an access log of its own, and answers what is wrong with a form: neither is said twice.
SILENT = ("uvicorn.access", "python_multipart")

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def request_id(header: str | None) -> str:
    """Return the id that a client gave, if it is safe to write anywhere, else a new one."""
    return header if header is not None and _ID.fullmatch(header) else secrets.token_hex(16)


class JsonLines(logging.Formatter):
    """A formatter of records as JSON, one a line, with the members of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (known := REQUEST_ID.get()) is not None:
            line["request_id"] = known
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_config(level: str = "info") -> dict[str, Any]:
    """Return a configuration for `logging.config.dictConfig` and for uvicorn: JSON lines on stderr.

    It covers warnings, where `logging.captureWarnings` was called. `SILENT` loggers are left out.
    """
    upper = level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            **{name: {"handlers": [], "level": "CRITICAL", "propagate": False} for name in SILENT},
            **{name: {"handlers": ["stderr"], "level": upper, "propagate": False} for name in LOGGERS},
        },
    }
