"""The folder of the results: each photo's files appear whole or not at all, and none of the user's is overwritten."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from fusioncam.errors import UsageError
from fusioncam.manifest import MANIFEST
from fusioncam.output import Content, json_bytes, prepare_folder, write_together
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.results.earlier import EarlierResults, Record
from fusioncam.runtime.results.making import NIFTI, PhotoResult, TargetResult
from fusioncam.runtime.results.names import ResultNames


class ResultFolder:
    """A folder with the results of photos, to be used in a `with` statement.

    Args:
        folder: Made where it is missing; a new one that stays empty is removed.
        endings: Endings of the names of a result's files, by their content, see `OutputOptions.endings`.
        settings: All that decides the results, see `settings_of`.
        several: Whether a photo may have several results, so that the name of a target follows the stem.
        resume: Whether what an earlier run has made is kept.
        shared: The contents among `endings` that all results of a photo have in common.

    Raises:
        UsageError: The folder is a bundle.
        OutputError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        endings: Mapping[str, str],
        settings: Mapping[str, Any],
        several: bool = False,
        resume: bool = False,
        shared: Sequence[str] = (),
    ) -> None:
        if (folder / MANIFEST).exists():
            raise UsageError(f"{folder} is a bundle; choose another folder with -o")
        self.folder, self._endings, self._settings = folder, dict(endings), dict(settings)
        self._several, self._resume = several, resume
        self._shared = {kind: endings[kind] for kind in shared}
        self._own = {kind: ending for kind, ending in endings.items() if kind not in shared}
        self._names = ResultNames(endings)
        self._earlier = EarlierResults(folder, [*self._own.values()], several, [*self._shared.values()])
        self._is_new = not folder.exists()

    def __enter__(self) -> Self:
        prepare_folder(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_new and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def check(self, photos: Iterable[PhotoFile]) -> None:
        """Raise UsageError, before any work, where results of some photos would overwrite what is no result."""
        photos, names = list(photos), ResultNames(self._endings)
        inputs = {os.path.realpath(photo.name) for photo in photos}
        for photo in photos:
            self._refuse_overwriting(photo, names.claim(photo.place), inputs)

    def claim(self, photo: PhotoFile) -> str:
        """Return the stem of a photo's results, with `/` between the parts; no other photo gets it.

        Raises:
            UsageError: A file is in the way that is no result.
        """
        stem = self._names.claim(photo.place, lambda s: self._resume and self._earlier.is_of_another(s, photo))
        self._refuse_overwriting(photo, stem, {os.path.realpath(photo.name)})
        return stem

    def kept(self, photo: PhotoFile, stem: str) -> list[Record] | None:
        """Return the records that an earlier run has made of a photo, or None: see `EarlierResults.kept`.

        Raises:
            UsageError: They were made with other settings.
        """
        if not self._resume:
            return None
        if (records := self._earlier.kept(photo, stem, self._settings)) is None:
            return None
        # The folders of photos and results may have other names than in the earlier run.
        return [record | self._names_in(name, photo, stem) for name, record in records.items()]

    def save(self, result: PhotoResult, stem: str) -> list[Record]:
        """Write the files of a photo, all or none, and return the records that STEM.json holds.

        Raises:
            OutputError: A file cannot be written.
        """
        explained = [int(r.name) if r.name.isdecimal() else r.name for r in result.targets]
        records = [self._record(result, of_target, stem, explained) for of_target in result.targets]
        if records:
            prepare_folder((self.folder / stem).parent)
        write_together(self._contents(result, records, stem))
        return records

    def _refuse_overwriting(self, photo: PhotoFile, stem: str, inputs: set[str]) -> None:
        """Raise UsageError where the results of a photo would overwrite one of the inputs, or what is no result."""
        named = [(known, self._own) for known in self._earlier.stems(stem)]
        for known, endings in [*named, (stem, self._shared)]:
            there = [file for file in self._files(known, endings).values() if os.path.lexists(file)]
            if there and self._earlier.record(known) is None:
                panels = self._earlier.panels(stem)  # one for all targets has no record of its own
                others = [file for file in there if file.name not in panels]
            else:
                others = []
            if clash := others or [file for file in there if os.path.realpath(file) in inputs]:
                kind, file = "picture" if clash[0].suffix == ".png" else "file", clash[0]
                raise UsageError(
                    f"the results of {photo.shown_name} could overwrite a {kind} in {file.parent}, {file.name!r}; "
                    "move it away, or choose another folder with -o"
                )

    def _record(
        self, result: PhotoResult, of_target: TargetResult, stem: str, explained: Sequence[int | str]
    ) -> Record:
        return {
            **self._names_in(of_target.name, result.photo, stem),
            "resolution": self._settings["resolution"],
            **{key: value for key, value in of_target.summary.items() if key != "image"},
            **({"explained": explained} if self._several else {}),
            "fingerprint": result.fingerprint,
            "settings": self._settings,
        }

    def _names_in(self, name: str, photo: PhotoFile, stem: str) -> Record:
        """Return the names of files that a record has."""
        paths = self._files(self._of_target(stem, name), self._own) | self._files(stem, self._shared)
        files = {kind: str(file) for kind, file in paths.items()}
        separate = {kind: file for kind, file in files.items() if kind not in ("npz", "json", "png")}
        volumes = {kind.removesuffix(NIFTI): separate.pop(kind) for kind in [*separate] if kind.endswith(NIFTI)}
        return {
            "image": photo.shown_name,
            "maps": files["npz"],
            **({"picture": files["png"]} if "png" in files else {}),
            **({"pictures": separate} if separate else {}),
            **({"volumes": volumes} if volumes else {}),
        }

    def _contents(self, result: PhotoResult, records: Sequence[Record], stem: str) -> Iterator[tuple[Path, Content]]:
        """Yield the files of a photo in their order: records first, which tell whose the others are."""
        files = [self._files(self._of_target(stem, of_target.name), self._own) for of_target in result.targets]
        for of_files, record in zip(files, records, strict=True):
            yield of_files["json"], json_bytes(record)
        for of_files, of_target in zip(files, result.targets, strict=True):
            for kind, content in of_target.contents.items():
                yield of_files[kind], content
        of_photo = self._files(stem, self._shared)
        for kind, content in result.contents.items():
            yield of_photo[kind], content

    def _of_target(self, stem: str, name: str) -> str:
        return f"{stem}-{name}" if self._several else stem

    def _files(self, stem: str, endings: Mapping[str, str]) -> dict[str, Path]:
        return {kind: self.folder / f"{stem}{ending}" for kind, ending in endings.items()}
