"""The Explainer: a bundle in, maps out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Self

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.arguments import Bundles, Classes, ClassName, SizeLike, checked_choice, one_of
from fusioncam.runtime.batch_arguments import paired
from fusioncam.runtime.budget import Budget, Deadline, checked_budget
from fusioncam.runtime.engine import (
    IN_FLIGHT,
    MAX_SIZES,
    Asked,
    ExplainRequest,
    Levels,
    Progress,
    TargetChoice,
    TargetScore,
    checked_levels,
)
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.opening import Opened, checked_opening
from fusioncam.runtime.photos.given import is_single
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.picture import DEFAULT_COLORMAP, checked_opacity, color_table
from fusioncam.runtime.prepared import input_at
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.targets.detections import Detection


class Explainer(Opened):
    """Explains what a model sees, with Fusion-CAM (arXiv 2603.05386) and its family.

    One Explainer may be called from several threads. It can be pickled, for pools of processes: each process opens the
    bundle anew, once, when it first explains. `close`, or the end of a `with` block, frees its sessions, their threads
    and their memory.

    Args:
        bundle: Folder made by `fusioncam export`; or several, of one model by different layers: their maps are
            averaged, each in [0, 1], and brought to [0, 1] again.
        providers: onnxruntime execution providers in order of preference, in full or by short name: `cpu`, `cuda`,
            `tensorrt`, `tensorrt-rtx`, `qnn`, `openvino`, `webgpu`, `coreml`, `directml`; `NAME:LIBRARY` is a plugin of
            your own. A pair (name, options) sets options of the provider.
        methods: Which maps to make, see `fusioncam.runtime.methods.EVERY` and `fusion_cam`. Those of GRADIENT there,
            and recipro_cam, need no masked passes. By default fusion_cam, grad_cam and score_cam; of a bundle without a
            gradient, score_cam alone.
        budget: Masked passes to spend. `exact` runs every pass that can matter; `auto` stops by itself, once the map is
            expected not to change any more; a whole number is how many passes at most, of all kinds, for each look at
            the picture; a fraction is the share of the channels that can matter; `80ms`, or what `deadline` returns, is
            the time for the best map that it allows, from the call on. What is not measured is guessed from what is.
        chunk: Masked pictures per run of the session; by default 64 on a GPU, and on the CPU what a measurement of
            about a second finds best the first time a bundle is opened, which is remembered. Always 1 where the model
            decides something once for a whole batch.
        threads: CPU threads within one operator; by default one per physical core.
        smooth: Further looks at every picture, whose maps are averaged: `flip`, mirrored; `noise`, with noise, 4 times.
        kernels: Whether kernels may make the maps on a GPU. Without, masks and maps are made on the host.
        allow_cpu: Whether the CPU may run nodes that no provider takes, with a warning, as when `providers` name it.
        max_sizes: Sizes of the input, beside the bundle's own, whose sessions are kept open: those that were used last.
            Sessions of a size take about the memory of another Explainer.
        bands: For a model of bands: the bands of an array, counted from 1, that pictures show: three as red, green and
            blue, or one as grey. By default those of the bundle (`fusioncam export --bands`), else the mean of all.
        inputs: Further inputs of all pictures for which `explain` gets none, as there.
        seed: Of the random masks of `rise`, 0 to 2^64 - 1: the same seed gives the same masks, in chunks of any size.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        ProviderError: A provider cannot run on this machine, or leaves nodes to the CPU.
        UsageError: A provider, method, budget, chunk, smoothing or number of threads makes no sense, the bundles are
            not of one model, or they have no gradient and a method needs one; or there are no such bands or inputs.
    """

    def __init__(
        self,
        bundle: Bundles,
        providers: Sequence[Provider] | None = None,
        methods: Sequence[str] | None = None,
        budget: Budget = "exact",
        *,
        chunk: int | None = None,
        threads: int | None = None,
        smooth: Sequence[str] = (),
        kernels: bool = True,
        allow_cpu: bool = False,
        max_sizes: int = MAX_SIZES,
        bands: Sequence[int] | None = None,
        inputs: InputValues | None = None,
        seed: int = 0,
    ) -> None:
        opening = checked_opening(
            bundle, providers, methods, budget, chunk, threads, smooth, kernels, allow_cpu, max_sizes, bands, inputs,
            seed,
        )  # fmt: skip
        self.methods, self._budget, self.manifest, self._holder = opening
        self._holder.hold()

    def __repr__(self) -> str:
        layer, methods = self.manifest.layer.name, ", ".join(self.methods)
        return f"<Explainer by layer {layer}: {methods}; budget {checked_budget(self._budget)}>"

    @property
    def chunk(self) -> int:
        """Return the number of masked pictures per run, as given or chosen."""
        return self.pipeline.chunk

    def close(self) -> None:
        """Free the sessions, their threads and their memory; what still runs in another thread ends first."""
        self._holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def explain(
        self,
        image: ImageLike,
        class_index: ClassName = None,
        *,
        target: Asked = None,
        size: SizeLike = None,
        inputs: InputValues | None = None,
        levels: Levels = "own",
        verify: bool = False,
        progress: Progress | None = None,
        progress_maps: Callable[[Explanation], None] | None = None,
        keep_photo: bool = True,
    ) -> Explanation:
        """Explain one target of one picture: a class, or another scalar of the model's outputs.

        Args:
            image: A path; the bytes of a file, or a file object that is open for reading bytes; a PIL image; pixels
                (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) in an array of any library, uint8, uint16 or float in 0..1;
                for a model of bands an array (H, W, C) or (C, H, W) of any numbers, which are taken as they are;
                or a preprocessed float32 (C, H, W) or (1, C, H, W) array of the size of the model's input.
            class_index: The class, by its number or its name; by default, and for -1, the top one. A segmenter explains
                it where it wins, by default the class that covers most; a detector its best detection of the class.
            target: In place of class_index: a `Class`, `Value`, `Region`, `Like`, `Box` or `Detections`, or a class by
                number or name.
            size: (H, W) of the model's input, for a bundle of any size (`fusioncam export --size any`); or `photo`, the
                largest that the model takes within the photo's own, of at most a megapixel. By default the bundle's own
                size. The first explanation at a size derives its graphs, which takes as long as an export; they are
                kept in the user's cache folder.
            inputs: Further inputs of the model, by the names that they have in the source, for all passes of the
                picture: numbers, lists, arrays or `.npy` files. A second picture may have any form of a picture, and is
                prepared as the explained one is, unless it is an array of the input's own type and shape.
            levels: Of a detector whose neck has several levels: by default the level of the detection's `own` anchor
                explains it; `mean` averages the maps of all levels on which it depends, at the cost of their passes.
            verify: Whether the model is asked if the map is evidence: 23 passes more, see `Explanation.verdict`. They
                count against a budget that is a number.
            progress: Called with (done, all) masked passes after every chunk.
            progress_maps: Called with a preliminary explanation once the gradient's map is there, and whenever
                Score-CAM's is better; it raises the flag `preliminary`. Its maps are those that can be made by then, of
                the methods and their parts: never Fusion-CAM, whose confidences come last.
            keep_photo: Whether the explanation keeps a photo that is not on disk, for `Explanation.overlay`: the array
                itself, or the bytes of the file. A photo on disk is read again. A small picture for
                `Explanation.panel` is kept in any case.

        Raises:
            ImageError: The picture cannot be read or is of another shape, type or content.
            UsageError: There is no such class, the target does not fit the model or the picture, the bundle or its
                model does not take this size, or a further input is missing or does not fit.
            LibraryError: The size is new, and a library of the export is missing.
            FusionCamError: The model cannot be run, or gives NaN or infinity.
        """
        asked = self.pipeline.check_target(one_of(class_index=class_index, target=target))
        request = self._request(image, [asked], inputs, levels, progress, verify, keep_photo)
        if progress_maps is not None:
            watch = progress_maps
            request = replace(request, progress_maps=lambda explanations: watch(explanations[0]))
        checked = self._holder.checked_size(size)
        ((explanation,),) = self._holder.pipelines().run([request], checked, self.methods, verify)
        return explanation

    def explain_batch(
        self,
        images: Iterable[ImageLike],
        class_index: ClassName | Sequence[Classes] = None,
        *,
        target: Asked | Sequence[Asked | Sequence[Asked]] = None,
        top: int | None = None,
        above: float | None = None,
        size: SizeLike = None,
        inputs: InputValues | Sequence[InputValues | None] | None = None,
        levels: Levels = "own",
        verify: bool = False,
        progress: Progress | None = None,
        keep_photos: bool = False,
    ) -> list[Explanation]:
        """Explain one target, or several, of many pictures.

        Args:
            images: Pictures as for `explain`, or an array of them; the targets are looked at before the first is
                explained. A generator is asked for the next picture when its turn comes.
            class_index: One class for all pictures, or the top one of each (None), or a list with an entry for every
                picture: a class, None, or several classes, which then share the masked passes of the picture.
            target: In place of class_index: the same with targets, see `explain`.
            top: In place of class_index: the so many most probable classes of each picture, the first one first. Of a
                model that does not classify, the targets of highest confidence of `targets`, if there are any.
            above: In place of class_index: the classes, or targets, of at least this probability, most probable first;
                a picture may have none.
            size: As for `explain`, of all pictures; with `photo`, neighbours of one size share runs of the model.
            inputs: As for `explain`, of all pictures; or a list with an entry for each.
            levels: As for `explain`.
            verify: As for `explain`; 20 passes for each target of a picture, and 3 that they share.
            progress: Called with (done, all) masked passes of each picture, after every chunk.
            keep_photos: As `keep_photo` of `explain`; by default not, as many photos fill the memory.

        Returns:
            One explanation per picture and target, in order.

        Raises:
            ImageError, UsageError: As for `explain`; the number of entries in `class_index`, `target` or `inputs` is
                not that of pictures; more than one of class_index, target, top and above is given.
        """
        if is_single(images, len(self.manifest.preprocessing.size)) or not isinstance(images, Iterable):
            raise UsageError("explain_batch takes a list of pictures; use explain for a single one")
        choice = checked_choice(class_index, target, top, above, self.manifest)
        asked = choice or one_of(class_index=class_index, target=target)
        name = "class_index" if target is None else "target"
        pipelines, checked = self._holder.pipelines(), self._holder.checked_size(size)
        asked_of_each = paired(images, asked, inputs, name, self.pipeline.check_target)
        requests = (
            self._request(image, targets, given, levels, progress, verify, keep_photos)
            for image, targets, given in asked_of_each
            if targets
        )
        # Within a deadline, a picture gets the machine for itself.
        together = 1 if isinstance(self._budget, Deadline) else IN_FLIGHT
        return [e for made in pipelines.run(requests, checked, self.methods, verify, together) for e in made]

    def targets(self, image: ImageLike, *, inputs: InputValues | None = None) -> list[TargetScore]:
        """Return the targets of a picture that are worth a look, each with its score and confidence.

        The top class of a classifier, all values of a regression or heat maps; of a segmenter every class that covers
        2 % of the picture, the largest first; of a detector at most 10 detections, that of the highest score first. An
        embedding has none: name a reference, `Like`.

        Args:
            image: As for `explain`.
            inputs: As for `explain`.

        Raises:
            ImageError, UsageError, FusionCamError: As for `explain`; the model has no targets of its own.
        """
        return self.pipeline.targets(image, inputs)

    def detections(
        self, image: ImageLike, conf: float | None = None, iou: float | None = None, most: int | None = None, *,
        inputs: InputValues | None = None,
    ) -> list[Detection]:  # fmt: skip
        """Return what a detector finds in a picture, that of the highest score first.

        Args:
            image: As for `explain`.
            conf: The least score, in [0, 1]; by default that of the bundle, as for `iou` and `most`.
            iou: The overlap, in [0, 1], by which the lower of two detections is a duplicate.
            most: The number of detections, at most.
            inputs: As for `explain`.

        Raises:
            ImageError, UsageError, FusionCamError: As for `explain`; the model is no detector, or a threshold makes no
                sense.
        """
        return self.pipeline.anchors(image, inputs).found(conf, iou, most)

    def overlay(
        self,
        image: ImageLike,
        class_index: ClassName = None,
        *,
        target: Asked = None,
        size: SizeLike = None,
        inputs: InputValues | None = None,
        levels: Levels = "own",
        method: str = "fusion_cam",
        colormap: str = DEFAULT_COLORMAP,
        opacity: float = 0.7,
    ) -> UInt8Array:
        """Return one map laid over what the model sees of a picture, ready to encode; on a GPU nothing else leaves it.

        Args:
            image: As for `explain`.
            class_index: As for `explain`.
            target: As for `explain`.
            size: As for `explain`.
            inputs: As for `explain`.
            levels: As for `explain`.
            method: The method of the map.
            colormap: A name in `fusioncam.runtime.picture.COLORMAPS`.
            opacity: Of the colours where the map is 0.4 or more, in [0, 1].

        Returns:
            (H, W, 3) uint8 RGB, at the size of the model's input.

        Raises:
            ImageError, UsageError, FusionCamError: As for `explain`; there is no such method, colour map or opacity.
        """
        methods, budget = self.pipeline.check([method], self._budget)
        opacity, colors = checked_opacity(opacity), color_table(colormap)
        targets = [self.pipeline.check_target(one_of(class_index=class_index, target=target))]
        x, photo = input_at(image, self.manifest, self._holder.checked_size(size))
        asked = checked_levels(levels)
        request = ExplainRequest(x, targets, methods, budget, photo=photo, inputs=inputs, levels=asked)
        return self.pipelines.at(x.shape[1:]).overlay(request, colors, opacity)

    def _request(
        self, image: ImageLike, targets: Sequence[Asked] | TargetChoice, inputs: InputValues | None, levels: Levels,
        progress: Progress | None, verify: bool, keep: bool,
    ) -> ExplainRequest:  # fmt: skip
        return ExplainRequest(
            image, targets, self.methods, self._budget, progress=progress, verify=verify, keep_photo=keep,
            inputs=inputs, levels=checked_levels(levels),
        )  # fmt: skip
