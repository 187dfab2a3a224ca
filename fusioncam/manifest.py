"""`manifest.json`, the contract between `export`, which writes a bundle, and `runtime`, which reads it."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import from_json

from fusioncam.detector import Detector
from fusioncam.digests import DIGEST
from fusioncam.digests import sha256 as sha256  # its readers find both here
from fusioncam.digests import signed as signed
from fusioncam.drift import Drift
from fusioncam.errors import BundleError
from fusioncam.forms import Form, Task, form_of
from fusioncam.free_size import FreeSize
from fusioncam.further_inputs import FurtherInput
from fusioncam.layer import Layer as Layer
from fusioncam.preprocessing import Part, Positive
from fusioncam.preprocessing import Preprocessing as Preprocessing  # its readers find it here

SCHEMA_VERSION: Literal[1] = 1
CHUNK = 8  # masked pictures a session takes at a time, unless told otherwise; more gains nothing on a CPU
GPU_CHUNK = 64
BATCH, MASKS_BATCH = "N", "M"  # names of the free axes: of pictures, and of masks in the head graph
EXPLAIN_GRAPH, SCORE_GRAPH, WEIGHTS, MANIFEST = "explain.onnx", "score.onnx", "weights.bin", "manifest.json"
HEAD_GRAPH = "head.onnx"  # older bundles have none, nor have those of models whose layer cannot be masked
SOURCE_GRAPH = "source.onnx"  # the source itself, in a bundle of any size
SINGLE_GRAPH = "fusioncam.onnx"  # the whole method in one graph; where it was asked for
CHUNK_GRAPH, FUSE_GRAPH = "chunk.onnx", "fuse.onnx"  # the same without a Loop
FROZEN_INPUTS = "frozen.npz"  # values of the source's inputs that the export froze, where it did
READER_GRAPH = "reader.onnx"  # what a reader of the user's own makes of the outputs; where there was one
FACTS = "fusioncam.bundle"  # key of the explain graph's metadata: `Manifest.facts`
NEEDED = (EXPLAIN_GRAPH, SCORE_GRAPH, WEIGHTS, MANIFEST)
FORMS = (SINGLE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH)
OPTIONAL = (HEAD_GRAPH, SOURCE_GRAPH, READER_GRAPH, FROZEN_INPUTS, *FORMS)
FILES = (*NEEDED, *OPTIONAL)

# Letters of the axes of a signal, a picture and a volume.
PLACES = {1: "L", 2: "HW", 3: "DHW"}

# Least and greatest of the whole numbers that cannot hold any pixel, whatever is done to it.
WHOLE_NUMBERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}

Precision = Literal["float32", "float16"]
ScorePrecision = Literal["float32", "float16", "int8"]
Ending = Literal["logits", "softmax", "sigmoid", "value"]
Reach = Literal["reached", "out_of_reach", "doubtful"]


class Source(Part):
    """The model a bundle was made from.

    Attributes:
        path: Relative to the bundle's folder, with `/` as separator.
        sha256: Of the file.
        input: Name of its image input.
        output: Name of the output that holds the class scores.
        ending: What it does after its logits; older bundles do not say, and it is that of the manifest.
        type: Type of its input, such as `float32` or `uint8`; older bundles do not say.
        channels_last: Whether that is (N, H, W, C); older bundles do not say.
        channel_axis: The axis of its channels: 1, or the last one, or 2 of a video (N, D, C, H, W); 0 of one picture
            (C, H, W) without an axis of pictures.
        outputs: Numbers it gives for a picture: as many as classes (None: an older bundle, which always has those), or
            1. One output z, of a binary model or a regression, has two classes, of the logits -z and z.
        reach: Whether the logits are the model's own. `out_of_reach`: its outputs are probabilities p, and log p, or
            log(p / (1 - p)) for a sigmoid, stands for logits. `doubtful`: they were taken for logits, though all that
            were seen lie within 0..1.
        scale: Its outputs are scale * (what the ending makes of the logits) + offset: 100 for percents.
        offset: See `scale`.
        rounding: How far its outputs may be from that, where they are rounded.
        logarithm: Whether its outputs are logarithms of that; older bundles do not say.
        class_vectors: Whether its output is an embedding, of which vectors of classes make logits: see `class_vectors`
            among the weights of the graphs.
        argmax: Whether its output is the number of the best class at every place: an ArgMax over the logits.
        tensors: The tensors that a detector's boxes and numbers of classes are read from, where that is not `output`
            alone: outputs, or tensors within the graph, above the search for duplicates.
        bypassed: Tensors of chosen rows, by names, each with the one of all rows that takes its place above `tensors`.
        prototypes: The output that holds the prototypes of instance masks; None where there is none.
    """

    path: str
    sha256: str
    input: str
    output: str
    type: str | None = None
    channels_last: bool | None = None
    channel_axis: Annotated[int, Field(ge=0)] = 1
    ending: Ending | None = None
    outputs: Positive | None = None
    reach: Reach = "reached"
    scale: float = 1.0
    offset: float = 0.0
    rounding: float = 0.0
    logarithm: bool | None = None
    argmax: bool = False
    class_vectors: bool = False
    tensors: tuple[str, ...] = ()
    bypassed: tuple[tuple[str, str], ...] = ()
    prototypes: str | None = None


class Manifest(Part):
    """The whole of `manifest.json`.

    Attributes:
        schema_version: Of this file.
        source: The model it was made from.
        layer: The target layer.
        task: What the model does, which says what a target is; older bundles, which do not say, classify, or give
            values by their ending.
        reader: The reader that brings the source's output into the normal form of the task.
        classes: How many, or how many values; the length of an embedding.
        map_size: (h, w) of the maps of classes; None for a model that gives one number per class, or an embedding.
        detector: The boxes of a detector; None for other models.
        levels: Further layers, at other resolutions, that explain a detector; the first is `layer`.
        opset: Of the graphs.
        preprocessing: How a picture becomes the input.
        files: sha256 of every other file of the bundle.
        ending: How logits become probabilities: what the source does after its logits, unless the user said otherwise.
            `logits` is a softmax, `value` leaves them as they are (a regression).
        gradient: Whether the explain graph gives gradients.
        precision: Type the source, and the explain graph with it, computes in.
        score_precision: The same of the score graph; by default `precision`. An `int8` one takes and gives float32.
        drift: How far maps drift by scores of another precision; nothing where it was not measured on photos.
        one_by_one: Whether masked pictures are scored one by one, since the model decides something (an If) once for a
            whole batch.
        labels: One name per class, or none.
        free_size: The sizes of input that graphs can be derived for, beside that of `preprocessing`; None: no other.
        inputs: The further inputs of the graphs, beside the picture.
        tools: Versions of the programs that wrote the bundle.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Source
    layer: Layer
    task: Task
    reader: str = "vector"
    classes: Positive
    map_size: tuple[Positive, Positive] | None = None
    detector: Detector | None = None
    levels: tuple[Layer, ...] = ()
    ending: Ending
    gradient: bool = True
    precision: Precision
    score_precision: ScorePrecision
    drift: Drift | None = None
    one_by_one: bool = False
    opset: Positive
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None = None
    free_size: FreeSize | None = None
    inputs: tuple[FurtherInput, ...] = ()
    tools: dict[str, str]
    files: dict[str, str]

    @model_validator(mode="before")
    @classmethod
    def _older_bundles_say_less(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        task = "value" if data.get("ending") == "value" else "classify"
        alike = {"score_precision": data["precision"]} if "precision" in data else {}
        return {"task": task, **alike, **data}

    @model_validator(mode="after")
    def _one_label_per_class(self) -> Self:
        if self.labels is not None and len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes} classes")
        return self

    @model_validator(mode="after")
    def _only_detectors_have_boxes(self) -> Self:
        if (self.task == "detect") != (self.detector is not None):
            raise ValueError(f"a model of the task {self.task} {'without' if self.detector is None else 'with'} boxes")
        return self

    @model_validator(mode="after")
    def _files_are_those_of_a_bundle(self) -> Self:
        if not {*NEEDED} <= {*self.files, MANIFEST} <= {*FILES} or MANIFEST in self.files:
            needed, others = (", ".join(names) for names in (sorted({*NEEDED} - {MANIFEST}), OPTIONAL))
            raise ValueError(f"files must be {needed}, and {others} or not")
        if self.free_size is not None and SOURCE_GRAPH not in self.files:
            raise ValueError(f"a bundle of any size needs {SOURCE_GRAPH}")
        return self

    @property
    def facts(self) -> str:
        """Return the text that the explain graph carries about its bundle: JSON of all that both must agree on.

        Defaults are left out, so that a field that comes later does not make older bundles strange.
        """
        kept_out = ("schema_version", "source", "tools", "files", "drift", "task", "reader", "free_size")
        excluded: dict[str, Any] = {**dict.fromkeys(kept_out, True), "preprocessing": {"shown_bands"}}
        return json.dumps(self.model_dump(mode="json", exclude=excluded, exclude_defaults=True), sort_keys=True)

    @property
    def form(self) -> Form:
        """Return the normal form of the model's output, and the tensors of its targets."""
        return form_of(self.task, self.classes, self.map_size, self.detector)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layer and the further levels, in the order of the graph."""
        return (self.layer, *self.levels)

    def showing(self, bands: tuple[int, ...] | None) -> Self:
        """Return the manifest with other bands for pictures to show, see `Preprocessing.shown_bands`."""
        shown = self.preprocessing.model_copy(update={"shown_bands": bands})
        return self.model_copy(update={"preprocessing": shown})

    @property
    def cuts_pixels_off(self) -> bool:
        """Return whether the source's input cannot hold every pixel, so that the brightest or darkest become equal."""
        low, high = WHOLE_NUMBERS.get(self.source.type or "", (-math.inf, math.inf))
        ends = self.preprocessing.extremes
        return ends is not None and (round(ends[0]) < low or round(ends[1]) > high)

    @property
    def has_head(self) -> bool:
        """Return whether the bundle holds the graph that masks the layer, which Recipro-CAM needs."""
        return HEAD_GRAPH in self.files

    @property
    def has_single(self) -> bool:
        """Return whether the bundle holds the whole method in one graph."""
        return SINGLE_GRAPH in self.files


def recorded_digest(folder: Path) -> str | None:
    """Return the digest that the manifest of a bundle records; None where it has none, as in older bundles."""
    found = DIGEST.search((folder / MANIFEST).read_bytes())
    return found[1].decode() if found else None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a bundle, with its digest."""
    text = json.dumps({**manifest.model_dump(mode="json"), "digest": "0" * 64}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_bytes(signed(text.encode() + b"\n"))


def read_manifest(path: Path) -> Manifest:
    """Return a manifest, and make sure that it is as it was written; trust older ones, which have no digest.

    Raises:
        BundleError: There is none, it was changed, or it is of another schema.
    """
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError  # or a pipe or a device, whose reading might never end
        text = path.read_bytes()
        said = from_json(text, allow_inf_nan=False)
        digest = [str(said.pop("digest")).encode()] if isinstance(said, dict) and "digest" in said else []
        if digest and (signed(text) != text or DIGEST.findall(text) != digest):
            raise BundleError(
                f"{path} was edited or damaged since the export (its digest differs); export the model again, with "
                "the options that give what you want"
            )
        return Manifest.model_validate(said)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"{path.parent} is no bundle: it holds no {MANIFEST}; make one with `fusioncam export`"
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read or is of another version; export the model again") from error


def read_bundle(folder: Path) -> Manifest:
    """Return the manifest of a bundle, and make sure that its files are there and unchanged.

    Raises:
        BundleError: The folder is no bundle, is of another schema, or a file of it is missing or was changed.
    """
    manifest = read_manifest(folder / MANIFEST)
    for name, digest in manifest.files.items():
        if not (folder / name).is_file():
            raise BundleError(f"{folder} lacks {name}; copy the whole folder, or export the model again")
        try:
            same = sha256(folder / name) == digest
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read ({error.strerror}); copy the bundle again") from error
        if not same:
            raise BundleError(f"{folder / name} was changed since the export (sha256 differs); export the model again")
    return manifest
