"""onnxruntime sessions on the execution providers that a user asks for, and on no others."""

import ctypes
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path

import onnxruntime

from fusioncam.manifest import WEIGHTS
from fusioncam.runtime.sessions.failures import GET_BUILD, INSTALL, diagnose, open_failure, unavailable
from fusioncam.runtime.sessions.native_stderr import native_stderr
from fusioncam.runtime.sessions.provider_options import Use, with_defaults, without_refused
from fusioncam.runtime.sessions.providers import CPU, TENSORRT, Provider, name_and_options, resolve

OpenSession = Callable[..., onnxruntime.InferenceSession]
"""Opens the session of a graph, as `open_session` does."""

STOP_SPINNING = "session.force_spinning_stop"  # after a run; within one, a session is much slower without
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # for graphs that come as bytes

# onnxruntime's warning about every device that is named; it has no consequence.
NOISE = "No registered plugin EP device found"


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
        use: The use of the graph, for the options of GPU providers; by default they are left to onnxruntime.
            A graph that cannot be captured is opened all the same, see `captures`.
        model: A graph to open in place of the file's, with its weights in the file of the bundle's weights.
        linger: Whether the session's threads keep their cores busy for a while after a run, to be ready for the next
            run. Meanwhile, other sessions have fewer cores.

    Raises:
        UsageError: See `resolve`.
        ProviderError: A requested provider cannot run here. onnxruntime itself would silently use the CPU instead.
        BundleError: onnxruntime cannot load the graph.
        OutOfMemoryError: There is not enough memory for the session.
    """
    requested = resolve(providers)
    names = [name_and_options(p)[0] for p in requested]
    for name in names:
        if name not in onnxruntime.get_available_providers():
            remedy = GET_BUILD if name in INSTALL else "install a build that has it"
            raise unavailable(name, "this build of onnxruntime does not have it", remedy)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if names == [CPU]:
        options.enable_mem_pattern = False  # a pattern is kept for every shape, and last chunks have many shapes
    if not linger:
        options.add_session_config_entry(STOP_SPINNING, "1")
    if model is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, os.fspath((path.parent / WEIGHTS).resolve().parent))
    log = [""]
    try:
        with native_stderr() if names != [CPU] else nullcontext(log) as log:
            if names != [CPU]:
                _load_wheels(names)
            session = _create(model or os.fspath(path), requested, options, disabled, use)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise open_failure(error, log[0], names, path) from error
    absent = [n for n in names if n not in session.get_providers()]
    if absent:
        unknown = "its libraries or its device are missing on this machine", None
        raise unavailable(absent[0], *(diagnose(log[0]) or unknown))
    if log[0]:
        sys.stderr.writelines(line for line in log[0].splitlines(keepends=True) if NOISE not in line)
    return session


def captures(session: onnxruntime.InferenceSession) -> bool:
    """Return whether a session captures its runs into CUDA graphs; onnxruntime refuses to for some graphs."""
    switches = [options.get("enable_cuda_graph", "") for options in session.get_provider_options().values()]
    return any(switch.lower() in ("1", "true") for switch in switches)


def _create(
    model: bytes | str,
    providers: Sequence[Provider],
    options: onnxruntime.SessionOptions,
    disabled: Sequence[str],
    use: Use | None,
) -> onnxruntime.InferenceSession:
    """Create a session, without the features that onnxruntime refuses for this graph."""
    while True:
        try:
            return onnxruntime.InferenceSession(
                model,
                options,
                providers=list(providers) if use is None else with_defaults(providers, use),
                disabled_optimizers=list(disabled),
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            use = use and without_refused(use, str(error))
            if use is None:
                raise


def _load_wheels(names: Sequence[str]) -> None:
    """Load the libraries of NVIDIA's wheels, which onnxruntime does not find by itself."""
    with redirect_stdout(io.StringIO()):  # onnxruntime prints the names of libraries that it does not find
        onnxruntime.preload_dlls()
    wheel = find_spec("tensorrt_libs") if TENSORRT in names else None
    for folder in (wheel and wheel.submodule_search_locations) or ():
        # Sorted, so that libnvinfer precedes the libraries that need it; it loads the rest when it builds an engine.
        for library in sorted(Path(folder).glob("nv*.dll" if os.name == "nt" else "libnv*.so*")):
            with suppress(OSError):  # onnxruntime names a missing library later
                ctypes.CDLL(os.fspath(library), mode=ctypes.RTLD_GLOBAL)
