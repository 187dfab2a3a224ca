"""onnxruntime sessions on the execution providers that were asked for, and no others."""

import ctypes
import io
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

from fusioncam.errors import BundleError, FusionCamError, ProviderError, UsageError, first_line, out_of_memory
from fusioncam.manifest import WEIGHTS
from fusioncam.runtime.arguments import listed
from fusioncam.runtime.sessions.providers import (
    CPU,
    GET_BUILD,
    INSTALL,
    SHORT,
    TENSORRT,
    Provider,
    Use,
    diagnose,
    name_and_options,
    refuse_one_graph,
    with_defaults,
    without_refused,
)

__all__ = [
    "CPU",
    "SHORT",
    "Provider",
    "captures",
    "native_stderr",
    "open_session",
    "resolve",
    "run",
    "run_failure",
    "warn_of_clash",
]

STOP_SPINNING = "session.force_spinning_stop"  # after a run; within one, a session is much slower without
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # for graphs that come as bytes

# onnxruntime warns so of every device that is named; it means nothing.
NOISE = "No registered plugin EP device found"

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
        UsageError: They are no list of providers, a name is not one of onnxruntime's, or an option would do harm.
    """
    known = [*SHORT.values(), *onnxruntime.get_all_providers()]
    full: list[Provider] = []
    for given in [CPU] if providers is None else listed(providers, "providers"):
        name, options = name_and_options(given)
        name = SHORT.get(name.lower(), name)
        if name not in known:
            raise UsageError(f"there is no execution provider {name!r}; use {', '.join(SHORT)}")
        refuse_one_graph(options)
        full.append(name if isinstance(given, str) else (name, options))
    if not full:
        raise UsageError(f"no provider is named; name at least one provider of {', '.join(SHORT)}")
    return full


def open_session(
    path: Path,
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    disabled: Sequence[str] = (),
    use: Use | None = None,
    model: bytes | None = None,
    linger: bool = True,
) -> onnxruntime.InferenceSession:
    """Open a graph of a bundle.

    Args:
        path: The ONNX file.
        providers: See `resolve`.
        threads: Threads within one operator; by default onnxruntime's choice, one per physical core.
        disabled: Graph optimizers of onnxruntime's to leave out.
        use: How the graph will be used, for the options of GPU providers; by default they are left to onnxruntime.
            A graph that cannot be captured is opened all the same, see `captures`.
        model: A graph to open in place of the file's, with weights where those of the bundle are.
        linger: Whether its threads keep their cores busy for a while after a run, to be ready for the next one. They
            are in the way of other sessions meanwhile.

    Raises:
        UsageError: See `resolve`.
        ProviderError: A provider that was asked for cannot run here. onnxruntime itself would use the CPU instead, in
            silence.
        BundleError: onnxruntime cannot load the graph.
        OutOfMemoryError: There is not enough memory for it.
    """
    wanted = resolve(providers)
    names = [name_and_options(p)[0] for p in wanted]
    for name in names:
        if name not in onnxruntime.get_available_providers():
            remedy = GET_BUILD if name in INSTALL else "install a build that has it"
            raise _unavailable(name, "this build of onnxruntime does not have it", remedy)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if names == [CPU]:
        options.enable_mem_pattern = False  # one is kept for every shape, and the last chunks have many
    if not linger:
        options.add_session_config_entry(STOP_SPINNING, "1")
    if model is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, os.fspath((path.parent / WEIGHTS).resolve().parent))
    log = [""]
    try:
        with native_stderr() if names != [CPU] else nullcontext(log) as log:
            if names != [CPU]:
                _load_wheels(names)
            session = _create(model or os.fspath(path), wanted, options, disabled, use)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise _failure(error, log[0], names, path) from error
    absent = [n for n in names if n not in session.get_providers()]
    if absent:
        unknown = "its libraries or its device are missing on this machine", _install(absent[0])
        raise _unavailable(absent[0], *(diagnose(log[0]) or unknown))
    if log[0]:
        sys.stderr.writelines(line for line in log[0].splitlines(keepends=True) if NOISE not in line)
    return session


def captures(session: onnxruntime.InferenceSession) -> bool:
    """Whether the session captures its runs into CUDA graphs; onnxruntime refuses to for some graphs."""
    told = [options.get("enable_cuda_graph", "") for options in session.get_provider_options().values()]
    return any(value.lower() in ("1", "true") for value in told)


def run(session: onnxruntime.InferenceSession, outputs: Sequence[str], feeds: dict[str, Any]) -> list[Any]:
    """Run a session.

    Raises:
        OutOfMemoryError: There is not enough memory.
        FusionCamError: onnxruntime fails otherwise.
    """
    try:
        results: list[Any] = session.run(outputs, feeds)
    except Exception as error:  # as above
        raise run_failure(error) from error
    return results


def run_failure(error: Exception) -> FusionCamError:
    """What to say when a session does not run."""
    if (shortage := out_of_memory(error)) is not None:
        return shortage
    known = diagnose(str(error))
    remedy = known[1] if known else "export the model again"
    return FusionCamError(f"onnxruntime cannot run the model: {first_line(error)}; {remedy}")


def _create(
    model: bytes | str,
    wanted: Sequence[Provider],
    options: onnxruntime.SessionOptions,
    disabled: Sequence[str],
    use: Use | None,
) -> onnxruntime.InferenceSession:
    """A session, without what onnxruntime refuses for this graph."""
    while True:
        try:
            return onnxruntime.InferenceSession(
                model,
                options,
                providers=list(wanted) if use is None else with_defaults(wanted, use),
                disabled_optimizers=list(disabled),
                enable_fallback=0,
            )
        except Exception as error:  # as above
            use = use and without_refused(use, str(error))
            if use is None:
                raise


def _load_wheels(names: Sequence[str]) -> None:
    """Load the libraries of NVIDIA's wheels, which onnxruntime does not find by itself."""
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()
    wheel = find_spec("tensorrt_libs") if TENSORRT in names else None
    for folder in (wheel and wheel.submodule_search_locations) or ():
        # Sorted, so that libnvinfer comes before what needs it. The others it looks for when it builds an engine.
        for library in sorted(Path(folder).glob("nv*.dll" if os.name == "nt" else "libnv*.so*")):
            with suppress(OSError):  # what is missing in the end, onnxruntime says
                ctypes.CDLL(os.fspath(library), mode=ctypes.RTLD_GLOBAL)


@contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Catch what native libraries write to the file behind stderr, past `sys.stderr`; for the whole process.

    It holds why a provider cannot be had, which onnxruntime says nowhere else. Where there is nowhere to keep it,
    nothing is caught.
    """
    caught = [""]
    with _STDERR, ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile())
            real = os.dup(2)
        except OSError:  # a process without stderr, a machine without a folder for such files
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


def _failure(error: Exception, log: str, names: Sequence[str], path: Path) -> FusionCamError:
    """Whose failure it is: a provider's, the memory's, or the bundle's."""
    said = str(error).replace(os.fspath(path), "")  # a folder may be named like a provider
    known = diagnose(f"{log}\n{said}")
    suspects = [n for n in names if n != CPU]
    named = [n for n in suspects if n.removesuffix("ExecutionProvider").lower() in said.lower()]
    if named or (suspects and known):
        name = (named or suspects)[0]
        unknown = re.sub(r"^.*?(?=Please)", "", first_line(error)).rstrip("."), _install(name)
        return _unavailable(name, *(known or unknown))
    shortage = out_of_memory(error, "use a smaller model or fewer processes, or free some memory")
    return shortage or BundleError(f"onnxruntime cannot load {path}: {first_line(error)}; export the model again")


def _install(name: str) -> str:
    return INSTALL.get(name, "install what it needs")


def _unavailable(name: str, why: str, remedy: str) -> ProviderError:
    short = next((s for s, full in SHORT.items() if full == name), name)
    return ProviderError(f"the {short} provider cannot be used: {why}; {remedy}, or use the cpu provider")
