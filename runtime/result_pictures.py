"""A result that draws and saves itself: what an explanation and a difference have in common."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, Size, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.output import Content, encode_png, encode_webp, json_bytes, prepare_folder, write_npz, write_together
from fusioncam.runtime.detection_pictures import panel_on_shown
from fusioncam.runtime.photos.folder import stem_of_file
from fusioncam.runtime.photos.formats.nifti import nifti_bytes
from fusioncam.runtime.photos.geometry import on_photo, on_shown, shown_part, visible_slices
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.picture import Badge, DrawOptions, difference_scale, lay, outlined, panel, project
from fusioncam.runtime.picture.marks import Mark, draw_marks
from fusioncam.runtime.prepared import ResultPhoto

UNNAMED = "picture"  # the stem of the files of a picture without a name
ENCODERS: dict[str, Callable[[UInt8Array], bytes]] = {".png": encode_png, ".webp": encode_webp}


class Drawing(TypedDict, total=False):
    """The way maps are drawn, see `overlay`: `colormap`, `opacity`, `style` and `top`."""

    colormap: str
    opacity: float
    style: str
    top: float


class DrawnResult(ABC):
    """A result with maps and a photo."""

    maps: dict[str, Float32Array]

    @property
    @abstractmethod
    def title(self) -> str:
        """Return the name of the class, or the question of a difference."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """Return the class or both classes with their probability, in a line."""

    @property
    @abstractmethod
    def between(self) -> tuple[str, str] | None:
        """Return the names of both classes where the maps are their difference."""

    @property
    @abstractmethod
    def shown_probability(self) -> float | None:
        """Return the probability, which a panel shows behind the title."""

    @property
    @abstractmethod
    def badge(self) -> Badge | None:
        """Return the verdict as a panel shows it."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Return the origin of the maps as a panel shows it: a line each, by its label."""

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Return the flags, each as a sentence."""

    @property
    @abstractmethod
    def origin(self) -> tuple[ResultPhoto | None, Preprocessing | None]:
        """Return the photo, and its way to the model's input."""

    @property
    def region_share(self) -> Float32Array | None:
        """Return how much of each pixel (H, W) of the model's input lies in the explained region; None without one."""
        return None

    def masks(self, at_photo: bool = False) -> dict[str, BoolArray]:
        """Return the instance mask of what is explained, by the name `mask`; nothing where there is none.

        Args:
            at_photo: Whether it has the photo's size (H0, W0), in place of the input's (H, W).
        """
        return {}

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Return the detections that are explained, in pixels of the photo; none of other results."""
        return ()

    @property
    def heading(self) -> tuple[str, str]:
        """Return the title in two parts: the name of the class, and what tells it from others of the class."""
        return self.title, ""

    @property
    def subject(self) -> str:
        """Return what the maps are evidence for in a detection; nothing for other results."""
        return ""

    @property
    @abstractmethod
    def stem(self) -> str:
        """Return the name of the result's files, without an ending: of the picture and of the class."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return all but the maps and logits, ready for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return `summary` with the maps as arrays: one (H, W) float32 array per method, under `maps`."""
        return {**self.summary(), "maps": dict(self.maps)}

    def panel(self, **drawing: Unpack[Drawing]) -> UInt8Array:
        """Draw the panel: the photo, each map over it, the class, and where the maps come from.

        Args:
            drawing: `colormap`, `opacity`, `style` and `top`, see `fusioncam.overlay`.

        Returns:
            (height, width, 3) uint8 RGB, the picture that `fusioncam explain` writes.

        Raises:
            UsageError: There is no such colour map, opacity, style or share; no Explainer made the result.
        """
        own, preprocessing = self._origin()
        # Details of detections are enlarged, so a small picture of the photo is too coarse for them.
        shown = own.sharpest(preprocessing) if self.marks else own.shown
        return panel_on(self, shown, DrawOptions(**drawing), own.size, preprocessing)

    def overlay(
        self, method: str | None = None, photo: ImageLike | None = None, **drawing: Unpack[Drawing]
    ) -> UInt8Array:
        """Draw one map on the whole photo, at the photo's own resolution; parts that the model did not see are pale.

        Args:
            method: The method of the map; by default the first one.
            photo: The photo, where the result does not keep it. A photo on disk is read again, and others are kept by
                `keep_photo` of `Explainer.explain`.
            drawing: `colormap`, `opacity`, `style` and `top`, see `fusioncam.overlay`.

        Returns:
            (H0, W0, 3) uint8 RGB; (H, W, 3) for a preprocessed picture, which has no photo.

        Raises:
            UsageError: There is no such map, colour map, opacity, style or share; the photo is not kept, or was
                changed since.
            ImageError: The photo cannot be read.
        """
        options, (own, preprocessing) = DrawOptions(**drawing), self._origin()
        method = self.checked_method(method)
        if own.size is None:
            drawn, share = map_on(self, method, own.shown, self.maps[method], options), self.region_share
            return draw_marks(drawn if share is None else outlined(drawn, share), self.marks)
        return map_on_photo(self, method, own.pixels(preprocessing, photo), preprocessing, options)

    def save(self, path: str | os.PathLike[str], **drawing: Unpack[Drawing]) -> list[Path]:
        """Save the result: whole, or not at all.

        Args:
            path: A file that ends in `.png` or `.webp` (the panel), `.npz` (the maps) or `.json` (the summary); of a
                volume also `.nii.gz`, the first map at the size and in the space of the volume. Or a
                folder, which is made where it is missing: it gets NAME.npz, NAME.json and NAME.png, with NAME of the
                picture and the class, such as `photo-281`. What bears the name is replaced: pictures of one name, or
                without one, need a folder or a file each.
            drawing: As for `panel`.

        Returns:
            The files.

        Raises:
            OutputError: A file cannot be written.
            UsageError: The file has another ending; or as of `panel`.
        """
        target = Path(path)
        ending = target.suffix.lower()
        draw = partial(self.panel, **drawing)
        if ending and not os.path.isdir(target):  # noqa: PTH112  (of a name that is too long, too)
            write_together([(target, self._content(ending, draw))])
            return [target]
        drawn = self._content(".png", draw)  # before the folder is made: it may fail
        maps, record, picture = files = [target / f"{self.stem}{kind}" for kind in (".npz", ".json", ".png")]
        places = {"maps": str(maps), "picture": str(picture), "resolution": "model"}
        prepare_folder(target)
        write_together([
            (maps, self._content(".npz", draw)),
            (record, json_bytes({"image": None, **places, **self.summary()})),
            (picture, drawn),
        ])  # fmt: skip
        return files

    def nifti(self, method: str | None = None) -> bytes:
        """Return a map of a volume as a file .nii.gz, at the size of the volume and in its space; see `affine`.

        Args:
            method: The method of the map; by default the first one.

        Raises:
            UsageError: There is no such map, or the model takes no volumes.
            ImageError: nibabel is missing.
        """
        method, (photo, preprocessing) = self.checked_method(method), self._origin()
        if preprocessing.kind != "volumes":
            raise UsageError(f"a NIfTI holds a volume, and the model takes {preprocessing.kind}: save the maps as .npz")
        saliency = on_photo(self.maps[method], photo.size or preprocessing.size, preprocessing)
        return nifti_bytes(saliency, np.eye(4) if photo.affine is None else photo.affine)

    def checked_method(self, method: str | None) -> str:
        """Return the name of a map, by default of the first one; raise UsageError where there is no such map."""
        if not self.maps:
            raise UsageError("no map was made: the condition for an explanation does not hold")
        if method is None:
            return next(iter(self.maps))
        if method not in self.maps:
            raise UsageError(f"no map of {method!r} was made; there are {', '.join(self.maps)}")
        return method

    def _origin(self) -> tuple[ResultPhoto, Preprocessing]:
        photo, preprocessing = self.origin
        if photo is None or preprocessing is None:
            raise UsageError("no Explainer made this result, so there is no photo to draw on")
        return photo, preprocessing

    def _content(self, ending: str, draw: Callable[[], UInt8Array]) -> Content:
        """Return the content of a file with this ending."""
        if ending in ENCODERS:
            return ENCODERS[ending](draw())
        if ending == ".npz":
            return partial(write_npz, arrays={**self.maps, **self.masks()})
        if ending == ".json":
            return json_bytes(self.summary())
        if ending in (".gz", ".nii"):
            return self.nifti()
        known = ", ".join((*ENCODERS, ".npz"))
        raise UsageError(f"cannot save a result as {ending!r}: end the name in {known} or .json, or name a folder")

    def _repr_png_(self) -> bytes | None:
        """Return the panel for notebooks; None where it cannot be drawn."""
        try:
            return encode_png(self.panel())
        except FusionCamError:
            return None


def panel_of(e: DrawnResult, photo: Array, preprocessing: Preprocessing, options: DrawOptions) -> UInt8Array:
    """Draw all maps of a result on what a panel shows of the photo."""
    return panel_on(e, shown_part(photo, preprocessing), options, photo.shape[:-1], preprocessing)


def panel_on(
    e: DrawnResult, shown: Array, options: DrawOptions, photo_size: Size | None, preprocessing: Preprocessing
) -> UInt8Array:
    """Draw all maps of a result on what `shown_part` returned of the photo, or the `tile_of` that."""
    if e.marks:
        return panel_on_shown([e], shown, options, photo_size, preprocessing)
    place = partial(on_shown, photo_size=photo_size, preprocessing=preprocessing)
    maps = {method: place(saliency) for method, saliency in e.maps.items()}
    region = None if e.region_share is None else place(e.region_share)
    return panel(
        shown, maps, e.title, e.shown_probability, e.notes, **asdict(options),
        between=e.between, facts=e.facts, verdict=e.badge, region=region,
    )  # fmt: skip


def map_on_photo(
    e: DrawnResult, method: str, photo: Array, preprocessing: Preprocessing, options: DrawOptions
) -> UInt8Array:
    """Draw one map on the photo at the photo's own resolution; parts that the model did not see are pale."""
    size = photo.shape[:-1]
    saliency = on_photo(e.maps[method], size, preprocessing)
    if len(size) != 2:
        return map_on(e, method, photo, saliency, options)
    seen = visible_slices(size, preprocessing)
    picture = photo // 3 + 170
    drawn = map_on(e, method, photo[seen], saliency[seen], options)
    share = e.region_share
    picture[seen] = drawn if share is None else outlined(drawn, on_photo(share, size, preprocessing)[seen])
    return draw_marks(picture, e.marks)


def map_on(e: DrawnResult, method: str, photo: Array, saliency: Float32Array, options: DrawOptions) -> UInt8Array:
    """Draw a map of a result, enlarged or not, on a photo of the same size."""
    scale = None if e.between is None else difference_scale(e.maps[method])  # as on the panel
    flat = project(photo, {method: saliency})
    return flat.parted(lay(flat.picture, flat.maps[method], options, scale, behind=flat.is_chart))


def stem_of(image: str | None, target: int | str) -> str:
    """Return the name of a result's files: the stem of the picture's file, and the class or the slug of a target."""
    stem = "" if image is None else stem_of_file(image)
    return f"{stem or UNNAMED}-{target}"


def shapes(maps: dict[str, Float32Array]) -> str:
    """Return the methods of maps and their size, in words."""
    sizes = {" x ".join(map(str, m.shape)) for m in maps.values()}
    return f"{', '.join(maps)} ({' and '.join(sizes)})" if maps else "no maps"
