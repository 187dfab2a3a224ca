"""The service: explanations over HTTP, by the Open Inference Protocol."""

from importlib.util import find_spec

from fusioncam.errors import UsageError

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def require_extra() -> None:
    """Make sure that what the service is built on is installed.

    Raises:
        UsageError: It is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f'the service needs {", ".join(missing)}: pip install "fusioncam[serve]"')
