"""What the service says of itself and of its models."""

from collections.abc import Mapping
from typing import Any

import fusioncam
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.prepared_request import FIGURES, INPUTS
from fusioncam.runtime.service.protocol.schemas import IndexEntry, ModelInfo, ServerInfo, TensorInfo
from fusioncam.runtime.service.served_model import VERSION, ServedModel
from fusioncam.runtime.service.settings import Settings

PLATFORM = "fusioncam"
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "parameters", "statistics"]
SERVER = ServerInfo(name="fusioncam", version=fusioncam.__version__, extensions=EXTENSIONS)


def metadata(name: str, served: ServedModel) -> ModelInfo:
    """A model's inputs and outputs."""
    height, width = served.size
    classes = served.explainer.manifest.classes
    inputs = {"image": [-1, 3, height, width]}
    figures = {"logits": [-1, classes], "probabilities": [-1, classes], "class_index": [-1]}
    maps = [TensorInfo(name=m, datatype="FP32", shape=[-1, height, width]) for m in served.methods]
    return ModelInfo(
        name=name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=[_info(i, datatype, inputs.get(i, [-1])) for i, datatype in INPUTS.items()],
        outputs=[*maps, *(_info(o, datatype, figures[o]) for o, datatype in FIGURES.items())],
    )


def _info(name: str, datatype: str, shape: list[int]) -> TensorInfo:
    return TensorInfo.model_validate({"name": name, "datatype": datatype, "shape": shape})


def index(models: Mapping[str, ServedModel]) -> list[IndexEntry]:
    """The models there are."""
    return [IndexEntry(name=name, version=VERSION, state="READY", reason="") for name in models]


def config(name: str, served: ServedModel, settings: Settings) -> dict[str, Any]:
    """A model's configuration as Triton writes it, and what a page needs to know of it under `fusioncam`.

    `max_batch_size` is 0, as the first axis is part of the shapes: an image's may be left out.
    """
    info, manifest = metadata(name, served), served.explainer.manifest

    def tensors(some: list[TensorInfo]) -> list[dict[str, Any]]:
        types = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
        return [{"name": t.name, "data_type": types[t.datatype], "dims": t.shape} for t in some]

    return {
        "name": name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [{**t, "optional": True} for t in tensors(info.inputs)],
        "output": tensors(info.outputs),
        "fusioncam": {
            "labels": manifest.labels,
            "classes": manifest.classes,
            "methods": served.methods,
            "size": served.size,
            "layer": manifest.layer.name,
            "channels": manifest.layer.shape[0],
            "ending": manifest.ending,
            "preprocessing": manifest.preprocessing.model_dump(),
            "limits": settings.model_dump(include={"timeout", "max_body", "max_pixels", "max_pictures"}),
        },
    }


def statistics(models: Mapping[str, ServedModel], metrics: Metrics) -> dict[str, Any]:
    """Triton's statistics of models, summed over all processes that share their metrics."""
    return {"model_stats": [_statistics(name, metrics) for name in models]}


def _statistics(name: str, metrics: Metrics) -> dict[str, Any]:
    ended, stages = metrics.inferences(name), metrics.stages(name)
    computed = [entry for stage, entry in stages.items() if stage not in ("decode", "encode", "queue")]
    pictures = max((count for count, _ in computed), default=0)
    none = (0, 0.0)
    return {
        "name": name,
        "version": VERSION,
        "last_inference": int(metrics.last_inference(name) * 1000),
        "inference_count": pictures,
        "execution_count": pictures,
        "inference_stats": {
            "success": _duration(ended["success"]),
            "fail": _duration(ended["fail"]),
            "queue": _duration(stages.get("queue", none)),
            "compute_input": _duration(stages.get("decode", none)),
            "compute_infer": _duration((pictures, sum(seconds for _, seconds in computed))),
            "compute_output": _duration(stages.get("encode", none)),
        },
        "batch_stats": [],
    }


def _duration(entry: tuple[int, float]) -> dict[str, int]:
    return {"count": entry[0], "ns": int(entry[1] * 1e9)}
