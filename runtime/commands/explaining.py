"""The run of `explain`: pictures come from files, folders, addresses or standard input, and results go to a folder."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import cast

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.engines import Cluster
from fusioncam.runtime.commands.explanation_output import Report
from fusioncam.runtime.commands.notes import note_assumptions
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.photos.formats.nifti import SUFFIXES
from fusioncam.runtime.photos.sources.names import PhotoFiles, check_names, names_in
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.results.folder import ResultFolder
from fusioncam.runtime.results.making import MakingConfig, ResultMaker, open_packed
from fusioncam.runtime.results.run import Results, explain_photos
from fusioncam.runtime.results.settings import settings_of
from fusioncam.runtime.results.table import ResultTable
from fusioncam.runtime.results.target_selection import TargetSelection
from fusioncam.runtime.tables import Kind
from fusioncam.runtime.with_ray import with_ray

STDIN = "-"
BLOCK = 50_000  # pictures that a Ray cluster gets at once: the next ones are looked for when all of these are done


@dataclass(frozen=True)
class Pictures:
    """The pictures to explain, as the user names them.

    Attributes:
        names: Files, folders, patterns and addresses; `-` for a list of such on standard input.
        recursive: Whether to go through subfolders.
        null: Whether names on standard input end with NUL.
    """

    names: Sequence[str]
    recursive: bool = False
    null: bool = False

    def check(self, out: Path) -> None:
        """Raise UsageError, before any work, for names that cannot work, see `check_names`."""
        if self.names.count(STDIN) > 1:
            raise UsageError("standard input can be read once only: give - once")
        check_names((name for name in self.names if name != STDIN), out)

    def files(self, out: Path, arrays: bool) -> PhotoFiles:
        """Return the files of the pictures, without those among the results in `out`; `arrays` in folders, too."""
        return PhotoFiles(self._all_names(), self.recursive, out, arrays)

    @property
    def has_nifti(self) -> bool:
        """Return whether a file of NIfTI is named, or lies in a folder that is named."""
        inside = (name for folder in self.names if os.path.isdir(folder) for name in os.listdir(folder))  # noqa: PTH112, PTH208
        return any(name.lower().endswith(SUFFIXES) for name in (*self.names, *inside))

    def named(self) -> list[PhotoFile]:
        """Return the files that are named one by one, and are here."""
        return [PhotoFile(name, Path(name).name) for name in dict.fromkeys(self.names) if os.path.isfile(name)]  # noqa: PTH113

    def _all_names(self) -> Iterator[str]:
        for name in dict.fromkeys(self.names):
            if name == STDIN:
                yield from names_in(cast(BufferedReader, sys.stdin.buffer), b"\0" if self.null else b"\n")
            else:
                yield name


@dataclass(frozen=True)
class Run:
    """A run of `explain`.

    Attributes:
        config: How results are made, without the selection of classes.
        select: Returns the selection for a manifest.
        pictures: The pictures.
        out: Folder for the results.
        resume: Whether results of an earlier run are kept.
        table: Kind of the table; None for no table.
        cluster: The cluster that does the work; None for this process.
        quiet: Whether to show no progress bar and no notes.
        methods: The methods as the user gave them; None for the default ones.
    """

    config: MakingConfig
    select: Callable[[Manifest], TargetSelection]
    pictures: Pictures
    out: Path
    resume: bool = False
    table: Kind | None = None
    cluster: Cluster | None = None
    quiet: bool = False
    methods: str | None = None

    def report_to(self, report: Report) -> int:
        """Explain the pictures, and return the exit status.

        Raises:
            FusionCamError: The model cannot be run, an option makes no sense, or a result cannot be written.
        """
        self.pictures.check(self.out)
        explainer = None if self.cluster else self.config.open()
        manifest, methods = (explainer.manifest, explainer.methods) if explainer else self.config.read()
        selection = self.select(manifest)
        output = self.config.output
        if manifest.preprocessing.kind == "volumes" and self.pictures.has_nifti:
            output = replace(output, nifti=True)
        config = replace(self.config, selection=selection, output=output)
        note_assumptions(manifest, self.methods, self.quiet)
        files = self.pictures.files(self.out, arrays=not manifest.preprocessing.takes_photos)
        table = self.table and ResultTable(self.out, self.table)
        with ExitStack() as stack:
            settings, endings = settings_of(config, methods), config.output.endings(methods)
            several = selection.several
            keeper = ResultFolder(self.out, endings, settings, several, self.resume, config.shared)
            folder = stack.enter_context(keeper)
            folder.check(self.pictures.named())
            work, block = self._work(config, explainer)
            no_bar = self.quiet or self.cluster is None or report.prints_lines
            step = stack.enter_context(console.progress_bar(self.out.name, no_bar))
            for outcome in explain_photos(files, folder, work, block):
                report.add(outcome)
                if table:
                    table.add(outcome)
                step(outcome.number + 1, None)
            if table:
                table.write()
        return report.end(files.skipped, files.unsearched)

    def _work(self, config: MakingConfig, explainer: Explainer | None) -> tuple[Results, int]:
        """Return the function that explains photos, and the number of photos that it gets at once."""
        if self.cluster:
            bundles = tuple(Path(os.path.abspath(bundle)) for bundle in config.bundles)  # noqa: PTH100  (links stay)
            config = replace(config, bundles=bundles)
            return with_ray(partial(open_packed, config), *self.cluster, together=1, in_order=True), BLOCK

        def watch(photo: PhotoFile) -> AbstractContextManager[Progress]:
            return console.progress_bar(photo.title, self.quiet)

        return partial(ResultMaker(config, explainer).results, watch=watch), 1
