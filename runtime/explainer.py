"""The Explainer: a bundle in, maps out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.manifest import bundle_flags, read_bundle
from fusioncam.runtime.arguments import (
    Bundles,
    Choice,
    Classes,
    checked_choice,
    checked_class,
    checked_count,
    listed_bundles,
    many,
    of_one_model,
)
from fusioncam.runtime.budget import Budget, checked_budget
from fusioncam.runtime.engine.host.scorer import probabilities
from fusioncam.runtime.engine.opening import Engine, open_engine
from fusioncam.runtime.engine.recipe import ClassMaps, Look, make_maps, mean, take_steps
from fusioncam.runtime.engine.scheduler import Clock, Found, Progress, Work
from fusioncam.runtime.engine.views import View, checked_smoothing, part_of, view_count, views
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.methods import METHODS, checked_for, checked_methods
from fusioncam.runtime.photos.model_input import ImageLike, as_input, is_dark, unpreprocess
from fusioncam.runtime.picture import DEFAULT_COLORMAP, checked_opacity, color_table
from fusioncam.runtime.sessions.providers import Provider, warn_of_clash

MOST_CHUNK = 1 << 20
THREADS_PER_CORE = 4  # at most: thousands of threads end in a standstill


class Explainer:
    """Explains what a classifier sees, with Fusion-CAM (arXiv 2603.05386) and its family.

    One Explainer may be called from several threads.

    Args:
        bundle: Folder made by `fusioncam export`; or several, of one model by different layers: their maps are
            averaged, each in [0, 1], and brought to [0, 1] again.
        providers: onnxruntime execution providers in order of preference, in full or as `cpu`, `cuda`, `tensorrt`.
        methods: Which maps to make, see `fusioncam.runtime.methods.EVERY` and `fusion_cam`. Those of GRADIENT there,
            and recipro_cam, need no masked passes.
        budget: Masked passes to spend. `exact` runs every pass that can matter; `auto` stops by itself, once the map is
            expected not to change any more; a whole number is how many passes at most, of all kinds, for each look at
            the picture; a fraction is the share of the channels that can matter. What is not measured is guessed from
            what is.
        chunk: Masked pictures per run of the session; by default 64 on a GPU, and on the CPU what a measurement of
            about a second finds best the first time a bundle is opened, which is remembered. Always 1 where the model
            decides something once for a whole batch.
        threads: CPU threads within one operator; by default one per physical core.
        smooth: Further looks at every picture, whose maps are averaged: `flip`, mirrored; `noise`, with noise, 4 times.
        kernels: Whether kernels may make the maps on a GPU. Without, `explaining` asks for passes wherever the model
            runs.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        ProviderError: A provider cannot run on this machine.
        UsageError: A provider, method, budget, chunk, smoothing or number of threads makes no sense, the bundles are
            not of one model, or they have no gradient and a method needs one.
    """

    def __init__(
        self,
        bundle: Bundles,
        providers: Sequence[Provider] | None = None,
        methods: Sequence[str] = METHODS,
        budget: Budget = "exact",
        *,
        chunk: int | None = None,
        threads: int | None = None,
        smooth: Sequence[str] = (),
        kernels: bool = True,
    ) -> None:
        checked_methods(methods)
        self._budget, self._smooth = checked_budget(budget), checked_smoothing(smooth)
        chunk = checked_count("chunk", chunk, MOST_CHUNK)
        threads = checked_count("threads", threads, THREADS_PER_CORE * (os.cpu_count() or 1))
        warn_of_clash()
        folders = [Path(b) for b in listed_bundles(bundle)]
        manifests = [read_bundle(folder) for folder in folders]
        self.manifest = of_one_model(manifests)
        self._manifests = manifests
        self.methods = checked_for(methods, manifests, self._budget)
        each = zip(folders, manifests, strict=True)
        self._engine, *self._others = (open_engine(f, m, providers, chunk, threads, kernels) for f, m in each)

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
        ((found,),) = self.finish([self.explaining(image, [self.checked_class(class_index)], progress)])
        return found

    def explain_batch(
        self,
        images: Iterable[ImageLike],
        class_index: int | Sequence[Classes] | None = None,
        *,
        top: int | None = None,
        above: float | None = None,
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """Explain many pictures.

        Args:
            images: Pictures as for `explain`; the classes are looked at before the first is explained.
            class_index: One class for all pictures, or the top one of each (None), or for every picture its own: a
                class, None, or several classes, which then share the masked passes of the picture.
            top: In place of class_index: the so many most probable classes of each picture, the first one first.
            above: In place of class_index: the classes of at least this probability, most probable first; a picture may
                have none.
            progress: Called with (done, all) masked passes of each picture, after every chunk.

        Returns:
            One explanation per picture and class, in order.

        Raises:
            ImageError, UsageError: As for `explain`; the number of entries in `class_index` is not that of pictures;
                more than one of class_index, top and above is given.
        """
        if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
            raise UsageError("explain_batch takes a list of pictures; use explain for a single one")
        images = list(images)
        chosen = checked_choice(class_index, top, above, self.manifest)
        each = [chosen] * len(images) if chosen else many(class_index, len(images))
        if len(each) != len(images):
            raise UsageError(f"{len(each)} entries in class_index for {len(images)} pictures; give one for each")
        wanted = [c if callable(c) else [self.checked_class(some) for some in many(c, 1)] for c in each]
        works = (self.explaining(image, some, progress) for image, some in zip(images, wanted, strict=True) if some)
        return [found for of_image in self.finish(works) for found in of_image]

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
        (method,) = checked_for([method], self._manifests, self._budget)
        opacity = checked_opacity(opacity)
        colors, classes = color_table(colormap), [self.checked_class(class_index)]
        _, x = as_input(image, self.manifest.preprocessing)
        seen = unpreprocess(x, self.manifest.preprocessing)

        def work() -> Work[UInt8Array]:
            if self._others or self._smooth:
                (found,) = yield from self.explaining(x, classes, methods=[method])
                return reference.overlay(seen, found.maps[method], colors, opacity)
            with self._serving([method])[0].look(x, classes, Clock(), budget=self._budget) as steps:
                made = (yield from take_steps(steps, (method,)))[method]
                return steps.overlay(made, seen, colors, opacity)[0]

        (found,) = self.finish([work()], [method])
        return found

    def finish(self, works: Iterable[Work[Found]], methods: Sequence[str] | None = None) -> Iterator[Found]:
        """Do work made of `explaining` for many pictures, which share the runs of the session; in their order."""
        return self.engine(methods).finish(works)

    def engine(self, methods: Sequence[str] | None = None) -> Engine:
        """What `finish` runs work on that makes these methods, by default the Explainer's own."""
        return self._serving(methods)[0]

    def checked(self, methods: Sequence[str], budget: Budget) -> tuple[tuple[str, ...], Budget]:
        """Methods, if any, and a budget as `explaining` takes them; raises UsageError where they cannot be had."""
        budget = checked_budget(budget)
        return checked_for(methods, self._manifests, budget) if methods else (), budget

    def _serving(self, methods: Sequence[str] | None) -> list[Engine]:
        """The engines that make the methods, one per bundle."""
        wanted = self.methods if methods is None else methods
        return [engine.serving(wanted) for engine in (self._engine, *self._others)]

    def checked_class(self, asked: Any) -> int:
        """The class asked for as an index, -1 for the top one; raises UsageError where there is none."""
        return checked_class(asked, self.manifest.classes)

    def explaining(
        self,
        image: ImageLike,
        classes: Sequence[int] | Choice,
        progress: Progress | None = None,
        methods: Sequence[str] | None = None,
        budget: Budget | None = None,
    ) -> Work[list[Explanation]]:
        """The explanation of some classes of a picture, as work for `finish`, alone or as part of other work.

        A map is the mean over all looks: views of the picture times bundles.

        Args:
            image: As for `explain`.
            classes: As `checked_class` gives them, one or more; or how to choose them by the probabilities of all.
            progress: As for `explain`.
            methods: Other ones than the Explainer's; to be told to `finish`, too.
            budget: Another one than the Explainer's.

        Returns:
            One explanation per class.
        """
        methods = self.methods if methods is None else methods
        budget = self._budget if budget is None else budget
        clock = Clock()
        photo, x = as_input(image, self.manifest.preprocessing)
        clock.lap("preprocess")
        if callable(classes):
            with self._engine.look(x, [-1], clock) as steps:
                classes = classes(probabilities(steps.logits, self.manifest.ending))
        if not classes:
            return []
        first, *others = self._serving(methods)
        looks: list[Look] = []
        count = (1 + len(others)) * view_count(self._smooth)
        for view in views(x, self._smooth):
            own = part_of(progress, len(looks), count)
            looks.append((yield from self._look(first, view, methods, classes, clock, own, budget)))
            classes = looks[0].classes  # the top class of the picture itself goes for all views
            for engine in others:  # which have sessions of their own
                own = part_of(progress, len(looks), count)
                looks += engine.finish([self._look(engine, view, methods, classes, clock, own, budget)])
        passes = Passes.of_all([look.passes for look in looks])
        of_classes = zip(classes, *(look.made for look in looks), strict=True)
        clock.lap("fusion")
        size = None if photo is None else (photo.shape[0], photo.shape[1])
        dark, logits = is_dark(x, self.manifest.preprocessing), looks[0].logits
        return [self._result(c, mean(made), methods, logits, passes, clock, size, dark) for c, *made in of_classes]

    def _look(
        self,
        engine: Engine,
        view: View,
        methods: Sequence[str],
        classes: Sequence[int],
        clock: Clock,
        progress: Progress | None,
        budget: Budget,
    ) -> Work[Look]:
        with engine.look(view.x, classes, clock, progress, budget) as steps:
            made = yield from make_maps(steps, methods)
            for each in made:
                each.maps = {method: view.back(m) for method, m in each.maps.items()}
            clock.lap("fusion")
            return Look(list(steps.classes), made, steps.logits, steps.passes)

    def _result(
        self,
        c: int,
        made: ClassMaps,
        methods: Sequence[str],
        logits: Float32Array,
        passes: Passes,
        clock: Clock,
        size: tuple[int, int] | None,
        dark: bool,
    ) -> Explanation:
        m = self.manifest
        return Explanation(
            maps={method: made.maps[method].astype(np.float32) for method in methods},
            class_index=c,
            label=m.labels[c] if m.labels else None,
            probability=float(probabilities(logits, m.ending)[c]),
            flags=(*made.flags, *(["dark_picture"] if dark else []), *bundle_flags(self._manifests)),
            passes=passes,
            timing=clock.laps,
            photo_size=size,
            preprocessing=m.preprocessing,
            logits=logits.copy(),
        )
