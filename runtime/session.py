"""onnxruntime sessions on the execution providers that were asked for, and no others."""

import io
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnxruntime

from fusioncam.errors import BundleError, FusionCamError, ProviderError, first_line

Provider = str | tuple[str, dict[str, Any]]

SHORT = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CPU = SHORT["cpu"]

_STDERR = threading.Lock()  # there is one for the whole process


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
            stacklevel=3,
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
    path: Path,
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    disabled: Sequence[str] = (),
) -> onnxruntime.InferenceSession:
    """Open a graph of a bundle.

    Args:
        path: The ONNX file.
        providers: See `resolve`.
        threads: Threads within one operator; by default onnxruntime's choice, one per physical core.
        disabled: Graph optimizers of onnxruntime's to leave out.

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
    with native_stderr() if names != [CPU] else nullcontext([""]) as log:
        if names != [CPU]:
            _load_wheels()
        try:
            session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=wanted, disabled_optimizers=list(disabled), enable_fallback=0
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            for name in names:
                if name.removesuffix("ExecutionProvider").lower() in str(error).lower():
                    raise _unavailable(name, re.sub(r"^.*?(?=Please)", "", first_line(error))) from error
            raise BundleError(f"onnxruntime cannot load {path}: {first_line(error)}; export the model again") from error
    absent = [n for n in names if n not in session.get_providers()]
    if absent:
        raise _unavailable(absent[0], _reason(log[0]))
    if log[0]:
        sys.stderr.write(log[0])
    return session


def run(session: onnxruntime.InferenceSession, outputs: Sequence[str], feeds: dict[str, Any]) -> list[Any]:
    """Run a session.

    Raises:
        FusionCamError: onnxruntime fails, for instance for lack of memory.
    """
    try:
        results: list[Any] = session.run(outputs, feeds)
    except Exception as error:  # as above
        memory = "alloc" in str(error).lower() or "memory" in str(error).lower()
        remedy = "a smaller chunk needs less memory" if memory else "export the model again"
        raise FusionCamError(f"onnxruntime cannot run the model: {first_line(error)}; {remedy}") from error
    return results


def _load_wheels() -> None:
    """Load the CUDA libraries of NVIDIA's wheels, which onnxruntime does not find by itself."""
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()


@contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Catch what native libraries write to the file behind stderr, past `sys.stderr`; for the whole process.

    It holds why a provider cannot be had, which onnxruntime says nowhere else.
    """
    caught = [""]
    with _STDERR, tempfile.TemporaryFile() as file:
        try:
            real = os.dup(2)
        except OSError:  # a process without stderr
            yield caught
            return
        os.dup2(file.fileno(), 2)
        try:
            yield caught
        finally:
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            caught[0] = file.read().decode(errors="replace")


def _reason(log: str) -> str:
    found = re.search(r"with error: ?(.+)|(CUDA failure .+)", log)
    return found[found.lastindex or 0].strip() if found else "its libraries or its device are missing on this machine"


def _unavailable(name: str, why: str) -> ProviderError:
    short = next((s for s, full in SHORT.items() if full == name), name)
    return ProviderError(f"the {short} provider cannot be used: {why}; install what it needs, or use the cpu provider")
