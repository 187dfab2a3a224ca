"""The maker of results: a photo becomes maps, pictures and figures, ready to be written."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

from fusioncam.errors import FusionCamError, UsageError, out_of_memory
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import Manifest
from fusioncam.output import Content, encode_png, write_npz
from fusioncam.runtime.arguments import SizeLike, checked_bands, checked_seed, checked_size, of_one_model
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.detection_pictures import panel_of_all
from fusioncam.runtime.difference import Difference
from fusioncam.runtime.engine import Levels, Progress, read_bundles
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import checked_for
from fusioncam.runtime.photos.display import drawable
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.picture import DrawOptions
from fusioncam.runtime.picture_inputs import given_rows
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.result_pictures import map_on_photo
from fusioncam.runtime.results.names import safe_name
from fusioncam.runtime.results.target_selection import TOP_CLASS, TargetSelection, file_names
from fusioncam.runtime.sessions.native_stderr import native_stderr

RESOLUTIONS = ("model", "photo")
NIFTI = ".nii"  # the ending of the contents that are volumes

Watch = Callable[[PhotoFile], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class OutputOptions:
    """The files to write for each explanation.

    Attributes:
        draw: The way maps are drawn.
        resolution: Size of the arrays: that of the `model`'s input, or that of the `photo`.
        separate: Whether to write one more picture per method: the map on the photo, at the photo's own resolution.
        panel: Whether to write the panel.
        nifti: Whether to write one NIfTI more per method: the map at the size and in the space of a volume.

    Raises:
        UsageError: There is no such resolution.
    """

    draw: DrawOptions = field(default_factory=DrawOptions)
    resolution: str = "model"
    separate: bool = False
    panel: bool = True
    nifti: bool = False

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise UsageError(f"no resolution {self.resolution!r}: choose one of {', '.join(RESOLUTIONS)}")

    def endings(self, methods: Sequence[str]) -> dict[str, str]:
        """Return the endings of the files' names, by a file's content: npz, json, png, methods, and METHOD.nii."""
        panel = {"png": ".png"} if self.panel else {}
        alone = {m: f".{safe_name(m)}.png" for m in methods} if self.separate else {}
        volumes = {f"{m}{NIFTI}": f".{safe_name(m)}{NIFTI}.gz" for m in methods} if self.nifti else {}
        return {"npz": ".npz", "json": ".json", **panel, **alone, **volumes}


@dataclass(frozen=True)
class MakingConfig:
    """All that decides the results, and the hardware. Can be sent to other processes.

    Attributes:
        bundles: The bundles: one, or several of one model by different layers.
        methods: See `Explainer`.
        budget: See `Explainer`.
        smooth: See `Explainer`.
        selection: The targets to explain.
        verify: Whether maps get a verdict.
        output: The files to write.
        providers: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
        allow_cpu: See `Explainer`.
        size: See `Explainer.explain`.
        bands: See `Explainer`.
        inputs: See `Explainer`.
        seed: See `Explainer`.
        levels: See `Explainer.explain`.
    """

    bundles: tuple[Path, ...]
    methods: Sequence[str] | None = None
    budget: Budget = "exact"
    smooth: Sequence[str] = ()
    selection: TargetSelection = TOP_CLASS
    verify: bool = False
    output: OutputOptions = OutputOptions()
    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None
    allow_cpu: bool = False
    size: SizeLike = None
    bands: tuple[int, ...] | None = None
    inputs: InputValues = field(default_factory=dict)
    seed: int = 0
    levels: Levels = "own"

    @property
    def shared(self) -> tuple[str, ...]:
        """Return the contents of files that all targets of a photo have in common."""
        return ("png",) if self.output.panel and self.selection.on_one_panel else ()

    def read(self) -> tuple[Manifest, tuple[str, ...]]:
        """Return the manifest of the first bundle and the methods, without opening a graph.

        Raises:
            BundleError, UsageError: As of `Explainer`.
        """
        manifests = [bundle.manifest for bundle in read_bundles(list(self.bundles))]
        checked_size(self.size, manifests)
        manifest = of_one_model(manifests)
        if self.bands is not None:
            manifest = manifest.showing(checked_bands(self.bands, manifest))
        given_rows(manifest, self.inputs)
        checked_seed(self.seed)
        return manifest, checked_for(self.methods, manifests, self.budget)

    def open(self) -> Explainer:
        """Return the Explainer; raise the errors that it raises."""
        explainer = Explainer(
            list(self.bundles), self.providers, self.methods, self.budget,
            chunk=self.chunk, threads=self.threads, smooth=self.smooth, allow_cpu=self.allow_cpu,
            bands=self.bands, inputs=self.inputs, seed=self.seed,
        )  # fmt: skip
        checked_size(self.size, [explainer.manifest])
        return explainer


@dataclass(frozen=True)
class TargetResult:
    """The result for one target of a photo.

    Attributes:
        name: The target in names of files, where a photo has several: the number of a class.
        summary: All but the maps, ready for JSON.
        headline: The target and its probability, in a line.
        verdict: The verdict in a line; None without one.
        contents: What its files hold: `npz`, `png` and methods, see `OutputOptions.endings`.
    """

    name: str
    summary: dict[str, Any]
    headline: str
    verdict: str | None
    contents: Mapping[str, Content]

    def packed(self) -> Self:
        """Return the same with all contents made, to be sent to another process."""
        return replace(self, contents=_packed(self.contents))


@dataclass(frozen=True)
class PhotoResult:
    """The results of a photo, or why there are none.

    Attributes:
        photo: The photo's file.
        targets: A result for each explained target; none where no target was selected, or the photo failed.
        fingerprint: What identifies the content of the file.
        error: The kind and the message of the error of a photo that failed.
        contents: What the files hold that all targets have in common, see `MakingConfig.shared`.
    """

    photo: PhotoFile
    targets: tuple[TargetResult, ...] = ()
    fingerprint: str | None = None
    error: tuple[str, str] | None = None
    contents: Mapping[str, Content] = field(default_factory=dict)

    def packed(self) -> Self:
        """Return the same with all contents made, to be sent to another process."""
        targets = tuple(of_target.packed() for of_target in self.targets)
        return replace(self, targets=targets, contents=_packed(self.contents))


class ResultMaker:
    """Explains photos.

    Args:
        config: How.
        explainer: The one of the config, where it is open already.

    Raises:
        FusionCamError: As for `Explainer`.
    """

    def __init__(self, config: MakingConfig, explainer: Explainer | None = None) -> None:
        self._config, self._explainer = config, explainer or config.open()

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods, the default ones by name."""
        return self._explainer.methods

    def results(
        self, photos: Iterable[PhotoFile], watch: Watch = lambda photo: nullcontext(None)
    ) -> Iterator[PhotoResult]:
        """Yield the results of photos, in order. A photo that cannot be explained gets its error.

        Args:
            photos: Their files.
            watch: Makes a context that gives the function to call with (done, all) masked passes of a photo.
        """
        for photo in photos:
            try:
                with watch(photo) as progress:
                    result = self._of(photo, progress)
            except (FusionCamError, MemoryError) as error:
                result = failed(photo, error)
            yield result

    def packed(self, photos: Iterable[PhotoFile]) -> Iterator[PhotoResult]:
        """Yield the results as `results` does, ready to be sent to another process."""
        for result in self.results(photos):
            try:
                yield result.packed()
            except (FusionCamError, MemoryError) as error:
                yield failed(result.photo, error)

    def _of(self, file: PhotoFile, progress: Progress | None) -> PhotoResult:
        with native_stderr():  # libpng and libjpeg write their complaints there
            photo, fingerprint = file.read(self._explainer.manifest.preprocessing)
        given = {"size": self._config.size, "levels": None if self._config.levels == "own" else self._config.levels}
        options = {name: value for name, value in given.items() if value is not None}
        explained = self._config.selection.explain(self._explainer, photo, progress, self._config.verify, options)
        names = iter(file_names(explained))
        targets = tuple(self._of_target(e, next(names), photo) for e in explained)
        return PhotoResult(file, targets, fingerprint, contents=self._of_all(explained, photo))

    def _of_all(self, explained: Sequence[Explanation] | Sequence[Difference], photo: Given) -> dict[str, Content]:
        """Return the contents that all targets of a photo have in common."""
        if "png" not in self._config.shared or not explained:
            return {}
        _, preprocessing = explained[0].origin
        assert preprocessing is not None
        pixels, draw = drawable(photo.values, preprocessing), self._config.output.draw
        return {"png": _drawn(partial(panel_of_all, explained, pixels, preprocessing, draw))}

    def _of_target(self, e: Explanation | Difference, name: str, photo: Given) -> TargetResult:
        options, (_, preprocessing) = self._config.output, e.origin
        assert preprocessing is not None
        size = photo.values.shape[:-1] if options.resolution == "photo" else None
        contents: dict[str, Content] = {"npz": partial(write_npz, arrays=_arrays(e, size))}
        if options.panel and "png" not in self._config.shared:
            contents["png"] = _drawn(partial(e.panel, **asdict(options.draw)))
        for method in e.maps if options.separate else ():
            pixels = drawable(photo.values, preprocessing)
            contents[method] = _drawn(partial(map_on_photo, e, method, pixels, preprocessing, options.draw))
        for method in e.maps if options.nifti else ():
            contents[f"{method}{NIFTI}"] = _made(partial(e.nifti, method))
        verdict = e.verdict.line if isinstance(e, Explanation) and e.verdict else None
        return TargetResult(name, e.summary(), e.headline, verdict, contents)


def open_packed(config: MakingConfig, threads: int) -> Callable[[Iterable[PhotoFile]], Iterator[PhotoResult]]:
    """Return `ResultMaker.packed` of a new maker, with so many threads unless the config names a number."""
    return ResultMaker(replace(config, threads=threads) if config.threads is None else config).packed


def failed(photo: PhotoFile, error: FusionCamError | MemoryError) -> PhotoResult:
    """Return the result of a photo that cannot be explained."""
    known = out_of_memory(error) or error
    kind = known.kind_name() if isinstance(known, FusionCamError) else "out_of_memory"
    return PhotoResult(photo, error=(kind, " ".join(str(known).split())))


def _arrays(e: Explanation | Difference, size: Size | None) -> Iterator[tuple[str, Array]]:
    """Yield the maps, and the instance mask where there is one, at the photo's size where that is given.

    One is made after the other, as arrays at the photo's size are large.
    """
    _, preprocessing = e.origin
    assert preprocessing is not None
    for method, saliency in e.maps.items():
        yield method, saliency if size is None else on_photo(saliency, size, preprocessing)
    yield from e.masks(at_photo=size is not None).items()


def _drawn(draw: Callable[[], Any]) -> Content:
    """Return a picture as content that is drawn when it is written."""
    return _made(lambda: encode_png(draw()))


def _made(make: Callable[[], bytes]) -> Content:
    """Return content that is made when it is written."""

    def write(file: BinaryIO) -> None:
        file.write(make())

    return write


def _packed(contents: Mapping[str, Content]) -> dict[str, Content]:
    return {kind: _bytes(content) for kind, content in contents.items()}


def _bytes(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    file = io.BytesIO()
    content(file)
    return file.getvalue()
