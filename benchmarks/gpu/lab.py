"""Parts that the steps share: models, bundles, a picture, the maps of the CPU, and every backend of the GPU.

Bundles and the maps of the CPU are kept in a folder, for steps that run in processes of their own. torch is imported
where a network of `networks.py` is wanted, so that a machine without torch can explain files.
"""

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fusioncam.errors import ProviderError
from fusioncam.export import export_model
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device
from fusioncam.manifest import Manifest, Preprocessing, read_bundle
from fusioncam.runtime.engine import EngineOptions, ExplainRequest, Pipeline
from fusioncam.runtime.engine.device.opening import open_device_engine
from fusioncam.runtime.engine.host.opening import open_host_engine
from fusioncam.runtime.engine.protocols import Engine
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.model_input import as_input, preprocess
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.providers.table import CPU, CUDA, TENSORRT
from gpu.files import ModelFile

BACKENDS = ("onnxruntime", "torch")
BY_HOST = "the host, passes on the GPU"  # how methods without kernels are made
# With the first chunk only: TensorRT builds an engine for a minute or more per network and chunk.
LATE = ("onnxruntime, nhwc", "tensorrt")
PROVIDERS: dict[str, list[Provider]] = {
    "onnxruntime": [CUDA],
    "onnxruntime, nhwc": [(CUDA, {"prefer_nhwc": "1"})],  # the layout of tensor cores; onnxruntime's default is NCHW
    "tensorrt": [TENSORRT, CUDA],
    BY_HOST: [CUDA],
}
PRECISIONS = ("fp32", "fp16")
PREPROCESSING = {"rescale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

Made = TypeVar("Made")


@dataclass(frozen=True)
class Explained:
    """The maps (H, W) of one class by method, the passes they took, whether as CUDA graphs, and seconds per stage."""

    maps: dict[str, Array]
    class_index: int
    passes: Passes
    flags: list[str]
    timing: dict[str, float]
    cuda_graphs: bool = False


def explain(engine: Engine, manifest: Manifest, picture: Array, class_index: int = -1) -> Explained:
    """A picture of the host in, maps on the host out: what `Explainer.explain` does."""
    pipeline = Pipeline([manifest], [engine])
    ((e,),) = pipeline.run([pipeline.task(ExplainRequest(picture, [class_index]))], METHODS)
    captured = getattr(engine, "captured", False)
    return Explained(e.maps, e.class_index, e.passes, list(e.flags), e.timing, captured)


def bare(engine: Any, passes: Passes) -> None:
    """The session runs of one such explanation, through the same bindings, and nothing else."""
    with engine.device.entered():
        state = engine.state
        state.explain_runs[0]()
        for count in (passes.run - 2, 1, 1):  # x * R and x * U are passed one by one
            for span in state.passes.spans(count):
                state.passes.runs[span.size, span.slot]()
        engine.device.synchronize(state.stream)


@dataclass
class Lab:
    """Makes what is asked for, once.

    Attributes:
        device: The GPU.
        folder: For bundles.
        files: Models that come as files, by name; other names are those of networks.
        broken: Backends that cannot be opened on this machine, and why.
    """

    device: Device
    folder: Path
    files: dict[str, ModelFile] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    _made: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def _once(self, key: tuple[str, ...], make: Callable[[], Made]) -> Made:
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @property
    def in_test(self) -> bool:
        """Return whether the device is one of the tests', whose memory is the host's."""
        return self.device.memory == "cpu"

    def precisions(self, name: str) -> tuple[str, ...]:
        """Return the precisions that the bundles of a network can have."""
        return self.files[name].precisions if name in self.files else PRECISIONS

    def picture(self, name: str) -> Any:
        """The picture that is explained: none of those a network was calibrated with."""
        if name in self.files:
            return self.files[name].photo
        from networks import NETWORKS, pictures

        return self._once(("picture", name), lambda: pictures(NETWORKS[name].size, 1, seed=2)[0])

    def input(self, name: str) -> Array:
        """The same, preprocessed (3, H, W)."""
        return as_input(self.picture(name), self._preprocessing(name))[1]

    def _preprocessing(self, name: str) -> Preprocessing:
        if name in self.files:
            return self.bundle(name, self.precisions(name)[0])[1].preprocessing
        from networks import NETWORKS

        return Preprocessing.model_validate({**PREPROCESSING, "size": (NETWORKS[name].size,) * 2})

    def network(self, name: str) -> Any:
        """A network in float32, on the host."""
        from networks import CALIBRATION, NETWORKS, build, pictures

        kind, prep = NETWORKS[name], self._preprocessing(name)
        return self._once(
            ("network", name),
            lambda: build(kind, np.stack([preprocess(p, prep) for p in pictures(kind.size, CALIBRATION, seed=1)])),
        )

    def on_device(self, name: str, precision: str) -> Any:
        """A copy of it where torch sees the device's memory."""
        from gpu import torch_backend

        make = partial(torch_backend.moved, self.network(name), self.device, precision)
        return self._once(("moved", name, precision), make)

    def bundle(self, name: str, precision: str) -> tuple[Path, Manifest]:
        """Return the bundle of a network."""
        folder = self.folder / f"{name}-{precision}.fcam"

        def make() -> tuple[Path, Manifest]:
            if not folder.exists():
                self._export(name, precision, folder)
            return folder, read_bundle(folder)

        return self._once(("bundle", name, precision), make)

    def made(self, name: str) -> bool:
        """Return whether all its bundles are there."""
        return all((self.folder / f"{name}-{precision}.fcam").exists() for precision in self.precisions(name))

    def single(self, name: str) -> Path:
        """A bundle, in the highest precision, with the whole method as one graph."""
        folder = self.folder / f"{name}-single.fcam"
        if not folder.exists():
            self._export(name, self.precisions(name)[0], folder, single=True)
        return folder

    def _export(self, name: str, precision: str, folder: Path, single: bool = False) -> None:
        if name in self.files:
            file = self.files[name]
            asked = precision if len(file.precisions) > 1 else None
            export_model(file.path, folder, preprocessing=file.preprocessing, precision=asked, single=single)
            return
        from networks import NETWORKS

        from gpu import graph

        kind, source = NETWORKS[name], self.folder / f"{name}.onnx"
        if not source.exists():
            graph.save(self.network(name), kind.size, kind.classes, source)
        export_model(source, folder, preprocessing=PREPROCESSING, precision=precision, single=single)

    def reference(self, name: str) -> Explained:
        """The maps of the CPU, in the highest precision; a file keeps them for other processes."""
        kept = self.folder / f"{name}.maps"

        def make() -> Explained:
            if kept.exists():
                found: Explained = pickle.loads(kept.read_bytes())
                return found
            folder, manifest = self.bundle(name, self.precisions(name)[0])
            engine = open_host_engine(folder, manifest, EngineOptions([CPU]))
            made = explain(engine, manifest, self.picture(name))
            kept.write_bytes(pickle.dumps(made))
            return made

        return self._once(("reference", name), make)

    def open(self, backend: str, name: str, precision: str, chunk: int, **options: Any) -> tuple[Any, Manifest]:
        """An engine, and the manifest of its bundle; `options` are further `EngineOptions`.

        Raises:
            ProviderError: This machine lacks the provider; the backend is then among `broken`.
            FusionCamError: It cannot be opened.
        """
        folder, manifest = self.bundle(name, precision)
        if backend == "torch":
            from gpu import torch_backend

            if why := torch_backend.missing(self.device):
                self.broken[backend] = why
                raise ProviderError(why)
            networks = self.on_device(name, "fp32"), self.on_device(name, precision)
            return torch_backend.engine(self.device, manifest, *networks, chunk), manifest
        try:
            wanted = EngineOptions([CPU] if self.in_test else PROVIDERS[backend], chunk, allow_cpu=True, **options)
            if backend == BY_HOST:
                return open_host_engine(folder, manifest, wanted), manifest
            return open_device_engine(folder, manifest, self.device, wanted), manifest
        except ProviderError as error:
            self.broken[backend] = str(error)
            raise

    def copy_of(self, name: str) -> Any:
        """A copy of the float32 network on the device that may be changed."""
        return deepcopy(self.on_device(name, "fp32"))
