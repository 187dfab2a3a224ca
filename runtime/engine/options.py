"""Options of an engine: on what hardware it runs, and how its sessions are opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device
from fusioncam.manifest import Manifest
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.providers.naming import specs
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.providers.table import CPU
from fusioncam.runtime.sessions.contract import check_session
from fusioncam.runtime.sessions.cpu_comparison import hold_against_cpu
from fusioncam.runtime.sessions.open import OpenSession, open_session


@dataclass(frozen=True)
class EngineOptions:
    """Options of the engines of a bundle.

    Attributes:
        providers: onnxruntime's, see `resolve`.
        chunk: Masked pictures per run; by default the best of a short measurement on the CPU, 64 on a GPU.
        threads: CPU threads within one operator.
        kernels: Whether kernels may make the maps on a GPU.
        open_session: Opens the session of a graph.
        device: The GPU; by default the one that the providers name.
        allow_cpu: Whether nodes that no provider takes may run on the CPU.
        inputs: Further inputs of pictures that come without, see `given_rows`.
        seed: Of the masks of RISE.
    """

    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None
    kernels: bool = True
    open_session: OpenSession = open_session
    device: Device | None = None
    allow_cpu: bool = False
    inputs: Mapping[str, Array] = field(default_factory=dict)
    seed: int = 0

    def opened(
        self, path: Path, manifest: Manifest, check_inputs: bool = True, **options: Any
    ) -> onnxruntime.InferenceSession:
        """Open the session of a graph, and hold it against the manifest; some providers, against the CPU, too.

        Args:
            path: The graph.
            manifest: The bundle's.
            check_inputs: Whether the inputs of the session are those of the graph in the file.
            options: See `open_session`.

        Raises:
            ProviderError: A provider cannot run on this machine, or gives other results than the CPU.
            BundleError: onnxruntime cannot load the graph, or it is not the manifest's.
        """
        disabled = crashing_optimizers(manifest)
        if self.allow_cpu:
            options["allow_cpu"] = True
        session = self.open_session(path, self.providers, self.threads, disabled, **options)
        check_session(session, path, manifest, inputs=check_inputs)
        rows = specs(self.providers)
        if any(row.compared for row in rows):
            on_cpu = partial(self.open_session, path, [CPU], self.threads, disabled)
            names = ",".join(row.short for row in rows)
            hold_against_cpu(session, on_cpu, path, manifest, options.get("sizes", {}), names)
        return session
