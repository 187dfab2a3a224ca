"""config.pbtxt of each model: the options of `fusioncam triton` in the fields of Triton's ModelConfig."""

from dataclasses import dataclass

from fusioncam.export.triton.prototext import Message, Word
from fusioncam.export.triton.tensors import Interface, Tensor
from fusioncam.manifest import CHUNK, GPU_CHUNK, Manifest

QUEUE_DELAY = 500  # microseconds that a chunk which is not full waits for others: little beside the passes it saves
KEPT = 2  # versions served, so that clients of the one before are served while they change over
ENGINES = "/tmp/fusioncam-tensorrt"  # in Triton's container; onnxruntime makes the folder


@dataclass(frozen=True)
class Deployment:
    """The hardware and the number of instances that run the models.

    Attributes:
        kind: The hardware that runs the graphs, `cpu` or `gpu`.
        instances: Explanations at a time.
        tensorrt: Whether TensorRT runs the parts of the graphs that it supports.
    """

    kind: str = "cpu"
    instances: int = 1
    tensorrt: bool = False

    @property
    def chunk(self) -> int:
        """Return the number of masked pictures per run."""
        return GPU_CHUNK if self.kind == "gpu" else CHUNK


def single(name: str, of: Interface, deployment: Deployment, manifest: Manifest) -> Message:
    """Return the configuration of the single graph."""
    return [
        *_head(name, "onnxruntime"),
        "The graph takes one picture, and batches its masked passes itself: no batch dimension for Triton to fill.",
        ("max_batch_size", 0),
        *_tensors(of),
        *_instances(deployment.kind, deployment.instances),
        *_onnxruntime(deployment, manifest, shared=deployment.instances > 1),
        "One explanation of a blank picture when the model is loaded, so that the first request finds it warm.",
        _warmup(of, 0),
    ]


def explain(name: str, of: Interface, deployment: Deployment, manifest: Manifest) -> Message:
    """Return the configuration of the pass for logits, activations and gradients."""
    return [
        *_head(name, "onnxruntime"),
        "One picture per request: this is one pass of an explanation's hundreds.",
        ("max_batch_size", 0),
        *_tensors(of),
        *_instances(deployment.kind, 1),
        *_onnxruntime(deployment, manifest),
        _warmup(of, 0),
    ]


def score(name: str, of: Interface, deployment: Deployment, manifest: Manifest) -> Message:
    """Return the configuration of the masked passes."""
    chunk = deployment.chunk
    if manifest.form.scored:
        return [
            *_head(name, "onnxruntime"),
            "A chunk per request: targets have an axis of their own, so Triton cannot put requests together.",
            ("max_batch_size", 0),
            *_tensors(of),
            *_instances(deployment.kind, 1),
            *_onnxruntime(deployment, manifest, of.within_batch, chunk),
            *(_warmup(of, 0, size) for size in (1, chunk)),
        ]
    of = of.within_batch
    return [
        *_head(name, "onnxruntime"),
        ("max_batch_size", chunk),
        *_tensors(of),
        "A full chunk runs at once; the remainders of several explanations are put together.",
        ("dynamic_batching", [("preferred_batch_size", (chunk,)), ("max_queue_delay_microseconds", QUEUE_DELAY)]),
        *_instances(deployment.kind, 1),
        *_onnxruntime(deployment, manifest, of, chunk),
        *(_warmup(of, size) for size in (1, chunk)),
    ]


def front(name: str, of: Interface, deployment: Deployment, pictures: str) -> Message:
    """Return the configuration of the Python model that drives the other two; scores take `pictures` of that type."""
    return [
        *_head(name, "python"),
        "Pictures of a request share its first dimension; those of several requests meet in the chunks of the scores.",
        ("max_batch_size", 0),
        *_tensors(of),
        "A process each, and an explanation at a time in each.",
        *_instances("cpu", deployment.instances),
        *_parameters({"chunk": str(deployment.chunk), "pictures": pictures}),
    ]


def _head(name: str, backend: str) -> Message:
    return [
        ("name", name),
        ("backend", backend),
        f"The newest {KEPT} versions are served: who names the one before is not cut off by a new one.",
        ("version_policy", [("latest", [("num_versions", KEPT)])]),
    ]


def _tensors(of: Interface) -> Message:
    return [*(("input", t.message) for t in of.inputs), *(("output", t.message) for t in of.outputs)]


def _instances(kind: str, count: int) -> Message:
    return [("instance_group", [("count", count), ("kind", Word(f"KIND_{kind.upper()}"))])]


def _parameters(values: dict[str, str]) -> Message:
    return [("parameters", [("key", k), ("value", [("string_value", v)])]) for k, v in values.items()]


def _onnxruntime(
    deployment: Deployment, manifest: Manifest, batched: Interface | None = None, most: int = 1, shared: bool = False
) -> Message:
    """Return the options of onnxruntime for a graph.

    Args:
        deployment: The hardware.
        manifest: The manifest of the bundle.
        batched: The interface within a batch, for a graph that runs batches of 1 to `most`.
        most: The largest batch.
        shared: Whether the instances can share one session.
    """
    optimization: Message = []
    if "float16" in (manifest.precision, manifest.score_precision):
        optimization += [
            "Basic ones only: of the others one, MatmulTransposeFusion, ends the process on some float16 models.",
            ("graph", [("level", -1)]),
        ]
    if deployment.kind == "gpu":
        optimization.append(("execution_accelerators", _accelerators(deployment, manifest, batched, most)))
    values = {"cudnn_conv_algo_search": "1"}  # heuristic: the default times every algorithm at every new batch size
    if deployment.kind == "cpu":
        values = {"intra_op_thread_count": "0"}  # one per physical core
        # Memory patterns are kept for every shape, and batches have many.
        values |= {"enable_mem_pattern": "false"} if batched is not None else {}
        values |= {"share_session_between_instances": "true"} if shared else {}
    said: Message = [("optimization", optimization)] if optimization else []
    return said + _parameters(values)


def _accelerators(deployment: Deployment, manifest: Manifest, batched: Interface | None, most: int) -> Message:
    """Return the options of TensorRT, if asked for, and those of CUDA, which runs the rest."""
    said: Message = []
    half = batched is not None and manifest.score_precision == "float16"
    if deployment.tensorrt:
        options = {"precision_mode": "FP16" if half else "FP32"}
        if batched is not None:
            # One engine for every batch: otherwise it is built again, for a minute, whenever a larger batch comes.
            shapes = {
                end: ",".join(_shape(t, size if t.name == "image" else 1) for t in batched.inputs)
                for end, size in (("min", 1), ("opt", most), ("max", most))
            }
            options |= {f"trt_profile_{end}_shapes": shape for end, shape in shapes.items()}
        options |= {f"trt_{what}_cache_{o}": v for what in ("engine", "timing") for o, v in _CACHE.items()}
        said.append(("gpu_execution_accelerator", [("name", "tensorrt"), *_options(options)]))
    # 10 bits of each factor do not give exact maps. Without TF32 a graph in float16 gets no tensor cores either.
    exact = {} if half or manifest.precision == "float16" else {"use_tf32": "0"}
    return [*said, ("gpu_execution_accelerator", [("name", "cuda"), *_options(exact)])]


_CACHE = {"enable": "true", "path": ENGINES}


def _shape(tensor: Tensor, rows: int) -> str:
    """Return the shape of so many rows of an input, as TensorRT's profiles have it."""
    return f"{tensor.name}:{'x'.join(map(str, (rows, *tensor.dims)))}"


def _options(values: dict[str, str]) -> Message:
    return [("parameters", [("key", k), ("value", v)]) for k, v in values.items()]


def _warmup(of: Interface, batch: int, pictures: int = 1) -> tuple[str, Message]:
    """Return a request of zeros: the random bits that Triton offers, too, could be NaN, or no class.

    Args:
        of: The inputs.
        batch: The size of Triton's batch; 0 for a model without.
        pictures: The number of pictures where the first axis of `image` is free.
    """
    inputs: Message = []
    for t in of.inputs:
        free = pictures if t.name == "image" else 1
        dims = tuple(free if d < 0 else d for d in t.dims)
        value: Message = [("data_type", Word(t.type)), ("dims", dims), ("zero_data", True)]
        inputs.append(("inputs", [("key", t.name), ("value", value)]))
    return "model_warmup", [("name", f"zeros-{batch or pictures}"), ("batch_size", batch), *inputs]
