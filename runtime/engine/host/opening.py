"""Open the engine of the host for a bundle."""

from pathlib import Path

import numpy as np
import onnxruntime

from fusioncam.manifest import CHUNK, EXPLAIN_GRAPH, GPU_CHUNK, HEAD_GRAPH, SCORE_GRAPH, Manifest
from fusioncam.runtime.engine.checks import input_type
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.sessions.chunk_tuning import remembered_chunk
from fusioncam.runtime.sessions.masked_graph import masked_graph
from fusioncam.runtime.sessions.providers import CPU, ON_GPU, name_and_options, resolve


def open_host_engine(folder: Path, manifest: Manifest, options: EngineOptions) -> HostEngine:
    """Open an engine that makes masks and maps on the host, while the model runs wherever the providers say.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        options: Options.

    Raises:
        ProviderError: A provider cannot run on this machine.
        BundleError: onnxruntime cannot load a graph.
    """
    explain = options.opened(folder / EXPLAIN_GRAPH, manifest, linger=False)

    def open_head() -> Head:
        return Head(options.opened(folder / HEAD_GRAPH, manifest, linger=False))

    return HostEngine(manifest, explain, _open_scorer(folder / SCORE_GRAPH, manifest, options, explain), open_head)


def _open_scorer(
    path: Path, manifest: Manifest, options: EngineOptions, explain: onnxruntime.InferenceSession
) -> Scorer:
    """Open the score graph for chunks that are made on the host; on the CPU the graph masks its pictures itself."""
    size, providers = manifest.preprocessing.size, [name_and_options(p)[0] for p in resolve(options.providers)]
    on_cpu, usual = {*providers} == {CPU}, GPU_CHUNK if providers[0] in ON_GPU else CHUNK
    takes_floats = manifest.score_precision != "float16" or manifest.precision == "float16"
    grid = manifest.layer.shape[1:] if on_cpu and takes_floats else None
    model = masked_graph(path, grid, size) if grid else None  # which checks the inputs that it takes the place of
    session = options.opened(path, manifest, check_inputs=model is None, model=model)
    dtype = np.float32 if grid else input_type(session)
    chunk, pad = options.chunk or usual, not on_cpu
    scorer = Scorer(session, (3, *size), chunk, pad, dtype=dtype, grid=grid, explain=explain)
    if on_cpu and options.chunk is None:
        scorer.chunk = remembered_chunk(manifest, options.threads, scorer.try_out)
    return scorer
