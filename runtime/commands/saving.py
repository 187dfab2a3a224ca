"""Explanations of files, written into a folder: per picture the maps, a panel, and a record."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fusioncam.errors import FusionCamError, UsageError, out_of_memory
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.output import Content, encode_png, json_bytes, prepare_folder, write_npz, write_together
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.class_selection import TOP_CLASS, ClassSelection
from fusioncam.runtime.commands.file_names import file_stems, refuse_overwriting, safe_name
from fusioncam.runtime.difference import Difference
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation, flag_text
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.photo import Photo
from fusioncam.runtime.picture import DrawOptions
from fusioncam.runtime.result_pictures import map_on_photo
from fusioncam.runtime.sessions.native_stderr import native_stderr

RESOLUTIONS = ("model", "photo")

Result = Explanation | Difference


@dataclass(frozen=True)
class OutputOptions:
    """The files to write for each explanation.

    Attributes:
        draw: The way maps are drawn.
        resolution: Size of the arrays: that of the `model`'s input, or that of the `photo`.
        separate: Whether to write one more picture per method: the map on the photo, at the photo's own resolution.

    Raises:
        UsageError: There is no such resolution.
    """

    draw: DrawOptions = field(default_factory=DrawOptions)
    resolution: str = "model"
    separate: bool = False

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise UsageError(f"no resolution {self.resolution!r}: choose one of {', '.join(RESOLUTIONS)}")

    def endings(self, methods: Sequence[str]) -> dict[str, str]:
        """Return the endings of the files' names, by a file's content: npz, json, png, and methods."""
        alone = {m: f".{safe_name(m)}.png" for m in methods} if self.separate else {}
        return {"npz": ".npz", "json": ".json", "png": ".png", **alone}


def explain_files(
    explainer: Explainer,
    images: Sequence[Path],
    folder: Path,
    selection: ClassSelection = TOP_CLASS,
    options: OutputOptions = OutputOptions(),
    *,
    verify: bool = False,
    quiet: bool = True,
    show: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Explain every picture; an unreadable picture is reported, and the others are explained.

    Args:
        explainer: The Explainer that makes the maps.
        images: The pictures.
        folder: Folder for STEM.npz, STEM.png and STEM.json.
        selection: The classes to explain.
        options: The files to write.
        verify: Whether the maps get a verdict.
        quiet: Whether to show no progress bar and no notes.
        show: Whether to print one line per explanation.

    Returns:
        The records of the explanations, as in STEM.json, and for each failed picture its name and its error.

    Raises:
        OutputError: The folder cannot be written.
        UsageError: A result would overwrite one of the pictures, or the model does not have so many classes.
    """
    selection.check(explainer.manifest)
    endings = options.endings(explainer.methods)
    stems = file_stems(images, endings)
    refuse_overwriting(stems, endings, selection.several, folder)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with _folder(folder):
        for image in images:
            try:
                photo, results = _explain(explainer, image, selection, verify, quiet)
            except (FusionCamError, MemoryError) as error:
                message = str(out_of_memory(error) or error)
                console.complain(message)
                failed.append({"image": str(image), "error": message})
                continue
            for e in results:
                stem = stems[image] + (f"-{e.class_index}" if selection.several else "")
                files = {kind: folder / f"{stem}{ending}" for kind, ending in endings.items()}
                done.append(_save(e, image, photo, explainer.manifest.preprocessing, files, options))
                if show:
                    console.say(_line(image, e, done[-1]))
    return done, failed


def _explain(
    explainer: Explainer, image: Path, selection: ClassSelection, verify: bool, quiet: bool
) -> tuple[UInt8Array, Sequence[Result]]:
    with native_stderr():  # libpng and libjpeg write their complaints there
        photo = read_image(image)
    with console.progress_bar(image.name, quiet) as progress:
        results = selection.explain(explainer, Photo(photo, str(image)), progress, verify)
    if not results and not quiet:
        console.complain(f"{image.name}: no class has a probability of {selection.above:g} or more", "note")
    return photo, results


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder for the results; a new folder that stays empty is removed."""
    is_new = not folder.exists()
    prepare_folder(folder)
    try:
        yield
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _save(
    e: Result,
    image: Path,
    photo: UInt8Array,
    preprocessing: Preprocessing,
    files: Mapping[str, Path],
    options: OutputOptions,
) -> dict[str, Any]:
    size = (photo.shape[0], photo.shape[1])
    separate = {method: str(file) for method, file in files.items() if method in e.maps}
    record = {
        "image": str(image),
        "maps": str(files["npz"]),
        "picture": str(files["png"]),
        **({"pictures": separate} if separate else {}),
        "resolution": options.resolution,
        **e.summary(),
    }
    at_photo = options.resolution == "photo"
    # A generator, as arrays at the photo's resolution are large.
    arrays = ((m, on_photo(saliency, size, preprocessing) if at_photo else saliency) for m, saliency in e.maps.items())

    def contents() -> Iterator[tuple[Path, Content]]:
        yield files["npz"], partial(write_npz, arrays=arrays)
        yield files["json"], json_bytes(record)
        yield files["png"], encode_png(e.panel(**asdict(options.draw)))
        for method in separate:
            yield files[method], encode_png(map_on_photo(e, method, photo, preprocessing, options.draw))

    write_together(contents())
    return record


def _line(image: Path, e: Result, record: dict[str, Any]) -> str:
    seconds = sum(e.timing.values())
    error = f" (estimated error {e.passes.error:.2g})" if e.passes.error else ""
    flags = "".join(f"; {flag_text(flag)}" for flag in e.flags if flag != "assumed_preprocessing")
    verdict = f"\n  {e.verdict.line}" if isinstance(e, Explanation) and e.verdict else ""
    return (
        f"{image.name}: {e.headline}, {e.passes.run} passes for {e.passes.channels} channels{error}, "
        f"{seconds:.1f} s -> {record['picture']}{flags}{verdict}"
    )
