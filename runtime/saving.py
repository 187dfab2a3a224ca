"""Explaining files into a folder: per picture the maps, a panel to look at, and the figures."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.manifest import MANIFEST, Manifest, Preprocessing
from fusioncam.runtime import console
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import FLAGS, Explanation
from fusioncam.runtime.image import UInt8Array, display_image, read_image, visible_part
from fusioncam.runtime.output import encode_png, json_bytes, npz_bytes, prepare_folder, write_atomically
from fusioncam.runtime.picture import colormap_code, panel
from fusioncam.runtime.session import native_stderr

SLIVER = 4  # sides of a photo, longer over shorter, from which on the panel shows what the model saw instead


def explain_files(
    explainer: Explainer,
    images: Sequence[Path],
    folder: Path,
    classes: Sequence[int],
    colormap: str,
    quiet: bool,
    show: bool,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Explain every picture; one that cannot be read is reported, and the others go on.

    Args:
        explainer: Makes the maps.
        images: The pictures.
        folder: Where STEM.npz, STEM.png and STEM.json go.
        classes: The classes to explain; none for the top one.
        colormap: Colours of the panel.
        quiet: No progress bar.
        show: Print one line per explanation.

    Returns:
        What was done, as in STEM.json, and which pictures failed and why.

    Raises:
        OutputError: The folder cannot be written.
        UsageError: A result would overwrite one of the pictures.
    """
    colormap_code(colormap)
    stems = _stems(images)
    _refuse_overwriting(stems, classes, folder)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with _folder(folder):
        for image in images:
            try:
                with native_stderr():  # libpng and libjpeg write their complaints there
                    photo = read_image(image)
                with console.progress_bar(image.name, quiet) as progress:
                    found = explainer.explain_batch([photo], [list(classes) or None], progress=progress)
            except FusionCamError as error:
                console.complain(str(error))
                failed.append({"image": str(image), "error": str(error)})
                continue
            shown = _to_show(photo, explainer.manifest.preprocessing)
            for e in found:
                stem = stems[image] + (f"-{e.class_index}" if len(found) > 1 else "")
                done.append(_save(e, image, shown, _files(folder, stem), colormap))
                if show:
                    console.say(_line(image, e, done[-1]))
    return done, failed


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


def _to_show(photo: UInt8Array, preprocessing: Preprocessing) -> UInt8Array:
    """The photo as the panel shows it: in its own proportions, unless those of a sliver."""
    part = visible_part(photo, preprocessing)
    return part if max(part.shape[:2]) <= SLIVER * min(part.shape[:2]) else display_image(photo, preprocessing)


def _stems(images: Sequence[Path]) -> dict[Path, str]:
    """A file stem for each picture; pictures of the same stem are numbered, so that none overwrites another."""
    stems: dict[Path, str] = {}
    for image in images:
        stem, n = image.stem, 2
        while stem in stems.values() and image not in stems:
            stem, n = f"{image.stem}_{n}", n + 1
        stems.setdefault(image, stem)
    return stems


def _refuse_overwriting(stems: Mapping[Path, str], classes: Sequence[int], folder: Path) -> None:
    """Refuse to write over a picture of the user's, be it one of those to explain or another."""
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder} is a bundle; choose another folder with -o")
    pictures = {image.resolve() for image in stems}
    for image, stem in stems.items():
        for suffix in [f"-{c}" for c in classes] if len(classes) > 1 else [""]:
            files = _files(folder, stem + suffix)
            ours = files["json"].exists()  # written before the panel
            if pictures & {f.resolve() for f in files.values()} or (files["png"].exists() and not ours):
                raise UsageError(
                    f"the results of {image} could overwrite a picture in {folder}; choose another folder with -o"
                )


def _files(folder: Path, stem: str) -> dict[str, Path]:
    return {kind: folder / f"{stem}.{kind}" for kind in ("npz", "json", "png")}


def _save(e: Explanation, image: Path, photo: UInt8Array, files: Mapping[str, Path], colormap: str) -> dict[str, Any]:
    notes = [FLAGS[flag] for flag in e.flags]
    record = {"image": str(image), "maps": str(files["npz"]), "picture": str(files["png"]), **e.summary()}
    content = {
        "npz": npz_bytes(e.maps),
        "json": json_bytes(record),
        "png": encode_png(panel(photo, e.maps, e.title, e.probability, notes, colormap)),
    }
    for kind, path in files.items():
        write_atomically(path, content[kind])
    return record


def _line(image: Path, e: Explanation, record: dict[str, Any]) -> str:
    seconds = sum(e.timing.values())
    flags = "".join(f"; {FLAGS[flag]}" for flag in e.flags if flag != "assumed_preprocessing")
    return (
        f"{image.name}: {e.title} {e.probability:.2f}, {e.passes.run} passes for {e.passes.channels} channels, "
        f"{seconds:.1f} s -> {record['picture']}{flags}"
    )


def class_number(manifest: Manifest, wanted: str) -> int:
    """The class called `wanted`: its number, its whole label, or one of the names its label lists between commas.

    Raises:
        UsageError: There is no such class, or several share the name.
    """
    if re.fullmatch(r"[+-]?[0-9]{1,18}", wanted):
        return int(wanted)
    if manifest.labels is None:
        raise UsageError(f"the bundle has no labels to look {wanted!r} up in; give the class's number")
    name = wanted.strip().casefold()
    names = [{label.casefold(), *(part.strip() for part in label.casefold().split(","))} for label in manifest.labels]
    found = [i for i, some in enumerate(names) if name in some]
    if len(found) > 1:
        raise UsageError(f"several classes are called {wanted!r}: {', '.join(map(str, found))}; give a number")
    if not found:
        every = [n for some in names for n in some]
        close = [n for n in every if name in n.split()][:3] or difflib.get_close_matches(name, every, n=1)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UsageError(f"no class is called {wanted!r}{hint}")
    return found[0]


def save_sample(folder: Path) -> Path:
    """Write the demo's picture, scene.png, into a folder."""
    from fusioncam.runtime.demo.scenes import sample_picture

    path = prepare_folder(folder) / "scene.png"
    write_atomically(path, encode_png(sample_picture().image))
    return path
