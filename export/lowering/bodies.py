"""Operators that ONNX defines by a body of other operators: the body becomes a local function, which is inlined."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.export.gradient import CARRY_NO_GRADIENT, RULES
from fusioncam.export.gradient.paths import OF_PIXELS
from fusioncam.export.gradient.rules import attention
from fusioncam.export.lowering.table import LOWERINGS, main_outputs

# Operators with a body that stay: one is done for each picture alone (`batch/dynamic.py`), one is refused as random,
# and windows are made of a size.
KEPT = ("DynamicQuantizeLinear", "Bernoulli", "BlackmanWindow", "HammingWindow", "HannWindow")

# Operators with a rule and a body: whether this use is beyond the rule. Shapes are inferred, where they can be.
Uses = Mapping[str, Callable[[ir.Node], bool]]
BEYOND_THE_RULE: Uses = {"Attention": attention.beyond_the_rule}

DOMAIN = "fusioncam.bodies"


def mark_bodies(model: ir.Model, refused: Uses | None = None) -> list[str]:
    """Make local functions of the bodies of operators without a rule, and calls of them of the nodes.

    Args:
        model: A model at a current opset.
        refused: Uses of operators that get their body in any case.

    Returns:
        Names of the tensors of the main graph that the calls compute.
    """
    tables = (BEYOND_THE_RULE, refused or {})
    partly = {op_type for table in tables for op_type in table}
    nodes = [node for node in model.graph.all_nodes() if _has_body(node, partly)]
    if not nodes:
        return []
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    names: list[str] = []
    carrying, computed = _carrying(model), main_outputs(model)
    for node in nodes:
        if carrying.isdisjoint(node.outputs) or not _wants_body(node, tables):
            continue
        body = _body(node, model.opset_imports[""])
        if body is None:
            continue
        body.domain, body.name = DOMAIN, f"{node.op_type}_{len(model.functions)}"
        _fit(node, body)
        function = ir.from_proto(body)
        assert isinstance(function, ir.Function)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = DOMAIN, body.name
        names += computed[node]
    return names


def _carrying(model: ir.Model) -> set[ir.Value]:
    """Return the outputs of nodes that depend on the inputs of a graph and can hold scores."""
    found: set[ir.Value] = set()
    for node in model.graph.all_nodes():  # a node with branches is taken to depend on them
        if _graphs(node) or any(v is not None and (v in found or v.is_graph_input()) for v in node.inputs):
            pixels = node.op_type in OF_PIXELS
            found.update(o for o in node.outputs if pixels or o.dtype not in CARRY_NO_GRADIENT)
    return found


def _graphs(node: ir.Node) -> list[str]:
    """Return the names of the attributes that hold graphs."""
    return [n for n, a in node.attributes.items() if a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)]


def _known(node: ir.Node) -> bool:
    """Tell whether an operator has a rule or a lowering."""
    return (node.domain, node.op_type) in RULES or (node.domain, node.op_type) in LOWERINGS


def _wants_body(node: ir.Node, tables: Sequence[Uses]) -> bool:
    """Tell whether a node is to get its body: nothing else is known of its operator, or of this use."""
    return not _known(node) or any(table[node.op_type](node) for table in tables if node.op_type in table)


def _has_body(node: ir.Node, partly: Collection[str]) -> bool:
    """Tell whether ONNX defines an operator by a body, and nothing else is known of it, or not of each use."""
    if node.domain not in ("", "ai.onnx.preview") or node.op_type in KEPT:
        return False
    definitions = cast("Any", onnx.defs)  # whose stubs lack some functions
    if (_known(node) and node.op_type not in partly) or not definitions.has(node.op_type, domain=node.domain):
        return False
    schema = definitions.get_schema(node.op_type, node.domain)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _body(node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    """Return the body of a node by the newest definition up to an opset; None where ONNX has none for its types."""
    version = opset if node.domain == "" else onnx.defs.get_schema(node.op_type, node.domain).since_version
    schema: Any = onnx.defs.get_schema(node.op_type, version, node.domain)  # its stubs lack these functions
    fixed = [v for v in schema.function_opset_versions if v <= opset]
    if fixed:
        data = schema.get_function_with_opset_version(max(fixed))
    else:
        varying = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        if not varying:
            return None
        kinds = [_type(v).SerializeToString() for v in node.inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            max(varying), ir.to_proto(node).SerializeToString(), kinds
        )
    return onnx.FunctionProto.FromString(data) if data else None


def _fit(node: ir.Node, body: onnx.FunctionProto) -> None:
    """Bring a node and the body that it calls to the same attributes and outputs."""
    for name in _graphs(node):
        del node.attributes[name]  # the body holds what is in them
    defaults = onnx.defs.get_schema(node.op_type, node.domain).attributes
    for name in body.attribute:
        if name not in node.attributes and defaults[name].default_value.type != onnx.AttributeProto.UNDEFINED:
            node.attributes[name] = cast("ir.Attr", ir.from_proto(defaults[name].default_value))
    del body.output[len(node.outputs) :]
    for name in {*body.output} - {o for n in body.node for o in n.output}:  # of no use to the call
        body.node.append(onnx.helper.make_node("Constant", [], [name], value_float=0.0))


def _type(value: ir.Value | None) -> onnx.TypeProto:
    """Return the type of a tensor; an empty one where it is unknown."""
    if value is None or value.dtype is None:
        return onnx.TypeProto()
    shape = None if value.shape is None else [d if isinstance(d, int) else str(d) for d in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype), shape)
