"""onnxruntime sessions on the execution providers that were asked for, and no others."""

import os
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime

from fusioncam.errors import BundleError, ProviderError

Provider = str | tuple[str, dict[str, Any]]

SHORT = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CPU = SHORT["cpu"]


def warn_of_clash() -> None:
    """Warn where both onnxruntime and onnxruntime-gpu are installed: they overwrite each other's files."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if len(installed) > 1:
        warnings.warn(
            f"{' and '.join(installed)} are both installed and overwrite each other's files; "
            "pip uninstall both, then install one",
            RuntimeWarning,
            stacklevel=2,
        )


def resolve(providers: Sequence[Provider] | None) -> list[Provider]:
    """Full provider names, in order of preference; by default the CPU alone.

    Args:
        providers: As onnxruntime takes them, or in short: `cpu`, `cuda`, `tensorrt`.

    Raises:
        ProviderError: A name is not one of onnxruntime's.
    """
    known = [*SHORT.values(), *onnxruntime.get_all_providers()]
    full: list[Provider] = []
    for given in providers or [CPU]:
        name, options = (given, None) if isinstance(given, str) else given
        name = SHORT.get(name.lower(), name)
        if name not in known:
            raise ProviderError(f"there is no execution provider {name!r}; use {', '.join(SHORT)}")
        full.append(name if options is None else (name, options))
    return full


def open_session(
    path: Path, providers: Sequence[Provider] | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """Open a graph of a bundle.

    Args:
        path: The ONNX file.
        providers: See `resolve`.
        threads: Threads within one operator; by default onnxruntime's choice, one per physical core.

    Raises:
        ProviderError: A provider that was asked for cannot run here. onnxruntime itself would use the CPU instead, in
            silence.
        BundleError: onnxruntime cannot load the graph.
    """
    wanted = resolve(providers)
    names = [p if isinstance(p, str) else p[0] for p in wanted]
    missing = [n for n in names if n not in onnxruntime.get_available_providers()]
    if missing:
        raise _unavailable(missing[0], "this build of onnxruntime does not have it")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class
        if any(n in str(error) for n in names if n != CPU):
            raise _unavailable(names[0], _first_line(error)) from error
        raise BundleError(f"onnxruntime cannot load {path}: {_first_line(error)}; export the model again") from error
    absent = [n for n in names if n not in session.get_providers()]
    if absent:
        raise _unavailable(absent[0], "its libraries or its device are missing on this machine")
    return session


def _unavailable(name: str, why: str) -> ProviderError:
    short = next((s for s, full in SHORT.items() if full == name), name)
    return ProviderError(f"the {short} provider cannot be used: {why}; use --providers cpu, or install what it needs")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
