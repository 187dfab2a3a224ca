"""TensorRT's plugins that search for the best boxes, written out in ONNX, as NVIDIA defines them.

onnxruntime has no such operators. What is written gives the boxes and scores that a plugin finds in a picture, one row
each, in place of as many rows as the plugin has room for.
"""

from typing import Any

import onnx

from fusioncam.errors import ModelError

# Their attributes, by our names: what a plugin takes where a node does not say it. Those of mmdeploy's are its own.
EFFICIENT = {
    **{"conf": ("score_threshold", 0.25), "iou": ("iou_threshold", 0.5), "most": ("max_output_boxes", 100)},
    **{"background": ("background_class", -1), "logits": ("score_activation", 0), "mixed": ("class_agnostic", 0)},
    **{"centred": ("box_coding", 0)},
}
BATCHED = {
    **{"conf": ("scoreThreshold", 0.0), "iou": ("iouThreshold", 0.5), "most": ("keepTopK", 100)},
    **{"background": ("backgroundLabelId", -1), "shared": ("shareLocation", 1)},
    **{"normalised": ("isNormalized", 1), "clipped": ("clipBoxes", 1)},
}
MMDEPLOY = {
    **{"conf": ("score_threshold", 0.0), "iou": ("iou_threshold", 0.5), "most": ("keep_topk", 100)},
    **{"background": ("background_label_id", -1), "shared": ("share_location", 1)},
    **{"normalised": ("is_normalized", 1), "clipped": ("clip_boxes", 1)},
}
PLUGINS = {
    **{"EfficientNMS_TRT": EFFICIENT, "BatchedNMS_TRT": BATCHED, "BatchedNMSDynamic_TRT": BATCHED},
    "TRTBatchedNMS": MMDEPLOY,
}
PREFIX = "search"


def write_out_plugins(proto: onnx.ModelProto) -> None:
    """Write plain operators in the place of plugins that search for the best boxes.

    Raises:
        ModelError: A plugin is used in a way that is not supported.
    """
    graph = proto.graph
    for at in reversed(range(len(graph.node))):
        node = graph.node[at]
        if node.op_type not in PLUGINS:
            continue
        written = _written(node)
        outputs = {*node.output}
        del graph.node[at]
        for each in reversed(written):
            graph.node.insert(at, each)
        for value in (*graph.value_info, *graph.output):
            if value.name in outputs:
                for dim in value.type.tensor_type.shape.dim:
                    dim.Clear()


def _written(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes that do what a plugin does."""
    stated = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    options: dict[str, Any] = {name: stated.get(*named) for name, named in PLUGINS[node.op_type].items()}
    if len(node.input) != 2:
        raise _unsupported(node, "decodes boxes itself, from anchors")
    if options["background"] > 0:
        raise _unsupported(node, f"has class {options['background']} as its background, not the first one")
    first, shared = options["background"] + 1, options.get("shared", 1)
    if first and not shared:
        raise _unsupported(node, "has a background, and boxes for each class")
    inside = options.get("clipped") and options["normalised"]
    lines = [
        "rows = Reshape (boxes, four_last)",
        f"each = {'Sigmoid' if options.get('logits') else 'Identity'} (scores)",
        "turned = Transpose <perm = [0, 2, 1]> (each)",
        f"by_class = {'Slice (turned, one, end, one)' if first else 'Identity (turned)'}"
        if shared
        else "by_class = Reshape (each, one_row)",
        "best, number = TopK <axis = 1> (by_class, one)" if options.get("mixed") else "best = Identity (by_class)",
        f"found = NonMaxSuppression <center_point_box = {options.get('centred', 0)}> (rows, best, most, iou, conf)",
        "pairs = Gather <axis = 1> (found, zero_two)",
        f"inside = {'Clip (rows, low, high)' if inside else 'Identity (rows)'}",
        "of_boxes = GatherND (inside, pairs)",
        "of_scores = GatherND (best, found)",
        "classes = Gather <axis = 1> (found, one)",
        "kept_boxes = Reshape (of_boxes, boxes_of_one)",
        "kept_scores = Reshape (of_scores, one_of_one)",
        "row = Reshape (classes, one_of_one)",
        f"kept_classes = Cast <to = {1 if node.op_type.startswith('Batched') else 6}> (row)",
        "length = Shape (of_scores)",
        "counted = Reshape (length, one_of_one)",
        "count = Cast <to = 6> (counted)",
        "column = Reshape (of_scores, column_of_one)",
        "kept = Concat <axis = 2> (kept_boxes, column)",
    ]
    constants = {
        "four_last": "int64[3] {0, -1, 4}", "one_row": "int64[3] {0, 1, -1}", "one": "int64[1] {1}",
        "end": f"int64[1] {{{2**31}}}", "zero_two": "int64[2] {0, 2}",
        "boxes_of_one": "int64[3] {1, -1, 4}", "column_of_one": "int64[3] {1, -1, 1}", "one_of_one": "int64[2] {1, -1}",
        "most": f"int64[1] {{{options['most']}}}", "iou": f"float[1] {{{options['iou']:.9g}}}",
        "conf": f"float[1] {{{options['conf']:.9g}}}", "low": "float {0}", "high": "float {1}",
    }  # fmt: skip
    lines = [f"{name} = Constant <value = {value}> ()" for name, value in constants.items()] + lines
    text = f"search (float[N] boxes, float[N] scores) => (float[N] count) {{ {' '.join(lines)} }}"
    results = (
        ["kept", "kept_classes"] if len(node.output) < 4 else ["count", "kept_boxes", "kept_scores", "kept_classes"]
    )
    renamed = {"boxes": node.input[0], "scores": node.input[1], **dict(zip(results, node.output, strict=False))}
    nodes = list(onnx.parser.parse_graph(text).node)
    for each in nodes:
        for names in (each.input, each.output):
            names[:] = [renamed.get(n, f"{node.output[0]}/{PREFIX}/{n}") for n in names]
    nodes[-1].name = node.name
    return nodes


def _unsupported(node: onnx.NodeProto, why: str) -> ModelError:
    return ModelError(
        f"node {node.name or node.output[0]!r} ({node.op_type}) {why}, which is not read; export the model without it"
    )
