"""The service: explanations over HTTP and gRPC, by the Open Inference Protocol."""

import os
from collections.abc import Sequence
from importlib.util import find_spec

from fusioncam.errors import UsageError

NEEDED = ("fastapi", "mimeparse", "python_multipart", "uvicorn", "prometheus_client")
NEEDED_FOR_GRPC = ("grpc", "tritonclient")


def require_extra(grpc: bool = False) -> None:
    """Check that the packages of the service are installed, and keep the metrics out of files.

    Args:
        grpc: Whether it answers gRPC, too.

    Raises:
        UsageError: A package is missing.
    """
    if missing := _missing(NEEDED):
        raise UsageError(f'the service needs {missing}: pip install "fusioncam[serve]"')
    if grpc and (missing := _missing(NEEDED_FOR_GRPC)):
        raise UsageError(f'--grpc-port needs {missing}: pip install "fusioncam[grpc]"')
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or its library writes notes to standard error
    # With these variables the Prometheus client counts in files mapped into memory: a full disk would end the process.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)


def _missing(names: Sequence[str]) -> str:
    return ", ".join(name for name in names if find_spec(name) is None)
