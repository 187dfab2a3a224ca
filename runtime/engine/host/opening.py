"""Open the engine of the host for a bundle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from fusioncam.manifest import CHUNK, EXPLAIN_GRAPH, GPU_CHUNK, HEAD_GRAPH, SCORE_GRAPH, Manifest
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.engine.checks import input_type
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.sessions.chunk_tuning import remembered_chunk
from fusioncam.runtime.sessions.contract import check_session
from fusioncam.runtime.sessions.masked_graph import masked_graph
from fusioncam.runtime.sessions.open import OpenSession, open_session
from fusioncam.runtime.sessions.providers import CPU, ON_GPU, Provider, name_and_options


def open_host_engine(
    folder: Path,
    manifest: Manifest,
    providers: Sequence[Provider],
    chunk: int | None = None,
    threads: int | None = None,
    open_session: OpenSession = open_session,
) -> HostEngine:
    """Open an engine that makes masks and maps on the host, while the model runs wherever the providers say.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        providers: Providers, as `resolve` gives them.
        chunk: Masked pictures per run; by default the best of a short measurement on the CPU, 64 on a GPU.
        threads: CPU threads within one operator.
        open_session: Opens the session of a graph.

    Raises:
        ProviderError: A provider cannot run on this machine.
        BundleError: onnxruntime cannot load a graph.
    """
    disabled = crashing_optimizers(manifest)

    def opened(graph: str) -> onnxruntime.InferenceSession:
        session = open_session(folder / graph, providers, threads, disabled, linger=False)
        check_session(session, folder / graph, manifest)
        return session

    def open_head() -> Head:
        return Head(opened(HEAD_GRAPH))

    explain = opened(EXPLAIN_GRAPH)
    scorer = open_scorer(folder / SCORE_GRAPH, manifest, providers, chunk, threads, open_session)
    return HostEngine(manifest, explain, scorer, open_head)


def open_scorer(
    path: Path,
    manifest: Manifest,
    providers: Sequence[Provider],
    chunk: int | None = None,
    threads: int | None = None,
    open_session: OpenSession = open_session,
) -> Scorer:
    """Open the score graph, for chunks that are made on the host; on the CPU the graph masks its pictures itself.

    Args:
        path: The score graph.
        manifest: As for `open_host_engine`, like all that follows.
        providers: Providers.
        chunk: Masked pictures per run.
        threads: CPU threads.
        open_session: Opens the session.
    """
    size, disabled = manifest.preprocessing.size, crashing_optimizers(manifest)
    on_cpu = all(name_and_options(p)[0] == CPU for p in providers)
    takes_floats = manifest.score_precision != "float16" or manifest.precision == "float16"
    grid = manifest.layer.shape[1:] if on_cpu and takes_floats else None
    model = masked_graph(path, grid, size) if grid else None
    session = open_session(path, providers, threads, disabled, model=model)
    check_session(session, path, manifest, inputs=model is None)  # `masked_graph` has checked those it replaced
    dtype = np.float32 if grid else input_type(session)
    on_gpu = name_and_options(providers[0])[0] in ON_GPU
    usual = GPU_CHUNK if on_gpu else CHUNK
    scorer = Scorer(session, (3, *size), chunk or usual, pad=not on_cpu, dtype=dtype, grid=grid)
    if on_cpu and chunk is None:
        scorer.chunk = remembered_chunk(manifest, threads, scorer.try_out)
    return scorer
