"""Metadata of the service and of its models: inputs, outputs, configuration, statistics."""

from collections.abc import Iterable, Sequence
from typing import Any

import fusioncam
from fusioncam.layer_names import short_layer_name
from fusioncam.runtime.demo import is_demo_model
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.outputs import available_outputs
from fusioncam.runtime.service.protocol.prepared_request import INPUTS
from fusioncam.runtime.service.protocol.schemas import ModelInfo, ServerInfo, TensorInfo
from fusioncam.runtime.service.protocol.targets import TARGET_INPUTS, fitting_names
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

PLATFORM = "fusioncam"
EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
]
SERVER = ServerInfo(name="fusioncam", version=fusioncam.__version__, extensions=EXTENSIONS)


def metadata(model: ServedModel, settings: Settings, versions: Sequence[str]) -> ModelInfo:
    """Return the inputs and outputs of a model, its versions, and the defaults of its requests."""
    size = list(model.size) if model.manifest.free_size is None else [-1] * len(model.size)
    classes = model.manifest.classes
    inputs = {
        "image": [-1, model.manifest.preprocessing.channels, *size],
        "point": [-1, 2],
        "box": [-1, 4],
        "region": [-1, -1, -1],
        "reference": [-1, classes],
    }
    fitting = {*(INPUTS.keys() - {*TARGET_INPUTS, "class_index"}), *fitting_names(model.manifest)}
    figures = {"logits": [-1, classes], "probabilities": [-1, classes], "verdict": [-1, 1], "title": [-1, 1]}
    figures |= {"region": [-1, *size], "label": [-1, 1], "box": [-1, 4], "detections": [-1, 1]}
    maps = [TensorInfo(name=m, datatype="FP32", shape=[-1, *size]) for m in model.methods]
    return ModelInfo(
        name=model.name,
        versions=list(versions),
        platform=PLATFORM,
        inputs=[_info(i, datatype, inputs.get(i, [-1])) for i, datatype in INPUTS.items() if i in fitting],
        outputs=[*maps, *(_info(o, t, figures.get(o, [-1])) for o, t in available_outputs(model).items())],
        parameters=defaults(settings),
    )


def defaults(settings: Settings) -> dict[str, str]:
    """Return the parameters that a request has where it names none."""
    return {"budget": settings.budget} | ({} if settings.explain_if is None else {"explain_if": settings.explain_if})


def _info(name: str, datatype: str, shape: list[int]) -> TensorInfo:
    return TensorInfo.model_validate({"name": name, "datatype": datatype, "shape": shape})


def config(model: ServedModel, settings: Settings) -> dict[str, Any]:
    """Return the configuration of a model as Triton writes it, and what a page needs to know under `fusioncam`.

    `max_batch_size` is 0, as the first axis is part of the shapes: that of an image may be left out.
    """
    info, manifest = metadata(model, settings, [model.version]), model.manifest

    def tensors(infos: list[TensorInfo]) -> list[dict[str, Any]]:
        types = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
        return [{"name": t.name, "data_type": types[t.datatype], "dims": t.shape} for t in infos]

    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"all": {}},
        "max_batch_size": 0,
        "input": [{**t, "optional": True} for t in tensors(info.inputs)],
        "output": tensors(info.outputs),
        "parameters": {name: {"string_value": value} for name, value in info.parameters.items()},
        "fusioncam": {
            "labels": manifest.labels,
            "classes": manifest.classes,
            "task": manifest.task,
            "targets": fitting_names(manifest),
            "levels": len(manifest.layers),
            "detector": manifest.detector and manifest.detector.model_dump(),
            "methods": model.methods,
            "size": model.size,
            "free_size": manifest.free_size and manifest.free_size.model_dump(include={"step", "least"}),
            "layer": " + ".join(layer.name for layer in manifest.layers),
            "layer_title": " + ".join(short_layer_name(layer.name) for layer in manifest.layers),
            "samples": settings.samples is not None or is_demo_model(manifest),
            "channels": sum(layer.shape[0] for layer in manifest.layers),
            "ending": manifest.ending,
            "preprocessing": manifest.preprocessing.model_dump(),
            "limits": settings.model_dump(include={"timeout", "max_body", "max_pixels", "max_pictures"}),
        },
    }


def statistics(models: Iterable[ServedModel], metrics: Metrics) -> dict[str, Any]:
    """Return Triton's statistics of models, summed over their versions and all processes that share their metrics."""
    return {"model_stats": [_statistics(model, metrics) for model in models]}


def _statistics(model: ServedModel, metrics: Metrics) -> dict[str, Any]:
    name = model.name
    outcomes, stages = metrics.durations("inference", name), metrics.durations("stage", name)
    computed = [duration for stage, duration in stages.items() if stage not in ("decode", "encode", "queue")]
    pictures = max((count for count, _ in computed), default=0)

    def entry(duration: tuple[int, float] | None) -> dict[str, int]:
        count, seconds = duration or (0, 0.0)
        return {"count": count, "ns": int(seconds * 1e9)}

    return {
        "name": name,
        "version": model.version,
        "last_inference": int(metrics.last_inference(name) * 1000),
        "inference_count": pictures,
        "execution_count": pictures,
        "inference_stats": {
            "success": entry(outcomes.get("success")),
            "fail": entry(outcomes.get("fail")),
            "queue": entry(stages.get("queue")),
            "compute_input": entry(stages.get("decode")),
            "compute_infer": entry((pictures, sum(seconds for _, seconds in computed))),
            "compute_output": entry(stages.get("encode")),
        },
        "batch_stats": [],
    }
