"""ONNX files of paddle.vision, by paddle2onnx: `python benchmarks/zoo/paddle_files.py FOLDER`.

Needs paddlepaddle and paddle2onnx, nothing of this project; `python benchmarks/zoo.py --files FOLDER` takes the files.
"""

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle2onnx
from paddle.static import InputSpec

# A member of each family, with the side of its picture in pixels.
MODELS = {
    "densenet121": 64, "googlenet": 64, "inception_v3": 96, "mobilenet_v1": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "resnet18": 64, "resnext50_32x4d": 64, "shufflenet_v2_x0_25": 64, "squeezenet1_1": 64,
    "vgg11": 64, "wide_resnet50_2": 64,
}  # fmt: skip


class First(paddle.nn.Layer):
    """A model that gives the first of several answers."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        """Wrap a model of several answers."""
        super().__init__()
        self.model = model

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        """Return the first answer."""
        made = self.model(image)
        return made[0] if isinstance(made, list | tuple) else made


def main(folder: Path) -> None:
    """Write all files that are not there yet."""
    for name, side in MODELS.items():
        path = folder / "paddle2onnx" / f"{name}.onnx"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        paddle.seed(0)
        model = First(getattr(paddle.vision.models, name)(pretrained=False, num_classes=7))
        model.eval()
        for parameter in model.parameters():
            if not parameter.numpy().any():
                parameter.set_value(np.random.default_rng(0).normal(0, 0.1, parameter.shape).astype(np.float32))
        stem = path.with_suffix("")
        try:
            paddle.jit.save(model, str(stem), input_spec=[InputSpec([None, 3, side, side], "float32", "image")])
            graph = next(stem.with_suffix(s) for s in (".json", ".pdmodel") if stem.with_suffix(s).exists())
            paddle2onnx.export(
                str(graph), str(stem.with_suffix(".pdiparams")), str(path), opset_version=17, optimize_tool="None"
            )
            print("written", path, flush=True)
        except Exception as error:  # each exporter has its own
            print("not written", path, type(error).__name__, str(error)[:300], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
