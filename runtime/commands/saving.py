"""Explaining files into a folder: per picture the maps, a panel to look at, and the figures."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fusioncam.errors import FusionCamError, UsageError, out_of_memory
from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.manifest import MANIFEST, Preprocessing
from fusioncam.output import (
    Content,
    encode_png,
    json_bytes,
    prepare_folder,
    write_atomically,
    write_npz,
    write_together,
)
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.class_selection import Wanted
from fusioncam.runtime.difference import Difference
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation, flag_text
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import display_image, on_photo, visible_part, visible_slices
from fusioncam.runtime.picture import Look, overlay, overlay_difference, panel
from fusioncam.runtime.sessions.native_stderr import native_stderr

Found = Explanation | Difference

SLIVER = 4  # sides of a photo, longer over shorter, from which on the panel shows what the model saw instead
RESOLUTIONS = ("model", "photo")


@dataclass(frozen=True)
class Results:
    """What to write of each explanation, and how it looks.

    Attributes:
        look: How maps are drawn.
        resolution: Size of the arrays: that of the `model`'s input, or that of the `photo`.
        separate: One more picture per method: the map on the photo, at the photo's own resolution.

    Raises:
        UsageError: There is no such resolution or look.
    """

    look: Look = field(default_factory=Look)
    resolution: str = "model"
    separate: bool = False

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise UsageError(f"no resolution {self.resolution!r}: choose one of {', '.join(RESOLUTIONS)}")
        self.look.check()

    def endings(self, methods: Sequence[str]) -> dict[str, str]:
        """How the names of the files end, by what is in them."""
        alone = {m: f".{safe_name(m)}.png" for m in methods} if self.separate else {}
        return {"npz": ".npz", "json": ".json", "png": ".png", **alone}


def explain_files(
    explainer: Explainer,
    images: Sequence[Path],
    folder: Path,
    wanted: Wanted,
    results: Results,
    *,
    quiet: bool,
    show: bool,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Explain every picture; one that cannot be read is reported, and the others go on.

    Args:
        explainer: Makes the maps.
        images: The pictures.
        folder: Where STEM.npz, STEM.png and STEM.json go.
        wanted: The classes to explain.
        results: What to write, and how it looks.
        quiet: No progress bar, no notes.
        show: Print one line per explanation.

    Returns:
        What was done, as in STEM.json, and which pictures failed and why.

    Raises:
        OutputError: The folder cannot be written.
        UsageError: A result would overwrite one of the pictures, or the model has not so many classes.
    """
    wanted.check(explainer.manifest)
    endings = results.endings(explainer.methods)
    stems = _stems(images, endings)
    _refuse_overwriting(stems, endings, wanted.several, folder)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with _folder(folder):
        for image in images:
            try:
                photo, found = _explain(explainer, image, wanted, quiet)
            except (FusionCamError, MemoryError) as error:
                said = str(out_of_memory(error) or error)
                console.complain(said)
                failed.append({"image": str(image), "error": said})
                continue
            for e in found:
                stem = stems[image] + (f"-{e.class_index}" if wanted.several else "")
                files = {kind: folder / f"{stem}{ending}" for kind, ending in endings.items()}
                done.append(_save(e, image, photo, explainer.manifest.preprocessing, files, results))
                if show:
                    console.say(_line(image, e, done[-1]))
    return done, failed


def _explain(explainer: Explainer, image: Path, wanted: Wanted, quiet: bool) -> tuple[UInt8Array, Sequence[Found]]:
    with native_stderr():  # libpng and libjpeg write their complaints there
        photo = read_image(image)
    with console.progress_bar(image.name, quiet) as progress:
        found = wanted.explain(explainer, photo, progress)
    if not found and not quiet:
        console.complain(f"{image.name}: no class has a probability of {wanted.above:g} or more", "note")
    return photo, found


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """The folder for the results, which goes again if it is new and nothing comes into it."""
    made = not folder.exists()
    prepare_folder(folder)
    try:
        yield
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def safe_name(method: str) -> str:
    """A method's name as a part of a file's: without `:` and `+`, which not every file system takes."""
    return re.sub(r"[^A-Za-z0-9_.]", "-", method)


def _stems(images: Sequence[Path], endings: Mapping[str, str]) -> dict[Path, str]:
    """A file stem for each picture; where files would be called alike, stems are numbered: none overwrites another."""
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for image in dict.fromkeys(images):
        stem, n = image.stem, 2
        while taken & {_folded(stem + ending) for ending in endings.values()}:
            stem, n = f"{image.stem}_{n}", n + 1
        taken |= {_folded(stem + ending) for ending in endings.values()}
        stems[image] = stem
    return stems


def _folded(name: str) -> str:
    """A file's name such that two are equal where macOS or Windows takes them for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _refuse_overwriting(stems: Mapping[Path, str], endings: Mapping[str, str], several: bool, folder: Path) -> None:
    """Refuse to write over a picture of the user's, be it one of those to explain or another."""
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder} is a bundle; choose another folder with -o")
    pictures = {image.resolve() for image in stems}
    images = {_folded(stem): image for image, stem in stems.items()}
    for file in folder.iterdir() if folder.is_dir() else ():
        for stem in (file.name.removesuffix(e) for e in endings.values() if file.name.endswith(e)):
            image = images.get(_folded(re.sub(r"-\d+$", "", stem) if several else stem))
            ours = (folder / f"{stem}.json").exists()  # written before the pictures
            if image is not None and (file.resolve() in pictures or (file.suffix == ".png" and not ours)):
                raise UsageError(
                    f"the results of {image} could overwrite a picture in {folder}; choose another folder with -o"
                )


def _save(
    e: Found,
    image: Path,
    photo: UInt8Array,
    preprocessing: Preprocessing,
    files: Mapping[str, Path],
    results: Results,
) -> dict[str, Any]:
    size = (photo.shape[0], photo.shape[1])
    separate = {method: str(file) for method, file in files.items() if method in e.maps}
    record = {
        "image": str(image),
        "maps": str(files["npz"]),
        "picture": str(files["png"]),
        **({"pictures": separate} if separate else {}),
        "resolution": results.resolution,
        **e.summary(),
    }
    at_photo = results.resolution == "photo"
    # One after the other: at the photo's resolution they are large.
    arrays = ((m, on_photo(saliency, size, preprocessing) if at_photo else saliency) for m, saliency in e.maps.items())

    def contents() -> Iterator[tuple[Path, Content]]:
        yield files["npz"], partial(write_npz, arrays=arrays)
        yield files["json"], json_bytes(record)
        yield files["png"], encode_png(_panel(e, photo, preprocessing, results.look))
        for method in separate:
            picture = _alone(photo, e, on_photo(e.maps[method], size, preprocessing), preprocessing, results.look)
            yield files[method], encode_png(picture)

    write_together(contents())
    return record


def _panel(e: Found, photo: UInt8Array, preprocessing: Preprocessing, look: Look) -> UInt8Array:
    """All maps of an explanation, on what the model saw: in the photo's proportions, unless those of a sliver."""
    shown = visible_part(photo, preprocessing)
    if max(shown.shape[:2]) > SLIVER * min(shown.shape[:2]):
        shown = display_image(photo, preprocessing)
    notes = [flag_text(flag) for flag in e.flags]
    if isinstance(e, Difference):
        return panel(shown, e.maps, e.title, None, [_chances(e), *notes], opacity=look.opacity, between=e.names)
    return panel(shown, e.maps, e.title, e.probability, notes, **look._asdict())


def _alone(photo: UInt8Array, e: Found, saliency: Float32Array, preprocessing: Preprocessing, look: Look) -> UInt8Array:
    """One map on the photo at the photo's own resolution; what the model never saw of it fades."""
    seen = visible_slices((photo.shape[0], photo.shape[1]), preprocessing)
    picture = photo // 3 + 170
    if isinstance(e, Difference):
        picture[seen] = overlay_difference(photo[seen], saliency[seen], look.opacity)
    else:
        picture[seen] = overlay(photo[seen], saliency[seen], **look._asdict())
    return picture


def _chances(e: Found) -> str:
    if isinstance(e, Difference):
        pairs = zip(e.names, (e.first.probability, e.second.probability), strict=True)
        return ", ".join(f"{name} {probability:.2f}" for name, probability in pairs)
    return f"{e.title} {e.probability:.2f}"


def _line(image: Path, e: Found, record: dict[str, Any]) -> str:
    seconds = sum(e.timing.values())
    flags = "".join(f"; {flag_text(flag)}" for flag in e.flags if flag != "assumed_preprocessing")
    return (
        f"{image.name}: {_chances(e)}, {e.passes.run} passes for {e.passes.channels} channels, "
        f"{seconds:.1f} s -> {record['picture']}{flags}"
    )


def save_sample(folder: Path) -> Path:
    """Write the demo's picture, scene.png, into a folder."""
    from fusioncam.runtime.demo.scenes import sample_picture

    path = prepare_folder(folder) / "scene.png"
    write_atomically(path, encode_png(sample_picture().image))
    return path
