"""The service: explanations over HTTP, by the Open Inference Protocol."""

import os
from importlib.util import find_spec

from fusioncam.errors import UsageError

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def require_extra() -> None:
    """Make sure that what the service is built on is installed, and will not count its requests in files.

    Raises:
        UsageError: It is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f'the service needs {", ".join(missing)}: pip install "fusioncam[serve]"')
    # With it the Prometheus client counts in files that it maps into memory: a full disk would end the process.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
