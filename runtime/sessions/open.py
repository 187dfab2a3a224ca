"""onnxruntime sessions on the execution providers that a user asks for, and on no others."""

import ctypes
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import onnxruntime

from fusioncam.errors import ProviderError
from fusioncam.manifest import WEIGHTS
from fusioncam.runtime.providers.naming import name_and_options, resolve, spec_of, specs
from fusioncam.runtime.providers.options import with_defaults, without_refused
from fusioncam.runtime.providers.spec import Provider, ProviderSpec, Use
from fusioncam.runtime.providers.table import CPU, CUDA, TENSORRT
from fusioncam.runtime.sessions.failures import diagnose, not_begun, open_failure, unavailable
from fusioncam.runtime.sessions.guarded import GuardedSession
from fusioncam.runtime.sessions.native_stderr import native_stderr
from fusioncam.runtime.sessions.placement import RECORD, PlacedNode, left_to_cpu, listed_nodes, placed_nodes
from fusioncam.runtime.sessions.plugins import plugin_devices, require

OpenSession = Callable[..., onnxruntime.InferenceSession]
"""Opens the session of a graph, as `open_session` does."""

STOP_SPINNING = "session.force_spinning_stop"  # after a run; within one, a session is much slower without
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # for graphs that come as bytes
EVERYTHING, SILENT = 0, 4  # of onnxruntime's levels of logs: all, and fatal errors only

# onnxruntime's warning about every device that is named; it has no consequence.
NOISE = "No registered plugin EP device found"


@dataclass(frozen=True)
class Opening:
    """All that decides how a graph is opened, beside the graph.

    Attributes:
        providers: By full name, in order of preference.
        threads: Threads within one operator; by default onnxruntime's choice, one per physical core.
        disabled: Graph optimizers of onnxruntime's to leave out.
        use: The use of the graph, for the options of GPU providers; by default they are left to onnxruntime.
        sizes: Sizes of the graph's free axes by name, for providers that want fixed shapes.
        linger: Whether the session's threads keep their cores busy for a while after a run, to be ready for the next
            run. Meanwhile, other sessions have fewer cores.
        survey: Whether all nodes are recorded, and onnxruntime and its providers log all that they do.
    """

    providers: Sequence[Provider]
    threads: int | None = None
    disabled: Sequence[str] = ()
    use: Use | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    linger: bool = True
    survey: bool = False

    @property
    def specs(self) -> list[ProviderSpec]:
        """Return the rows of the providers."""
        return specs(self.providers)

    @property
    def on_cpu(self) -> bool:
        """Return whether the CPU is the only provider."""
        return {row.name for row in self.specs} == {CPU}


def open_session(
    path: Path,
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    disabled: Sequence[str] = (),
    use: Use | None = None,
    model: bytes | None = None,
    linger: bool = True,
    sizes: Mapping[str, int] | None = None,
    allow_cpu: bool = False,
) -> onnxruntime.InferenceSession:
    """Open a graph of a bundle.

    Args:
        path: The ONNX file.
        providers: See `resolve`.
        threads: See `Opening`, as for the others below.
        disabled: Graph optimizers of onnxruntime's to leave out.
        use: The use of the graph. A graph that cannot be captured is opened all the same, see `captures`.
        model: A graph to open in place of the file's, with its weights in the file of the bundle's weights.
        linger: Whether threads keep their cores busy between runs.
        sizes: Sizes of the graph's free axes by name.
        allow_cpu: Whether nodes may run on the CPU that no provider takes; a warning names them. Where the CPU is one
            of the providers they may, without a warning.

    Raises:
        UsageError: See `resolve`.
        ProviderError: A requested provider cannot run here, or leaves nodes to the CPU. onnxruntime itself would
            silently use the CPU instead.
        BundleError: onnxruntime cannot load the graph.
        OutOfMemoryError: There is not enough memory for the session.
    """
    opening = Opening(resolve(providers), threads, disabled, use, sizes or {}, linger)
    session, log = create_session(path, opening, model)
    if log:
        sys.stderr.writelines(line for line in log.splitlines(keepends=True) if NOISE not in line)
    if not opening.on_cpu:
        _check_placement(path, opening, model, placed_nodes(session), allow_cpu)
    return session


def _check_placement(
    path: Path, opening: Opening, model: bytes | None, nodes: Sequence[PlacedNode], allow_cpu: bool
) -> None:
    """Raise ProviderError for nodes that are left to the CPU, unless they may run there, see `open_session`."""
    rows = opening.specs
    ran = {node.provider for node in nodes}
    if idle := [row for row in rows if row.plugin and row.name not in ran]:
        _, log = create_session(path, replace(opening, survey=True), model)
        if failure := not_begun(log, idle):
            raise failure
    left = [] if CPU in [row.name for row in rows] else left_to_cpu(nodes, rows)
    if not left:
        return
    names = ",".join(row.short for row in rows)
    said = f"of the {len(nodes)} nodes of {path.name}, {names} leaves {len(left)} to the CPU: {listed_nodes(left)}"
    if not allow_cpu:
        raise ProviderError(
            f"{said}; allow it with --allow-cpu, or name the provider cpu as well; "
            f"`fusioncam inspect {path.parent} --providers {names}` says who runs what"
        )
    warnings.warn(said, RuntimeWarning, stacklevel=3)


def create_session(
    path: Path, opening: Opening, model: bytes | None = None
) -> tuple[onnxruntime.InferenceSession, str]:
    """Open a graph on whatever takes its nodes; return the session, and what onnxruntime wrote to standard error.

    Args:
        path: The ONNX file.
        opening: How it is opened.
        model: A graph to open in place of the file's.

    Raises:
        ProviderError, BundleError, OutOfMemoryError: See `open_session`.
    """
    rows, log = opening.specs, [""]
    require(rows)
    plugins, caught = any(row.plugin for row in rows), opening.survey or not opening.on_cpu
    try:
        with native_stderr(and_stdout=plugins) if caught else nullcontext(log) as log:
            if not opening.on_cpu:
                _load_wheels([row.name for row in rows])
            session = _create(path, model, opening)
    except ProviderError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise open_failure(error, log[0], rows, path) from error
    absent = [row for row in rows if row.name not in session.get_providers()]
    if absent:
        unknown = "its libraries or its device are missing on this machine", None
        raise unavailable(absent[0], *(diagnose(log[0]) or unknown))
    return session, log[0]


def captures(session: onnxruntime.InferenceSession) -> bool:
    """Return whether a session captures its runs into CUDA graphs; onnxruntime refuses to for some graphs."""
    switches = [options.get("enable_cuda_graph", "") for options in session.get_provider_options().values()]
    return any(switch.lower() in ("1", "true") for switch in switches)


def takes_small_runs(session: onnxruntime.InferenceSession, first: str) -> bool:
    """Return whether a run of a few pictures makes nothing anew, beside runs of whole chunks.

    CUDA's provider without CUDA graphs makes new plans of cuDNN whenever the number of pictures changes. TensorRT's
    builds another engine where it takes the graph in parts, for then it has no range of batches.

    Args:
        session: The session.
        first: Full name of the provider that was asked for first.
    """
    if first == TENSORRT:
        return "image:1x" in session.get_provider_options().get(TENSORRT, {}).get("trt_profile_min_shapes", "")
    return first != CUDA or captures(session)


def _create(path: Path, model: bytes | None, opening: Opening) -> onnxruntime.InferenceSession:
    """Create a session, without the features that onnxruntime refuses for this graph."""
    use = opening.use
    on_cpu = [spec.name for spec in opening.specs] == [CPU]
    kind = onnxruntime.InferenceSession if on_cpu else GuardedSession
    while True:
        options = _session_options(path, model, opening)
        providers = list(opening.providers) if use is None else with_defaults(opening.providers, use)
        if any(spec.plugin for spec in opening.specs):
            _add_providers(options, providers)
            providers = []
        try:
            return kind(
                model or os.fspath(path),
                options,
                providers=providers,
                disabled_optimizers=list(opening.disabled),
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            use = use and without_refused(use, str(error))
            if use is None:
                raise


def _session_options(path: Path, model: bytes | None, opening: Opening) -> onnxruntime.SessionOptions:
    """Return the options of a session, without its providers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = EVERYTHING if opening.survey else SILENT
    if opening.threads is not None:
        options.intra_op_num_threads = opening.threads
    if opening.on_cpu:
        options.enable_mem_pattern = False  # a pattern is kept for every shape, and last chunks have many shapes
    if opening.survey or not opening.on_cpu:
        options.add_session_config_entry(RECORD, "1")
    if not opening.linger:
        options.add_session_config_entry(STOP_SPINNING, "1")
    if model is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, os.fspath((path.parent / WEIGHTS).resolve().parent))
    if any(spec.fixed for spec in opening.specs):
        for axis, size in opening.sizes.items():
            options.add_free_dimension_override_by_name(axis, size)
    return options


def _add_providers(options: onnxruntime.SessionOptions, providers: Sequence[Provider]) -> None:
    """Name the providers in the options of a session, as plugins want it; the CPU comes last by itself."""
    for provider in providers:
        name, own = name_and_options(provider)
        spec = spec_of(name)
        if spec.plugin is not None:
            options.add_provider_for_devices(*plugin_devices(spec, own))
        elif name != CPU:
            options.add_provider(name, {key: str(value) for key, value in own.items()})


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
