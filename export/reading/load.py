"""The loader of model files: of any age, into onnx-ir at a current opset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from fusioncam.errors import ModelError
from fusioncam.export.gradient import ancestors, bodies
from fusioncam.export.gradient.rules.elementwise import drops
from fusioncam.export.lowering import Uses, lower, reordered, straighten
from fusioncam.export.reading.file import OPSET, read_model
from fusioncam.export.reading.opset import convert
from fusioncam.export.sessions import failing_as, quiet

# Operators whose numbers differ from run to run.
RANDOM = (
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Bernoulli", "Multinomial"),
)


@dataclass(frozen=True)
class Conversion:
    """The tensors that were rewritten on loading a model, to compare it with its source.

    Attributes:
        source: The model as the file has it.
        rewritten: By their names in the source, the tensors that come out of what was rewritten, and the outputs.
    """

    source: onnx.ModelProto
    rewritten: dict[str, ir.Value]


def load_converted(path: Path, newer: bool = False) -> tuple[ir.Model, Conversion | None]:
    """Read a model, bring it to a current opset, and fold its constants; see `converted`."""
    return converted(read_model(path, newer), path)


def converted(proto: onnx.ModelProto, path: Path, refused: Uses | None = None) -> tuple[ir.Model, Conversion | None]:
    """Bring a model to a current opset, and fold its constants.

    Args:
        proto: The model.
        path: Its file, for errors.
        refused: Uses of operators that are written in others; see `lower`.

    Returns:
        The model, and what was rewritten, or None where nothing was.

    Raises:
        ModelError: See `to_current_opset`; also a constant that holds NaN (infinities serve as masks).
    """
    with failing_as(lambda why: ModelError(f"{path} is damaged or truncated: {why}")), quiet():
        model = ir.from_proto(proto)
        assert isinstance(model, ir.Model)
        passes.RemoveInitializersFromInputsPass()(model)
        for node in model.graph.all_nodes():
            node.name = node.name or next((o.name for o in node.outputs if o.name), None)
        outputs = [str(o.name) for o in model.graph.outputs]
        conversion = to_current_opset(model, proto, refused)
        passes.NameFixPass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        if passes.LiftSubgraphInitializersToMainGraphPass()(model).modified:
            passes.NameFixPass()(model)
        fold(model)
        conversion = _straightened(model, conversion, proto)
        if conversion is not None:  # folding takes copies away: an output may be another tensor now
            conversion.rewritten.update(zip(outputs, model.graph.outputs, strict=True))
        _refuse_bad_constants(model, path)
    return model, conversion


def _straightened(model: ir.Model, conversion: Conversion | None, proto: onnx.ModelProto) -> Conversion | None:
    """Write out what is known of loops and sequences, and return what was rewritten until now."""
    names: list[str] = []
    while found := straighten(model):
        names += found
        passes.NameFixPass()(model)
        fold(model)
    given = {name for node in proto.graph.node for name in node.output}.intersection(names)
    if not given:
        return conversion
    conversion = conversion or Conversion(proto, {})
    conversion.rewritten.update({str(o.name): o for node in model.graph for o in node.outputs if o.name in given})
    return conversion


def to_current_opset(model: ir.Model, proto: onnx.ModelProto, refused: Uses | None = None) -> Conversion | None:
    """Bring a model to opset 18, or leave it at its own where that is later; put local functions in their place.

    Args:
        model: The model, which is changed.
        proto: The same, as it was read.
        refused: Uses of operators that are written in others; see `lower`.

    Returns:
        What was rewritten, or None where nothing was.

    Raises:
        ModelError: An operator has no counterpart in the newer opset.
    """
    versions = [model.opset_imports[""], *(f.opset_imports.get("", OPSET) for f in model.functions.values())]
    called = [o.name for node in model.graph if node.op_identifier() in model.functions for o in node.outputs]
    _inline(model)
    model.graph.sort()
    if min(versions) < max(*versions, OPSET):
        passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    rewritten = convert(model.graph, versions[0], max(*versions, OPSET))
    model.opset_imports[""] = max(*versions, OPSET)
    model.ir_version = max(model.ir_version, 8)
    while lowered := lower(model, refused):
        rewritten += lowered
        _inline(model)
        model.graph.sort()
        convert(model.graph, model.opset_imports[""], model.opset_imports[""])
    if not called and not rewritten and min(versions) >= OPSET:
        return None
    names = {*called, *rewritten, *(o.name for o in model.graph.outputs)} - reordered(model.graph)
    return Conversion(proto, {str(o.name): o for node in model.graph for o in node.outputs if o.name in names})


def _inline(model: ir.Model) -> None:
    """Put local functions in the place of their calls; their nodes remember the opset they are of."""
    for function in model.functions.values():
        function.sort()
        version = function.opset_imports.pop("", None)
        for node in function.all_nodes():
            if node.domain == "":
                node.version = version
    passes.InlinePass()(model)
    model.functions.clear()  # what nothing calls


def fold(model: ir.Model) -> None:
    """Compute constants beforehand and drop unused nodes; random ones stay, to be found."""
    with quiet():
        optimizer.fold_constants_ir(model, should_fold=lambda node: False if node.op_type in RANDOM else None)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.RemoveUnusedNodesPass()(model)


def refuse_random(output: ir.Value) -> None:
    """Refuse nodes that make a model give another output on each run.

    Raises:
        ModelError: A node from which the output is computed is random; it is named.
    """
    todo = sorted(ancestors(output), key=lambda node: node.name or "")
    while todo:
        node = todo.pop(0)
        todo += [inner for graph in bodies(node) for inner in graph]
        if node.domain == "" and (node.op_type in RANDOM or drops(node)):
            what = "drops values at random (training_mode)" if node.op_type == "Dropout" else "makes random numbers"
            raise ModelError(
                f"node {node.name!r} ({node.op_type}) {what}: each run of the model gives another output; "
                "export the model in evaluation mode"
            )


def _refuse_bad_constants(model: ir.Model, path: Path) -> None:
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        if value.const_value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
            array = value.const_value.numpy()
            if np.isnan(array).any():
                raise ModelError(f"tensor {name!r} of {path} holds NaN; its weights are damaged: export it again")
