"""Outputs that are no scores of classes: the best class, or the scores in the order of their ranks."""

import onnx_ir as ir

from fusioncam.errors import ModelError

# Operators after which a place in the output stands for no class, and a description of their results.
RANKING = {
    "TopK": "ranks, the best first, not classes",
    "ArgMax": "class numbers, not scores",
    "ArgMin": "class numbers, not scores",
    "Hardmax": "only a mark at the best class, not scores",
    "NonMaxSuppression": "the numbers of boxes, not scores of classes",
}
# Operators after which places are classes again, whatever their inputs were.
WEIGHTED = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "FusedConv", "FusedMatMul"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
)
PLACED = ("Scatter", "ScatterElements", "ScatterND", "If", "Loop", "Scan", "Shape", "Size")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN", "IsInf", "Not")
JOINING = ("Concat", "Gather", "GatherElements", "GatherND", "OneHot")  # one ranked input is enough


def ranked(graph: ir.Graph) -> dict[ir.Value, ir.Node]:
    """Return the tensors whose places stand for ranks, each with the node that made ranks of classes.

    A reduction over the ranks (the mean of the k best regions, for each class) ends them. The result of an operator
    that reads ranks beside something else (a threshold) has the places of the first input.
    """
    causes: dict[ir.Value, ir.Node] = {}
    for node in graph:
        cause = node if node.op_type in RANKING else _inherited(node, causes)
        if cause is not None:
            causes.update(dict.fromkeys(node.outputs, cause))
    return causes


def _inherited(node: ir.Node, causes: dict[ir.Value, ir.Node]) -> ir.Node | None:
    kind = node.op_type
    if kind in WEIGHTED or kind in PLACED or kind in COMPARISONS or kind.startswith("Reduce"):
        return None
    inputs = [v for v in node.inputs[kind == "Where" :] if v is not None and v.const_value is None]
    return next((causes[v] for v in (inputs if kind in JOINING else inputs[:1]) if v in causes), None)


def refuse_ranks(output: ir.Value, cause: ir.Node, others: list[str]) -> ModelError:
    """Return the error for an output of ranks.

    Args:
        output: The output.
        cause: The node that made ranks of classes.
        others: Names of outputs that may hold the scores.
    """
    gives = RANKING.get(cause.op_type, "how sure it is of its best class, not scores")
    name = cause.name or cause.outputs[0].name
    instead = f"take another output with --scores: {', '.join(others)}" if others else "cut the graph before it"
    return ModelError(
        f"the model ends in {cause.op_type}: it gives {gives}; {instead} (output {output.name!r}, node {name!r})"
    )
