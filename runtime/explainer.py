"""The Explainer: a bundle in, maps out."""

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.manifest import CHUNK, EXPLAIN_GRAPH, SCORE_GRAPH, read_bundle
from fusioncam.quirks import CRASHING_OPTIMIZERS
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.fusion import METHODS, ClassMaps, Evidence, make_maps
from fusioncam.runtime.image import ImageLike, as_input
from fusioncam.runtime.scoring import Clock, Floats, MaskedPasses, Progress, Scorer, probabilities, refuse_nan
from fusioncam.runtime.session import CPU, Provider, open_session, run, warn_of_clash

Classes = int | Sequence[int] | None

THREADS_PER_CORE = 4  # at most: thousands of threads end in a standstill
PARTS = ("logits", "activations", "gradients")


class Explainer:
    """Explains what a classifier sees, with Fusion-CAM (arXiv 2603.05386) and the two maps it is made of.

    One Explainer may be called from several threads.

    Args:
        bundle: Folder made by `fusioncam export`.
        providers: onnxruntime execution providers in order of preference, in full or as `cpu`, `cuda`, `tensorrt`.
        methods: Which maps to make; `grad_cam` alone needs no masked passes.
        budget: Masked passes to spend; `exact` runs every pass that can matter.
        chunk: Masked pictures per run of the session.
        threads: CPU threads within one operator; by default one per physical core.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        ProviderError: A provider cannot run on this machine.
        UsageError: A method, budget or chunk makes no sense.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        providers: Sequence[Provider] | None = None,
        methods: Sequence[str] = METHODS,
        budget: Literal["exact"] = "exact",
        *,
        chunk: int = CHUNK,
        threads: int | None = None,
    ) -> None:
        unknown = [m for m in methods if m not in METHODS]
        if unknown or not methods:
            wrong = repr(unknown[0]) if unknown else "chosen"
            raise UsageError(f"no method {wrong}; the methods are {', '.join(METHODS)}")
        if budget != "exact":
            raise UsageError(f"no budget {budget!r}; the only one is 'exact'")
        most = THREADS_PER_CORE * (os.cpu_count() or 1)
        for name, number, limit in (("chunk", chunk, None), ("threads", 1 if threads is None else threads, most)):
            if not isinstance(number, int) or number < 1 or (limit is not None and number > limit):
                bound = "at least 1" if limit is None else f"1 to {limit}"
                raise UsageError(f"{name} must be a whole number, {bound}, not {number!r}")
        warn_of_clash()
        folder = Path(bundle)
        self.manifest = read_bundle(folder)
        self.methods = tuple(methods)
        disabled = CRASHING_OPTIMIZERS if self.manifest.precision == "float16" else ()
        self._explain = open_session(folder / EXPLAIN_GRAPH, providers, threads, disabled)
        score = open_session(folder / SCORE_GRAPH, providers, threads, disabled)
        only_cpu = score.get_providers() == [CPU]
        self._scorer = Scorer(score, (3, *self.manifest.preprocessing.size), chunk, pad=not only_cpu)

    def explain(
        self, image: ImageLike, class_index: int | None = None, *, progress: Progress | None = None
    ) -> Explanation:
        """Explain one class of one picture.

        Args:
            image: A path, an (H, W, 3) uint8 RGB array, or a preprocessed float32 (3, H, W) or (1, 3, H, W) array.
            class_index: The class; by default, and for -1, the top one.
            progress: Called with (done, all) masked passes after every chunk.

        Raises:
            ImageError: The picture cannot be read or is of another shape, type or content.
            UsageError: There is no such class.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        return self._explain_image(image, [self.checked_class(class_index)], progress)[0]

    def explain_batch(
        self,
        images: Sequence[ImageLike],
        class_index: int | Sequence[Classes] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """Explain many pictures.

        Args:
            images: As for `explain`.
            class_index: One class for all pictures, or the top one of each (None), or for every picture its own: a
                class, None, or several classes, which then share the masked passes of the picture.
            progress: Called with (done, all) masked passes of each picture, after every chunk.

        Returns:
            One explanation per picture and class, in order.

        Raises:
            ImageError, UsageError: As for `explain`; the number of entries in `class_index` is not that of pictures.
        """
        if isinstance(images, str | os.PathLike):
            raise UsageError("explain_batch takes a list of pictures; use explain for a single one")
        each = _many(class_index, len(images))
        if len(each) != len(images):
            raise UsageError(f"{len(each)} entries in class_index for {len(images)} pictures; give one for each")
        wanted = [[self.checked_class(c) for c in _many(many, 1)] for many in each]
        pairs = zip(images, wanted, strict=True)
        return [found for image, classes in pairs for found in self._explain_image(image, classes, progress)]

    def checked_class(self, asked: Any) -> int:
        """The class asked for as an index, -1 for the top one.

        Raises:
            UsageError: There is no such class.
        """
        classes = self.manifest.classes
        try:
            index = -1 if asked is None else operator.index(asked)
        except TypeError:
            raise UsageError(f"class_index must be a whole number, not {asked!r}") from None
        if not -1 <= index < classes:
            raise UsageError(f"there is no class {index}: the model has {classes}, 0 to {classes - 1}")
        return index

    def _explain_image(self, image: ImageLike, classes: list[int], progress: Progress | None) -> list[Explanation]:
        if not classes:
            return []
        clock = Clock()
        _, x = as_input(image, self.manifest.preprocessing)
        clock.lap("preprocess")
        evidence = [self._evidence(x, c) for c in classes]
        clock.lap("explain")
        passes = MaskedPasses(self._scorer, x, clock, progress)
        maps = make_maps(passes, evidence, self.manifest.ending, self.methods)
        clock.lap("fusion")
        return [
            self._result(e, m, Passes(passes.done, len(e.activations)), clock)
            for e, m in zip(evidence, maps, strict=True)
        ]

    def _evidence(self, x: Floats, asked: int) -> Evidence:
        """The explain pass: logits, activations and the gradient of one class's logit."""
        feeds = {"image": x[None], "class_index": np.array([asked], np.int64)}
        results = dict(zip(PARTS, run(self._explain, PARTS, feeds), strict=True))
        for name, array in results.items():
            refuse_nan(array, name)
        logits, activations, gradients = (array[0] for array in results.values())
        return Evidence(asked if asked >= 0 else int(logits.argmax()), logits, activations, gradients)

    def _result(self, evidence: Evidence, made: ClassMaps, passes: Passes, clock: Clock) -> Explanation:
        labels, c = self.manifest.labels, evidence.class_index
        assumed = ("assumed_preprocessing",) if self.manifest.preprocessing.origin == "assumed" else ()
        return Explanation(
            maps={method: made.maps[method].astype(np.float32) for method in self.methods},
            class_index=c,
            label=labels[c] if labels else None,
            probability=float(probabilities(evidence.logits, self.manifest.ending)[c]),
            flags=(*made.flags, *assumed),
            passes=passes,
            timing=clock.laps,
        )


def _many(given: Any, times: int) -> list[Any]:
    """The entries of a sequence, or something else `times` times."""
    many = isinstance(given, Sequence) or (isinstance(given, np.ndarray) and given.ndim > 0)
    return list(given) if many else [given] * times
