"""Open the engine of the host for a bundle."""

from pathlib import Path

import numpy as np
import onnxruntime

from fusioncam.forms import TARGETS_AXIS
from fusioncam.manifest import BATCH, CHUNK, EXPLAIN_GRAPH, HEAD_GRAPH, MASKS_BATCH, SCORE_GRAPH, Manifest
from fusioncam.runtime.engine.checks import input_type
from fusioncam.runtime.engine.host.engine import HostEngine
from fusioncam.runtime.engine.host.head import Head, masks_per_run
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.options import EngineOptions
from fusioncam.runtime.picture_inputs import drawn_inputs
from fusioncam.runtime.providers.naming import specs
from fusioncam.runtime.providers.spec import Use
from fusioncam.runtime.providers.table import CPU
from fusioncam.runtime.sessions.chunk_tuning import remembered_chunk
from fusioncam.runtime.sessions.masked_graph import masked_graph
from fusioncam.runtime.sessions.placement import providers_of


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
    grid, use = manifest.layer.grid, Use(half=manifest.precision == "float16")
    explain = options.opened(folder / EXPLAIN_GRAPH, manifest, linger=False, sizes={BATCH: 1}, use=use)

    def open_head() -> Head:
        sizes = {MASKS_BATCH: masks_per_run(grid), **_of_targets(manifest)}
        head = options.opened(folder / HEAD_GRAPH, manifest, linger=False, sizes=sizes, use=use)
        return Head(head, any(spec.fixed for spec in specs(options.providers)))

    scorer = _open_scorer(folder / SCORE_GRAPH, manifest, options, explain)
    return HostEngine(
        manifest, explain, scorer, open_head, providers=providers_of(explain, scorer.session), seed=options.seed
    )


def _open_scorer(
    path: Path, manifest: Manifest, options: EngineOptions, explain: onnxruntime.InferenceSession
) -> Scorer:
    """Open the score graph for chunks that are made on the host; on the CPU the graph masks its pictures itself."""
    shape, providers = manifest.preprocessing.shape, specs(options.providers)
    on_cpu = {spec.name for spec in providers} == {CPU}
    chunk, pad = options.chunk or providers[0].chunk or CHUNK, not on_cpu
    takes_floats = manifest.score_precision != "float16" or manifest.precision == "float16"
    grids = [layer.grid for layer in manifest.layers] if on_cpu and takes_floats else []
    model = masked_graph(path, grids, shape) if grids else None  # which checks the inputs that it takes the place of
    use = Use(half=manifest.score_precision == "float16", int8=manifest.score_precision == "int8")
    sizes = {BATCH: chunk, **_of_targets(manifest)}
    session = options.opened(path, manifest, check_inputs=model is None, model=model, sizes=sizes, use=use)
    dtype = np.float32 if grids else input_type(session)
    singly = any(spec.fixed for spec in providers)
    scorer = Scorer(session, shape, chunk, pad, dtype, grids, explain, singly, manifest.form, drawn_inputs(manifest))
    if on_cpu and options.chunk is None:
        scorer.chunk = remembered_chunk(manifest, options.threads, scorer.try_out)
    return scorer


def _of_targets(manifest: Manifest) -> dict[str, int]:
    """Return the size of the axis of targets, where graphs have one, for providers that want fixed sizes."""
    return {TARGETS_AXIS: 1} if manifest.form.scored else {}
