"""The way from photo to photo: what an earlier run has made is kept, the rest is explained and written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fusioncam.errors import FusionCamError, ImageError, OutputError, UsageError
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.results.earlier import Record
from fusioncam.runtime.results.folder import ResultFolder
from fusioncam.runtime.results.making import MakingConfig, PhotoResult, ResultMaker, failed
from fusioncam.runtime.results.settings import settings_of
from fusioncam.runtime.results.target_selection import TOP_CLASS, TargetSelection

Results = Callable[[Sequence[PhotoFile]], Iterator[PhotoResult]]
"""Explains photos, in their order: see `ResultMaker.results`."""


@dataclass(frozen=True)
class Outcome:
    """The end of the work on one photo.

    Attributes:
        photo: The photo's file.
        records: The records of its results, as STEM.json holds them.
        result: The results themselves; None where those of an earlier run were kept.
        number: Place of the photo among all, from 0 on.
    """

    photo: PhotoFile
    number: int
    records: Sequence[Record] = ()
    result: PhotoResult | None = None

    @property
    def error(self) -> tuple[str, str] | None:
        """Return the kind and the message of the error of a photo that failed."""
        return None if self.result is None else self.result.error


def explain_photos(
    photos: Iterable[PhotoFile], folder: ResultFolder, results: Results, block: int = 1
) -> Iterator[Outcome]:
    """Explain photos, write their results, and yield what became of each.

    Args:
        photos: Their files, which are taken as they come.
        folder: Keeps the results.
        results: Explains.
        block: Photos that are given to `results` at once.

    Raises:
        OutputError: A result cannot be written.
        UsageError: An earlier run made its results with other settings.
    """
    numbered = enumerate(photos)
    while together := list(islice(numbered, block)):
        left: list[tuple[int, PhotoFile, str]] = []
        for number, photo in together:
            try:
                stem = _claimed(photo, folder)
            except (ImageError, UsageError) as error:
                yield Outcome(photo, number, result=failed(photo, error))
                continue
            kept = folder.kept(photo, stem)
            if kept is not None:
                yield Outcome(photo, number, kept)
            else:
                left.append((number, photo, stem))
        made = results([photo for _, photo, _ in left]) if left else ()
        for (number, photo, stem), result in zip(left, made, strict=True):
            try:
                yield Outcome(photo, number, folder.save(result, stem), result)
            except OutputError as error:
                if not error.only_name:  # a full disk, for one, leaves no room for the others either
                    raise
                yield Outcome(photo, number, result=failed(photo, error))


def _claimed(photo: PhotoFile, folder: ResultFolder) -> str:
    """Return the stem of a photo's results; raise the error of a name without a photo, or of a file in the way."""
    if photo.problem is not None:
        raise ImageError(photo.problem)
    return folder.claim(photo)


def explain_files(
    bundle: Path, images: Iterable[Path], out: Path, selection: TargetSelection = TOP_CLASS
) -> list[Record]:
    """Explain some pictures into a folder, as `fusioncam explain` does without options.

    Args:
        bundle: The bundle.
        images: Files of pictures.
        out: The folder.
        selection: The targets, by default the top class of each picture.

    Returns:
        The records of the results, as STEM.json holds them.

    Raises:
        FusionCamError: The bundle cannot be opened, or a picture cannot be explained.
    """
    config = MakingConfig((bundle,), selection=selection)
    maker = ResultMaker(config)
    photos = [PhotoFile(str(image), image.name) for image in images]
    settings, endings = settings_of(config, maker.methods), config.output.endings(())
    with ResultFolder(out, endings, settings, selection.several, shared=config.shared) as folder:
        outcomes = list(explain_photos(photos, folder, maker.results))
    if failures := [outcome.error for outcome in outcomes if outcome.error is not None]:
        raise FusionCamError(failures[0][1])
    return [record for outcome in outcomes for record in outcome.records]
