"""The service: explanations over HTTP, by the Open Inference Protocol."""

import os
from importlib.util import find_spec

from fusioncam.errors import UsageError

NEEDED = ("fastapi", "mimeparse", "python_multipart", "uvicorn", "prometheus_client")


def require_extra() -> None:
    """Check that the packages of the service are installed, and keep the metrics out of files.

    Raises:
        UsageError: A package is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f'the service needs {", ".join(missing)}: pip install "fusioncam[serve]"')
    # With these variables the Prometheus client counts in files mapped into memory: a full disk would end the process.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
