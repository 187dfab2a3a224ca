"""Build time: an image classifier becomes a bundle of plain ONNX graphs that also yield activations and gradients."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusioncam.errors import ModelError
from fusioncam.export import facts
from fusioncam.export.bundle import explain_graph, whole_folder, write_graphs
from fusioncam.export.canonical import Classifier, canonicalize
from fusioncam.export.check import check, compare_logits
from fusioncam.export.cost import Cost, chunk_bytes, cost, seconds_per_pass
from fusioncam.export.from_torch import save_onnx
from fusioncam.export.gradient import path, unsupported
from fusioncam.export.layers import Candidate, candidates, choose
from fusioncam.manifest import EXPLAIN_GRAPH, MANIFEST, SCORE_GRAPH, WEIGHTS, Layer, Manifest, Source, sha256

if TYPE_CHECKING:
    import torch

__all__ = ["Inspection", "check", "export_model", "export_torch", "inspect_model"]

TOOLS = ("onnx", "onnx-ir", "onnxscript", "numpy", "fusioncam")


@dataclass(frozen=True)
class Inspection:
    """What `inspect_model` finds.

    Attributes:
        classifier: The model in canonical form.
        layers: Every candidate layer with the predicted cost of an explanation by it.
        default: The candidate `export_model` takes when not told otherwise, or None.
        reason: Why there is no default.
        missing: Operators between image and logits that have no gradient rule, and how often each occurs.
    """

    classifier: Classifier
    layers: list[tuple[Candidate, Cost]]
    default: Candidate | None
    reason: str | None
    missing: Mapping[str, int]


def inspect_model(
    model: str | os.PathLike[str], *, size: tuple[int, int] | None = None, output: str | None = None
) -> Inspection:
    """List what a model could be explained by, and at what cost.

    Args:
        model: The ONNX file.
        size: (H, W) of the input, for a model that leaves them open.
        output: The output that holds the class scores, where there are several.

    Raises:
        ModelError: The file cannot be read or is no classifier of one image.
        UsageError: `size` or `output` does not fit the model.
    """
    classifier = canonicalize(Path(model), size, output)
    found = candidates(classifier)
    seconds, most = seconds_per_pass(classifier), chunk_bytes(classifier)
    try:
        default, reason = choose(found), None
    except ModelError as error:
        default, reason = None, str(error)
    nodes = unsupported(path(classifier.image, classifier.logits))
    missing = Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes)
    return Inspection(classifier, [(c, cost(c, seconds, most)) for c in found], default, reason, missing)


def export_model(
    model: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    layer: str | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Manifest:
    """Turn an ONNX classifier into a bundle.

    The bundle's graphs are run against the source before the folder is put in place, so what is there is right.

    Args:
        model: The ONNX file; opset 7 or later, float32 or float16.
        bundle: The folder to make, usually `NAME.fcam`; an older bundle there is replaced.
        layer: Tensor or node to explain by; by default chosen (see `inspect_model`).
        size: (H, W) of the input, for a model that leaves them open.
        output: The output that holds the class scores, where there are several.
        labels: Text file with one class name a line; by default what the source says.
        preprocessing: Fields of `fusioncam.manifest.Preprocessing`, or `{"preset": NAME}` with more fields over it; by
            default what the source says.

    Returns:
        The manifest, as written.

    Raises:
        ModelError: The model cannot be read, is no classifier of one image, or has no rule for an operator.
        UsageError: An argument does not fit the model.
        OutputError: The bundle cannot be written.
    """
    source, target = Path(model), Path(bundle)
    classifier = canonicalize(source, size, output)
    every = {str(o.name) for node in classifier.model.graph for o in node.outputs}
    chosen = choose(candidates(classifier), layer, every)
    metadata = dict(classifier.model.metadata_props)
    names = facts.labels(metadata, source.parent, classifier.classes, Path(labels) if labels is not None else None)
    usual = "raw" if classifier.takes_bytes else "torchvision"
    prep = facts.preprocessing(metadata, source.parent, classifier.size, preprocessing or {}, usual)
    explain = explain_graph(classifier.model, chosen.name, chosen.layout)
    with whole_folder(target) as folder:
        write_graphs(folder, {EXPLAIN_GRAPH: explain, SCORE_GRAPH: classifier.model})
        manifest = Manifest(
            source=_source(source, target, classifier),
            layer=Layer(name=chosen.name, shape=chosen.shape, roles=chosen.layout.roles, offset=chosen.layout.offset),
            classes=classifier.classes,
            ending=classifier.ending,
            precision=classifier.precision,
            opset=classifier.model.opset_imports[""],
            preprocessing=prep,
            labels=names,
            tools={tool: version(tool) for tool in TOOLS},
            files={name: sha256(folder / name) for name in (EXPLAIN_GRAPH, SCORE_GRAPH, WEIGHTS)},
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for finding in compare_logits(folder, manifest, source):
            if not finding.ok:
                raise ModelError(f"the exported graph is wrong: {finding.what}: off by {finding.error:.1e}")
    return manifest


def _source(source: Path, target: Path, classifier: Classifier) -> Source:
    relative = os.path.relpath(source.resolve(), target.resolve()).replace(os.sep, "/")
    return Source(path=relative, sha256=sha256(source), input=classifier.input_name, output=classifier.output_name)


def export_torch(
    module: "torch.nn.Module", example: "torch.Tensor", bundle: str | os.PathLike[str], **options: Any
) -> Manifest:
    """Turn a torch classifier into a bundle: its plain forward pass is exported first, to an `.onnx` file beside it.

    Args:
        module: An image classifier.
        example: One input (1, 3, H, W).
        bundle: The folder to make, usually `NAME.fcam`.
        options: As for `export_model`.

    Raises:
        ModelError: torch is missing or cannot export the module; else as `export_model`.
    """
    target = Path(bundle)
    return export_model(save_onnx(module, example, target.with_suffix(".onnx")), target, **options)
