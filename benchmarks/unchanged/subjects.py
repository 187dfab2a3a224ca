"""Models, photos, and the bundles made of them: their files are digests, too."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusioncam import FusionCamError, export_model
from unchanged.digests import Digests

CHUNK, THREADS = 8, 1  # the default chunk is measured, and sums depend on the number of threads
CAFFE = {"channel_order": "bgr", "mean": (103.94, 116.78, 123.68), "rescale": 1.0, "std": (1.0, 1.0, 1.0)}
SIGNED = {"rescale": 1 / 127.5, "mean": (1.0, 1.0, 1.0), "std": (1.0, 1.0, 1.0)}
MODELS: dict[str, tuple[dict[str, Any], str | None]] = {
    "cifar10_resnet8_32_softmax": ({"rescale": 1.0}, None),
    "vww_person_mobilenetv1_025_96_logits": ({"rescale": 1 / 255}, None),
    "mobilenetv1_050_160_logits": (SIGNED, "imagenet_labels_1001.txt"),
    "squeezenet11_fp16_orig": (CAFFE, None),
    "squeezenet11_fp32_opset7_softmax": (CAFFE, "imagenet_classes_1000.txt"),
    "mobilenetv2_100_224_logits": (SIGNED, None),
}
PRECISIONS = ("fp32", "fp16", "int8")
QUICK = {
    "mobilenetv1_050_160_logits": ("fp32",),
    "vww_person_mobilenetv1_025_96_logits": ("fp16",),
    "cifar10_resnet8_32_softmax": ("int8", "fp32"),
}
PHOTOS = ("winml_cat.jpg", "captum_zebra.jpg", "coral_pets.jpg")
SMALL = "cifar10_resnet8_32_softmax-fp32"  # what parts that need only one bundle take
HALF = "vww_person_mobilenetv1_025_96_logits-fp16"


@dataclass(frozen=True)
class Bundle:
    """A bundle by its name, MODEL-PRECISION, and its folder."""

    name: str
    folder: Path
    precision: str


@dataclass(frozen=True)
class Subjects:
    """The subjects of all parts: models, bundles and photos.

    Attributes:
        work: The temporary folder, which is the current one.
        assets: The folder of models, photos and labels.
        photos: Files in `work`.
        bundles: By name.
        quick: Whether the run is a quick one.
    """

    work: Path
    assets: Path
    photos: tuple[Path, ...]
    bundles: dict[str, Bundle]
    quick: bool

    @property
    def small(self) -> Bundle:
        """The bundle of the smallest network."""
        return self.bundles[SMALL]


def prepared(photo: Path, preprocessing: Any) -> np.ndarray:
    """Return a photo as a model takes it, (3, H, W) float32; not by the tree's own arithmetic."""
    p = preprocessing
    pixels = cv2.resize(cv2.imread(str(photo)), p.size[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)
    pixels = pixels if p.channel_order == "bgr" else pixels[:, :, ::-1]
    return np.ascontiguousarray(((pixels * p.rescale - p.mean) / p.std).transpose(2, 0, 1), np.float32)


def prepare(digests: Digests, work: Path, assets: Path, quick: bool, small: bool) -> Subjects:
    """Export every model, or the small ones, in every precision it takes, and add the digests of the bundles' files."""
    photos = PHOTOS[:1] if quick else PHOTOS
    for photo in photos:
        shutil.copyfile(assets / "images" / photo, work / photo)
    subjects = Subjects(work, assets, tuple(Path(p) for p in photos), {}, quick)
    for model in MODELS:
        shutil.copyfile(assets / "models" / f"{model}.onnx", work / f"{model}.onnx")
    for model, precisions in (QUICK if small else dict.fromkeys(MODELS, PRECISIONS)).items():
        for precision in precisions:
            with digests.part(f"bundles/{model}-{precision}"):
                _export(digests, subjects, model, precision)
    return subjects


def _export(digests: Digests, subjects: Subjects, model: str, precision: str) -> None:
    name = f"{model}-{precision}"
    folder = Path(f"{name}.fcam")
    preprocessing, labels = MODELS[model]
    options: dict[str, Any] = {"preprocessing": preprocessing, "precision": precision, "single": True, "unrolled": 8}
    if labels:
        options["labels"] = subjects.assets / "labels" / labels
    if precision == "int8":
        photos = sorted(p for p in (subjects.assets / "images").iterdir() if p.suffix == ".jpg")
        options["calibrate"] = lambda prep: [prepared(photo, prep) for photo in photos]
    try:
        manifest = export_model(f"{model}.onnx", folder, **options)
    except FusionCamError as error:  # a float16 model takes no other precision, and int8 loses too much of some
        digests.add_error(f"bundles/{name}", error)
        return
    digests.add(f"bundles/{name}/returned", manifest.model_dump(mode="json"))
    digests.add_folder(f"bundles/{name}", folder)
    subjects.bundles[name] = Bundle(name, folder, precision)
