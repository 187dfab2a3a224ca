"""The models of the benchmark with their layers and pictures, and the cases that are stored of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cpu.subjects import WANTED, folder_of_photos

from fusioncam import Explainer
from fusioncam.export import export_model, inspect_model
from fusioncam.manifest import read_bundle
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.model_input import ImageLike, as_input
from promise.models import MODELS, Row
from promise.store import measure

FIRST_SCENE = 500_000  # held out, as all seeds below a million
OBJECTS = (1, 2, 1, 3)  # in scene after scene
LAYERS = ("last", "middle")
CHUNK = 16

# Pretrained models by the beginning of their names, and whether constants may be chosen by them. Written down before
# any result was seen. Others are held out.
KNOWN = {
    "demo": True,
    "mobilenetv1_050_160": True,
    "squeezenet11_fp32": True,
    "mobilenetv2": False,
    "cifar10_resnet8": False,
    "vww_person": False,
}
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"preprocessing": fields} for name, fields in WANTED.items()},
    "cifar10_resnet8": {"preprocessing": {"preset": "raw"}},
    "vww_person": {"preprocessing": {"preset": "unit"}},
}


@dataclass(frozen=True)
class Subject:
    """A model, and the pictures that it sees.

    Attributes:
        name: What to call it.
        model: Returns the ONNX file, which may have to be made.
        options: Of the export.
        photos: Photos; where there are none, scenes are drawn.
    """

    name: str
    model: Callable[[], Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    photos: tuple[ImageLike, ...] = ()

    def pictures(self, count: int, size: tuple[int, int]) -> Iterator[tuple[str, ImageLike]]:
        """Yield names and pictures, photos or scenes of (H, W) pixels."""
        for n in range(min(count, len(self.photos)) if self.photos else count):
            if self.photos:
                yield Path(str(self.photos[n])).stem, self.photos[n]
            else:
                seed = FIRST_SCENE + n
                yield f"scene-{seed}", draw_scene(seed, size, OBJECTS[n % len(OBJECTS)]).image


def fitted(name: str) -> bool:
    """Return whether constants may be chosen by the model of a name."""
    of_rows = {row.name: row.fitted for row in MODELS}
    return of_rows.get(name, any(of for beginning, of in KNOWN.items() if name.startswith(beginning)))


def subjects(models: Path | None, photos: Path | None, folder: Path, rows: Sequence[Row] = MODELS) -> Iterator[Subject]:
    """Yield the pretrained models of a folder with its photos, the built-in model, and those that are trained.

    Args:
        models: Folder of ONNX files.
        photos: Folder of photos.
        folder: Where trained models are kept; those it lacks are trained.
        rows: What to train.
    """
    if models is not None and photos is not None:
        shown = tuple(folder_of_photos(photos))
        for model in sorted(models.glob("*.onnx")):
            options = [o for beginning, o in OPTIONS.items() if model.stem.startswith(beginning)]
            if any(map(model.stem.startswith, KNOWN)):
                yield Subject(model.stem, lambda model=model: model, next(iter(options), {}), shown)
    yield Subject("demo", lambda: MODEL)
    for row in rows:
        yield Subject(row.name, partial(_trained, row, folder))


def _trained(row: Row, folder: Path) -> Path:
    from promise.training import make  # here: torch takes seconds to import

    return make(row, folder)


def middle_layer(model: Path) -> str:
    """Return the name of the layer in the middle of those that all evidence passes and that can be taken."""
    serving = [c.name for c, _ in inspect_model(model).layers if c.refused is None and not c.bypassed]
    return serving[len(serving) // 2]


def store(subject: Subject, work: Path, counts: Mapping[str, int]) -> Iterator[Path]:
    """Measure the cases of a subject that are not stored yet, and yield the files of all.

    Args:
        subject: The subject.
        work: Where bundles and cases are kept.
        counts: Pictures for each of `LAYERS`.
    """
    for layer, count in counts.items():
        folder, opened = work / "store" / subject.name, None
        bundle = work / "bundles" / f"{subject.name}-{layer}.fcam"
        if not bundle.exists():
            model = subject.model()
            named = {"layer": middle_layer(model)} if layer == "middle" else {}
            export_model(model, bundle, **subject.options, **named)
        wanted = read_bundle(bundle).preprocessing
        for name, picture in subject.pictures(count, wanted.size):
            path = folder / f"{layer}-{name}.npz"
            if not path.exists():
                opened = opened or Explainer(bundle, methods=("score_cam",), chunk=CHUNK)
                measure(opened.pipeline.preferred, as_input(picture, wanted)[1]).save(path)
            yield path
