"""Digests of photos of every kind on their way to the model and back, and of less common endings."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusioncam import export_model
from unchanged.digests import Digests
from unchanged.maps import opened
from unchanged.subjects import PHOTOS, SMALL, Subjects

METHODS = ("grad_cam", "fusion_cam")
RESIZES = ("squash", "crop", "squash_crop", "crop_first")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
EXPORTS: dict[str, dict[str, Any]] = {
    "no gradient": {"gradient": False},
    "sigmoid": {"ending": "sigmoid"},
    "value": {"ending": "value"},
    "shared weights": {"single": True, "shared_weights": True},
    "preset": {"preprocessing": "torchvision"},
    "nothing said": {},
}


def run(digests: Digests, subjects: Subjects) -> None:
    """Add maps and logits by every preprocessing, of every kind of picture file, and of other exports."""
    photo = Path("photo.jpg")
    photo.write_bytes((subjects.assets / "images" / PHOTOS[0]).read_bytes())
    model, other = f"{SMALL.removesuffix('-fp32')}.onnx", "vww_person_mobilenetv1_025_96_logits.onnx"
    for resize in RESIZES:
        for interpolation in INTERPOLATIONS:
            name = f"photos/preprocessing/{resize} {interpolation}"
            with digests.part(name):
                said = {"rescale": 1.0, "resize": resize, "interpolation": interpolation, "crop_fraction": 0.875}
                _add(digests, name, model, photo, preprocessing=said)
    for name, file in _files(photo).items():
        with digests.part(f"photos/files/{name}"):
            digests.add_explanation(f"photos/files/{name}", opened(subjects.small, chosen=METHODS).explain(file))
    for name, options in EXPORTS.items():
        with digests.part(f"photos/exports/{name}"):
            _add(digests, f"photos/exports/{name}", other, photo, **options)


def _add(digests: Digests, name: str, model: str, photo: Path, **options: Any) -> None:
    folder = Path(f"{name.replace('/', ' ')}.fcam")
    manifest = export_model(model, folder, **options)
    digests.add_folder(f"{name}/bundle", folder)
    methods = METHODS if manifest.gradient else ("score_cam", "recipro_cam")
    found = opened(folder, chosen=methods).explain(photo)
    digests.add_explanation(name, found)
    for method in methods:
        digests.add(f"{name}/{method} on the photo", found.on_photo(method))


def _files(photo: Path) -> dict[str, Any]:
    """Return pictures as files of many kinds, and as arrays."""
    pixels = cv2.imread(str(photo))
    grey, deep = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), pixels.astype(np.uint16) * 257
    alpha = np.dstack([pixels, (np.arange(pixels.shape[1]) % 256).astype(np.uint8)[None].repeat(len(pixels), 0)])
    files: dict[str, Any] = {}
    for name, array, ending in (
        ("png", pixels, ".png"), ("grey png", grey, ".png"), ("deep png", deep, ".png"), ("alpha png", alpha, ".png"),
        ("webp", pixels, ".webp"), ("bmp", pixels, ".bmp"), ("gif", pixels, ".gif"), ("tiff", pixels, ".tiff"),
        ("deep tiff", deep, ".tiff"), ("grey jpg", grey, ".jpg"), ("jp2", pixels, ".jp2"), ("ppm", pixels, ".ppm"),
    ):  # fmt: skip
        files[name] = Path(f"{name}{ending}")
        cv2.imwrite(str(files[name]), array)
    for turn in range(1, 9):  # as cameras write it: a block of Exif that says how the photo was held
        files[f"turned {turn}"] = Path(f"turned {turn}.jpg")
        files[f"turned {turn}"].write_bytes(_turned(photo.read_bytes(), turn))
    files["array"] = np.ascontiguousarray(pixels[:, :, ::-1])
    files["input"] = np.random.default_rng(1).uniform(0, 255, (3, 32, 32)).astype(np.float32)
    return files


def _turned(jpeg: bytes, turn: int) -> bytes:
    tags = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + turn.to_bytes(2, "big") + b"\0\0\0\0\0\0"
    block = b"Exif\0\0" + tags
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
