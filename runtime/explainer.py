"""The Explainer: a bundle in, maps out."""

import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.manifest import read_bundle
from fusioncam.runtime.budget import Budget, checked_budget
from fusioncam.runtime.engines import open_engine
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.fusion import METHODS, ClassMaps, make_maps, take_steps
from fusioncam.runtime.image import ImageLike, UInt8Array, as_input, unpreprocess
from fusioncam.runtime.picture import DEFAULT_COLORMAP, checked_opacity, color_table
from fusioncam.runtime.providers import listed
from fusioncam.runtime.scoring import probabilities
from fusioncam.runtime.session import Provider, warn_of_clash
from fusioncam.runtime.work import Clock, Progress, Work

Classes = int | Sequence[int] | None

MOST_CHUNK = 1 << 20
THREADS_PER_CORE = 4  # at most: thousands of threads end in a standstill


class Explainer:
    """Explains what a classifier sees, with Fusion-CAM (arXiv 2603.05386) and the two maps it is made of.

    One Explainer may be called from several threads.

    Args:
        bundle: Folder made by `fusioncam export`.
        providers: onnxruntime execution providers in order of preference, in full or as `cpu`, `cuda`, `tensorrt`.
        methods: Which maps to make; `grad_cam` alone needs no masked passes.
        budget: Masked passes to spend. `exact` runs every pass that can matter; `auto` stops by itself, once the map is
            expected not to change any more; a whole number is how many passes at most, of all kinds; a fraction is the
            share of the channels that can matter. What is not measured is guessed from what is.
        chunk: Masked pictures per run of the session; by default 64 on a GPU, and on the CPU what a measurement of
            about a second finds best the first time a bundle is opened, which is remembered.
        threads: CPU threads within one operator; by default one per physical core.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        ProviderError: A provider cannot run on this machine.
        UsageError: A provider, method, budget, chunk or number of threads makes no sense.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        providers: Sequence[Provider] | None = None,
        methods: Sequence[str] = METHODS,
        budget: Budget = "exact",
        *,
        chunk: int | None = None,
        threads: int | None = None,
    ) -> None:
        methods = listed(methods, "methods")
        unknown = [m for m in methods if m not in METHODS]
        if unknown or not methods:
            wrong = repr(unknown[0]) if unknown else "chosen"
            raise UsageError(f"no method {wrong}; the methods are {', '.join(METHODS)}")
        self._budget = checked_budget(budget)
        chunk = _checked_count("chunk", chunk, MOST_CHUNK)
        threads = _checked_count("threads", threads, THREADS_PER_CORE * (os.cpu_count() or 1))
        warn_of_clash()
        folder = Path(bundle)
        self.manifest = read_bundle(folder)
        self.methods = tuple(methods)
        self._engine = open_engine(folder, self.manifest, providers, chunk, threads)

    @property
    def chunk(self) -> int:
        """Masked pictures per run, as given or chosen."""
        return self._engine.chunk

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
        ((found,),) = self._engine.finish([self._work(image, [self.checked_class(class_index)], progress)])
        return found

    def explain_batch(
        self,
        images: Iterable[ImageLike],
        class_index: int | Sequence[Classes] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """Explain many pictures.

        Args:
            images: Pictures as for `explain`; the classes are looked at before the first is explained.
            class_index: One class for all pictures, or the top one of each (None), or for every picture its own: a
                class, None, or several classes, which then share the masked passes of the picture.
            progress: Called with (done, all) masked passes of each picture, after every chunk.

        Returns:
            One explanation per picture and class, in order.

        Raises:
            ImageError, UsageError: As for `explain`; the number of entries in `class_index` is not that of pictures.
        """
        if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
            raise UsageError("explain_batch takes a list of pictures; use explain for a single one")
        images = list(images)
        each = _many(class_index, len(images))
        if len(each) != len(images):
            raise UsageError(f"{len(each)} entries in class_index for {len(images)} pictures; give one for each")
        wanted = [[self.checked_class(c) for c in _many(many, 1)] for many in each]
        works = (self._work(image, some, progress) for image, some in zip(images, wanted, strict=True) if some)
        return [found for of_image in self._engine.finish(works) for found in of_image]

    def overlay(
        self,
        image: ImageLike,
        class_index: int | None = None,
        *,
        method: str = "fusion_cam",
        colormap: str = DEFAULT_COLORMAP,
        opacity: float = 0.7,
    ) -> UInt8Array:
        """One map laid over what the model sees of a picture, ready to encode; on a GPU nothing else leaves it.

        Args:
            image: As for `explain`.
            class_index: As for `explain`.
            method: Which map.
            colormap: A name in `fusioncam.runtime.picture.COLORMAPS`.
            opacity: Of the colours where the map is 0.4 or more, in [0, 1].

        Returns:
            (H, W, 3) uint8 RGB, at the size of the model's input.

        Raises:
            ImageError, UsageError, FusionCamError: As for `explain`; there is no such method, colour map or opacity.
        """
        if method not in METHODS:
            raise UsageError(f"no method {method!r}; the methods are {', '.join(METHODS)}")
        opacity = checked_opacity(opacity)
        colors, classes = color_table(colormap), [self.checked_class(class_index)]
        _, x = as_input(image, self.manifest.preprocessing)

        def work() -> Work[UInt8Array]:
            with self._engine.look(x, classes, Clock(), budget=self._budget) as steps:
                made = (yield from take_steps(steps, (method,)))[method]
                seen = unpreprocess(x, self.manifest.preprocessing)
                return steps.overlay(made, seen, colors, opacity)[0]

        (found,) = self._engine.finish([work()])
        return found

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

    def _work(self, image: ImageLike, classes: list[int], progress: Progress | None) -> Work[list[Explanation]]:
        clock = Clock()
        _, x = as_input(image, self.manifest.preprocessing)
        clock.lap("preprocess")
        with self._engine.look(x, classes, clock, progress, self._budget) as steps:
            made = yield from make_maps(steps, self.methods)
            clock.lap("fusion")
            chances = probabilities(steps.logits, self.manifest.ending)
            return [
                self._result(c, m, float(chances[c]), steps.passes, clock)
                for c, m in zip(steps.classes, made, strict=True)
            ]

    def _result(self, c: int, made: ClassMaps, probability: float, passes: Passes, clock: Clock) -> Explanation:
        labels = self.manifest.labels
        assumed = ("assumed_preprocessing",) if self.manifest.preprocessing.origin == "assumed" else ()
        return Explanation(
            maps={method: made.maps[method].astype(np.float32) for method in self.methods},
            class_index=c,
            label=labels[c] if labels else None,
            probability=probability,
            flags=(*made.flags, *assumed),
            passes=passes,
            timing=clock.laps,
        )


def _checked_count(name: str, given: Any, most: int) -> int | None:
    """A whole number from 1 to `most`, or None; raises UsageError for anything else, True included."""
    if given is None:
        return None
    try:
        count = 0 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        count = 0
    if not 1 <= count <= most:
        raise UsageError(f"{name} must be a whole number, 1 to {most}")
    return count


def _many(given: Any, times: int) -> list[Any]:
    """The entries of a sequence, or something else `times` times."""
    many = isinstance(given, Sequence) or (isinstance(given, np.ndarray) and given.ndim > 0)
    return list(given) if many else [given] * times
