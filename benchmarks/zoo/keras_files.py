"""ONNX files of keras.applications, by keras and by tf2onnx: `python benchmarks/zoo/keras_files.py FOLDER [NAME...]`.

Needs tensorflow and tf2onnx, and nothing of this project. `python benchmarks/zoo.py --files FOLDER` takes the files.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow
import tf2onnx

# A member of each family, with the side of its picture in pixels.
MODELS = {
    "ConvNeXtTiny": 64, "DenseNet121": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64, "InceptionResNetV2": 96,
    "InceptionV3": 96, "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "NASNetMobile": 64, "ResNet50": 64,
    "ResNet50V2": 64, "VGG16": 64, "Xception": 96,
}  # fmt: skip


def build(name: str, side: int) -> Any:
    """Return a model with random weights, none of them zero."""
    keras.utils.set_random_seed(0)
    shape = (side, side, 3)
    model = getattr(keras.applications, name)(weights=None, classes=7, input_shape=shape)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = weight.numpy()
        if "float" in str(value.dtype) and not value.any():
            weight.assign(rng.normal(0, 0.1, value.shape))
    model(np.zeros((1, *shape), np.float32))
    return model


def by_keras(model: Any, path: Path) -> None:
    """Write a model by `Model.export`."""
    model.export(path, format="onnx", verbose=False)


def by_tf2onnx(model: Any, path: Path) -> None:
    """Write a model by tf2onnx."""
    signature = (tensorflow.TensorSpec((None, *model.input_shape[1:]), tensorflow.float32, name="image"),)
    called = tensorflow.function(model, input_signature=signature)
    tf2onnx.convert.from_function(called, input_signature=signature, opset=18, output_path=str(path))


WAYS: dict[str, Callable[[Any, Path], None]] = {"keras": by_keras, "tf2onnx": by_tf2onnx}


def main(folder: Path, names: list[str]) -> None:
    """Write the files of some models, or of all, that are not there yet."""
    for name, side in ((name, MODELS[name]) for name in names or MODELS):
        missing = [way for way in WAYS if not (folder / way / f"{name}.onnx").exists()]
        if not missing or not hasattr(keras.applications, name):
            continue
        model = build(name, side)
        for way in missing:
            path = folder / way / f"{name}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                WAYS[way](model, path)
                print("written", path, flush=True)
            except Exception as error:  # each exporter has its own
                print("not written", path, type(error).__name__, str(error)[:300], flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
