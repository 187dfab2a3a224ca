"""The arguments of an Explainer, checked, before its bundles are opened."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from fusioncam.input_values import InputValues
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import Bundles, checked_bands, checked_count, checked_seed
from fusioncam.runtime.budget import Budget, Deadline, checked_budget
from fusioncam.runtime.engine import (
    MAX_SIZES,
    EngineOptions,
    Pipeline,
    PipelineHolder,
    SizedPipelines,
    checked_smoothing,
    read_bundles,
)
from fusioncam.runtime.methods import checked_for, checked_methods
from fusioncam.runtime.picture_inputs import given_rows
from fusioncam.runtime.providers.naming import warn_of_clash
from fusioncam.runtime.providers.spec import Provider

MOST_CHUNK = 1 << 20
MOST_SIZES = 1 << 10
THREADS_PER_CORE = 4  # at most: thousands of threads end in a standstill


class Opening(NamedTuple):
    """The arguments of an Explainer, checked.

    Attributes:
        methods: The maps to make, each once.
        budget: Masked passes to spend.
        manifest: That of the first bundle.
        holder: Opens the pipeline.
    """

    methods: tuple[str, ...]
    budget: Budget
    manifest: Manifest
    holder: PipelineHolder


class Opened:
    """The pipelines of an Explainer, which its holder opens, closes, and opens anew in another process."""

    _holder: PipelineHolder

    @property
    def pipeline(self) -> Pipeline:
        """Return the pipeline, which an Explainer from another process opens now; raise UsageError after `close`."""
        return self._holder.pipeline()

    @property
    def pipelines(self) -> SizedPipelines:
        """Return the pipelines of all sizes, as `pipeline` does that of the bundle's own."""
        return self._holder.pipelines()


def checked_opening(
    bundle: Bundles,
    providers: Sequence[Provider] | None,
    methods: Sequence[str] | None,
    budget: Budget,
    chunk: int | None,
    threads: int | None,
    smooth: Sequence[str],
    kernels: bool,
    allow_cpu: bool,
    max_sizes: int,
    bands: Sequence[int] | None = None,
    inputs: InputValues | None = None,
    seed: int = 0,
) -> Opening:
    """Check the arguments of an `Explainer`, which says what they are and what is raised, and read its bundles."""
    checked_methods(methods)
    budget, smooth = checked_budget(budget), checked_smoothing(smooth)
    chunk = checked_count("chunk", chunk, MOST_CHUNK)
    threads = checked_count("threads", threads, THREADS_PER_CORE * (os.cpu_count() or 1))
    warn_of_clash()
    bundles = read_bundles(bundle)
    if bands is not None:
        bundles = [b._replace(manifest=b.manifest.showing(checked_bands(bands, b.manifest))) for b in bundles]
    checked = checked_for(methods, [b.manifest for b in bundles], budget)
    usual = given_rows(bundles[0].manifest, inputs)
    seed = checked_seed(seed)
    options = EngineOptions(providers, chunk, threads, kernels, allow_cpu=allow_cpu, inputs=usual, seed=seed)
    rehearsed = checked if isinstance(budget, Deadline) else ()
    kept = checked_count("max_sizes", max_sizes, MOST_SIZES) or MAX_SIZES
    holder = PipelineHolder(bundles, options, smooth, rehearsed, kept)
    return Opening(checked, budget, bundles[0].manifest, holder)
