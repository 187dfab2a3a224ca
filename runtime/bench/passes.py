"""The bare graphs of a bundle: passes to compare times with, and maps by the reference to compare maps with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import BATCH, EXPLAIN_GRAPH, SCORE_GRAPH, Manifest
from fusioncam.quirks import crashing_optimizers
from fusioncam.runtime.bench.comparison import Drawn, Maps, Picture
from fusioncam.runtime.bench.fidelity import difference
from fusioncam.runtime.engine.checks import input_type
from fusioncam.runtime.picture_inputs import NO_INPUTS, PictureInputs
from fusioncam.runtime.providers.naming import specs
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.providers.table import CPU
from fusioncam.runtime.sessions.open import open_session
from fusioncam.runtime.sessions.run import run

SAME = 0.999  # least correlation of two computations of the same map; float16 rounds
ILL_CONDITIONED = {"equal_contributions", "mixed_contributions"}  # flags: Fusion-CAM divides by almost nothing
CLOSING = 2  # the last passes of Fusion-CAM run one by one: each waits for the result of the one before


class BarePasses:
    """The score graph, run in the chunks of an explanation, with pictures bound to the device beforehand.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        chunk: Pictures per run.
        providers: See `open_session`.
        threads: See `open_session`.
        allow_cpu: See `open_session`.
        inputs: Further inputs of all pictures.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        chunk: int,
        providers: Sequence[Provider] | None = None,
        threads: int | None = None,
        allow_cpu: bool = False,
        inputs: PictureInputs = NO_INPUTS,
    ) -> None:
        self.manifest, self.chunk, self._inputs = manifest, chunk, inputs
        disabled, sizes = crashing_optimizers(manifest), {BATCH: chunk}
        self.session = open_session(
            folder / SCORE_GRAPH, providers, threads, disabled, sizes=sizes, allow_cpu=allow_cpu
        )
        self._folder, self._threads = folder, threads
        self._on_cpu = self.session.get_providers() == [CPU]
        self._memory = "cuda" if specs(providers)[0].kernels else "cpu"
        self._bound: dict[tuple[int, int], onnxruntime.IOBinding] = {}

    def run(self, x: Float32Array, count: int) -> None:
        """Pass `count` pictures through the model; the outputs stay on the device."""
        for size in self.chunks(count):
            self.session.run_with_iobinding(self._binding(x, size))

    def chunks(self, count: int) -> list[int]:
        """Return the sizes of the runs of an explanation with so many passes; a GPU sees one shape only."""
        if not self._on_cpu:
            return [self.chunk] * -(-count // self.chunk)
        first = max(count - CLOSING, 0)
        return [self.chunk] * (first // self.chunk) + [n for n in (first % self.chunk,) if n] + [1] * (count - first)

    def _binding(self, x: Float32Array, size: int) -> onnxruntime.IOBinding:
        """Return a binding of the same picture `size` times over: its contents do not change the time."""
        key = (id(x), size)
        if key not in self._bound:
            binding = self.session.io_binding()
            batch = np.repeat(x[None], size, axis=0).astype(input_type(self.session))
            for name, rows in {"image": batch, **self._inputs.repeated(size)}.items():
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(rows, self._memory, 0))
            binding.bind_output("logits", self._memory)
            self._bound = {k: b for k, b in self._bound.items() if k[0] == id(x)}  # one picture at a time
            self._bound[key] = binding
        return self._bound[key]

    def logits(self, pictures: Sequence[Float32Array]) -> Float32Array:
        """Return the logits f of pictures (C, H, W), computed by chunks: (len(pictures), classes)."""
        logits = []
        for start in range(0, len(pictures), self.chunk):
            batch = np.stack(pictures[start : start + self.chunk]).astype(input_type(self.session))
            padded = batch if self._on_cpu else np.resize(batch, (self.chunk, *batch.shape[1:]))
            feeds = {"image": padded, **self._inputs.repeated(len(padded))}
            logits.append(run(self.session, ["logits"], feeds)[0][: len(batch)])
        return np.concatenate(logits).astype(np.float32)

    def confidences(self, pictures: Sequence[Float32Array], class_index: int) -> list[float]:
        """Return p_c of pictures (C, H, W)."""
        chances = probabilities(self.logits(pictures), self.manifest.ending)
        return [float(p) for p in chances[:, class_index]]

    def reference_maps(self, x: Float32Array, class_index: int) -> Maps:
        """Return the maps of Fusion-CAM (H, W) by name, by the reference, with a pass for every channel.

        Without a gradient there is only that of Score-CAM.
        """
        feeds = {"image": x[None], "class_index": np.array([class_index], np.int64), **self._inputs.rows}
        outputs = ["activations", *["gradients"] * self.manifest.gradient]
        explain = open_session(self._folder / EXPLAIN_GRAPH, None, self._threads, crashing_optimizers(self.manifest))
        a, *gradients = (output[0].astype(np.float64) for output in run(explain, outputs, feeds))
        size = x.shape[1:]
        scores = [
            self.logits(
                [x * m.astype(np.float32) for m in reference.unit(reference.upsample(channels, size), len(size))]
            )
            for channels in np.array_split(a, -(-len(a) // self.chunk))
        ]

        def confidence(m: Array) -> float:
            return self.confidences([x * m.astype(np.float32)], class_index)[0]

        of_class = np.concatenate(scores)[:, class_index].astype(np.float64)
        if gradients:
            maps = reference.fusion_cam(a, gradients[0], of_class, confidence, size)
        else:
            live = a.any(axis=reference.places_of(a))
            maps = {"score_cam": reference.score_cam(a[live], of_class[live], size)}
        return {method: m.astype(np.float32) for method, m in maps.items()}


class ReferenceCheck:
    """A judge that compares the exact maps of the first picture with those of the reference."""

    def __init__(self, bare: BarePasses) -> None:
        self._bare: BarePasses | None = bare

    def __call__(self, picture: Picture, drawn: Drawn) -> str | None:
        """Return why the explanation is wrong, or None; pictures after the first are not checked."""
        bare, self._bare = self._bare, None
        if bare is None:
            return None
        maps = bare.reference_maps(picture.x, picture.class_index)
        if ILL_CONDITIONED & {*drawn.flags}:
            maps.pop("fusion_cam", None)
        for method, right in maps.items():
            correlation = difference(drawn.maps[method], right).correlation
            if correlation < SAME:
                return f"{method}: correlation {correlation:.4f} with the map of the reference"
        return None
