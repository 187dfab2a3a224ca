"""Models of a Triton Inference Server repository, made from a bundle."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fusioncam.errors import OutputError, UsageError
from fusioncam.export.triton import configs
from fusioncam.export.triton.configs import Deployment
from fusioncam.export.triton.repository import NAME, Model, Written, add, real
from fusioncam.export.triton.tensors import TRITON_TYPES, Interface, Tensor, interface, write_whole
from fusioncam.forms import CONFIDENCES, SCORES
from fusioncam.further_inputs import refuse_inputs
from fusioncam.manifest import EXPLAIN_GRAPH, MANIFEST, SCORE_GRAPH, SINGLE_GRAPH, Manifest, read_bundle

__all__ = ["FORMS", "KINDS", "Written", "write_repository"]

FORMS, KINDS = ("single", "bls", "both"), ("cpu", "gpu")
MOST_INSTANCES = 1024
MODEL = Path(__file__).with_name("model.py")


def write_repository(
    bundle: Path,
    repository: Path,
    methods: Sequence[str],
    *,
    name: str | None = None,
    form: str = "single",
    tensorrt: bool = False,
    instances: int = 1,
    kind: str | None = None,
    version: int | None = None,
) -> Written:
    """Add a bundle to a Triton model repository, whole or not at all.

    Args:
        bundle: Folder made by `fusioncam export`.
        repository: The repository, which is made if need be; other models in it stay unchanged.
        methods: Maps that the BLS form has outputs for.
        name: The name of the model that clients ask; by default that of the bundle.
        form: `single` is the graph fusioncam.onnx by itself; `bls` a Python model that drives the explain and the score
            graph; `both` both, the single graph as NAME_single.
        tensorrt: Whether TensorRT runs the parts of the graphs that it supports.
        instances: Explanations at a time.
        kind: The hardware that runs the graphs: `cpu`, or `gpu`, which TensorRT implies.
        version: The number of the version; by default 1, or the one after the highest.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        UsageError: An argument makes no sense, the arguments clash, the bundle lacks the single graph that the form
            needs, or the version exists already.
        OutputError: The repository cannot be written, or holds something else by one of the names.
    """
    deployment = _checked(form, tensorrt, instances, kind)
    manifest = read_bundle(bundle)
    name = _checked_name(name, bundle)
    repository = real(repository)
    if bundle.resolve() in (repository, *repository.parents):
        raise OutputError(f"{repository} lies in the bundle; give another --repo")
    if deployment.kind == "gpu" and manifest.score_precision == "int8":
        raise UsageError(
            "Triton runs int8 bundles on CPUs only; for a GPU export the model again, with --precision fp16"
        )
    if (kind_of_input := manifest.preprocessing.kind) != "pictures":
        raise UsageError(
            f"models of Triton are for pictures, and the model takes {kind_of_input}; use `fusioncam serve`"
        )
    refuse_inputs(manifest.inputs, "a model of Triton")
    if manifest.one_by_one:
        raise UsageError(
            "the model decides once for a whole batch, and Triton puts requests into one; use `fusioncam serve`"
        )
    source = _Source(bundle, manifest, deployment, tuple(methods))
    models = [m for f, of in _FORMS.items() if form in (f, "both") for m in of(source, name, form)]
    return add(repository, models, version)


def _checked(form: str, tensorrt: bool, instances: int, kind: str | None) -> Deployment:
    if form not in FORMS:
        raise UsageError(f"no form {form!r}; use {', '.join(FORMS)}")
    if kind is not None and kind not in KINDS:
        raise UsageError(f"no kind {kind!r}; use {', '.join(KINDS)}")
    if tensorrt and kind == "cpu":
        raise UsageError("TensorRT runs on GPUs; leave out --tensorrt, or use --kind gpu")
    if not 1 <= instances <= MOST_INSTANCES:
        raise UsageError(f"instances must be a whole number, 1 to {MOST_INSTANCES}")
    return Deployment("gpu" if tensorrt or kind == "gpu" else "cpu", instances, tensorrt)


def _checked_name(name: str | None, bundle: Path) -> str:
    name = bundle.resolve().name.removesuffix(".fcam") if name is None else name
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a model: use letters, digits, _, . and -, a letter or digit first, at most 100 "
            "of them; choose one with --name"
        )
    return name


@dataclass(frozen=True)
class _Source:
    """The source of the models."""

    bundle: Path
    manifest: Manifest
    deployment: Deployment
    methods: tuple[str, ...]


def _single(source: _Source, name: str, form: str) -> list[Model]:
    """Return the model that is the single graph."""
    graph = source.bundle / SINGLE_GRAPH
    if SINGLE_GRAPH not in source.manifest.files:
        raise UsageError(
            f"{source.bundle} holds no {SINGLE_GRAPH}; export the model again with --single, or use --form bls"
        )
    name = f"{name}_single" if form == "both" else name
    labels = None if source.manifest.form.scored else source.manifest.labels  # of maps, places would get the names
    config = configs.single(name, interface(graph, labels is not None), source.deployment, source.manifest)
    return [Model(name, "single graph", config, labels, {"model.onnx": partial(shutil.copyfile, graph)})]


def _bls(source: _Source, name: str, form: str) -> list[Model]:
    """Return the Python model, after the two models that it needs."""
    made = []
    for part, graph, config_of in (("explain", EXPLAIN_GRAPH, configs.explain), ("score", SCORE_GRAPH, configs.score)):
        of = interface(source.bundle / graph)
        config = config_of(f"{name}_{part}", of, source.deployment, source.manifest)
        files = {"model.onnx": partial(write_whole, source.bundle / graph)}
        made.append(Model(f"{name}_{part}", f"{part} graph", config, None, files))
    config = configs.front(name, _front(source), source.deployment, of.inputs[0].type)
    copies = {"model.py": MODEL, MANIFEST: source.bundle / MANIFEST}
    files = {file: partial(shutil.copyfile, path) for file, path in copies.items()}
    return [*made, Model(name, "BLS model", config, source.manifest.labels, files)]


def _front(source: _Source) -> Interface:
    """Return the interface of the Python model, which is that of the service, too."""
    (height, width), classes = source.manifest.preprocessing.size, source.manifest.classes
    form, labels = source.manifest.form, source.manifest.labels is not None
    inputs = (
        Tensor("image", "TYPE_FP32", (-1, *source.manifest.preprocessing.shape), optional=True),
        Tensor("image_bytes", "TYPE_STRING", (-1,), optional=True),
        *(Tensor(t.name, TRITON_TYPES[t.dtype], (-1, *t.shape), optional=True) for t in form.asked),
        Tensor("method", "TYPE_STRING", (-1,), optional=True),
        Tensor("budget", "TYPE_STRING", (-1,), optional=True),
    )
    scores = [Tensor(n, "TYPE_FP32", (-1, classes), labels=labels) for n in ("logits", "probabilities")]
    if form.scored:
        scores = [Tensor(n, "TYPE_FP32", (-1,)) for n in (SCORES, CONFIDENCES)]
        places = [t for t in form.targets if t.name in ("region", "box")]
        scores += [Tensor(f"explained_{t.name}", "TYPE_FP32", (-1, *t.shape)) for t in places]
    maps = [Tensor(m, "TYPE_FP32", (-1, height, width)) for m in source.methods]
    of_each = (("class_index", "TYPE_INT64"), ("passes", "TYPE_INT64"), ("flags", "TYPE_STRING"))
    return Interface(inputs, (*maps, *scores, *(Tensor(n, t, (-1,)) for n, t in of_each)))


_FORMS: dict[str, Callable[[_Source, str, str], list[Model]]] = {"bls": _bls, "single": _single}
