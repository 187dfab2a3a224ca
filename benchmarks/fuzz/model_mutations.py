"""Ways to spoil an ONNX model with knowledge of its fields."""

import random
from collections.abc import Callable

import onnx
from onnx import AttributeProto, TensorProto, helper

from fuzz.byte_mutations import OF_BYTES

INTEGERS = (0, 1, -1, 2, 3, 7, 255, 1 << 20, 1 << 31, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
NAMES = (
    "", "x", "a", "w", "logits", "image", "activations", "class_index", "gone", "\u202e", "a\nb", "a/b", "../a", "%s",
    "ä" * 300, "x" * 70_000, "\x00", "[red]",
)  # fmt: skip
OPERATORS = (
    "Relu", "Conv", "MatMul", "Reshape", "Softmax", "Loop", "If", "Scan", "Split", "Identity", "TopK", "ArgMax", "LSTM",
    "NonZero", "RandomNormal", "Bernoulli", "Dropout", "Einsum", "Resize", "Upsample", "SequenceConstruct", "Tile",
    "Expand", "Range", "Pad", "Gather", "ScatterND", "Slice", "Attention", "QLinearConv", "Optional", "Constant",
    "ConstantOfShape", "StringNormalizer", "GridSample", "NoSuchOperator", "", "MaxPool", "BatchNormalization", "Cast",
)  # fmt: skip
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "no.such.domain", "ai.onnx.preview.training")

Mutation = Callable[[random.Random, onnx.ModelProto], None]


def _pick(rng: random.Random, items):
    return rng.choice(list(items)) if len(items) else None


def change_node(rng: random.Random, model: onnx.ModelProto) -> None:
    """A node is of another operator, domain or name."""
    if (node := _pick(rng, model.graph.node)) is not None:
        name = rng.choice(("op_type", "op_type", "domain", "name", "overload"))
        setattr(node, name, rng.choice({"op_type": OPERATORS, "domain": DOMAINS}.get(name, NAMES)))


def change_edge(rng: random.Random, model: onnx.ModelProto) -> None:
    """A node reads or writes another tensor: nothing, itself, a later one, one of another shape."""
    nodes = model.graph.node
    if (node := _pick(rng, nodes)) is None:
        return
    edges = rng.choice((node.input, node.input, node.output))
    every = [name for n in nodes for name in (*n.input, *n.output)]
    way = rng.random()
    if way < 0.6 and len(edges):
        edges[rng.randrange(len(edges))] = rng.choice((*every, *every, rng.choice(NAMES)))
    elif way < 0.8:
        edges.append(rng.choice((*every, "")))
    elif len(edges):
        edges.pop()


def change_nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    """A node is gone, stands there twice, or elsewhere."""
    nodes = list(model.graph.node)
    if not nodes:
        return
    at = rng.randrange(len(nodes))
    way = rng.randrange(4)
    if way == 0:
        del nodes[at]
    elif way == 1:
        nodes.insert(rng.randrange(len(nodes)), nodes[at])
    elif way == 2:
        rng.shuffle(nodes)
    else:
        nodes = nodes[: at + 1]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def change_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """An attribute is of another type or value, is gone, is new, stands there twice, or refers to nothing."""
    with_some = [n for n in model.graph.node if n.attribute]
    node = _pick(rng, with_some or model.graph.node)
    if node is None:
        return
    attribute = _pick(rng, node.attribute)
    way = rng.randrange(7)
    if attribute is None or way == 0:
        names = ("axis", "axes", "pads", "group", "to", "value", "kernel_shape", "perm", "mode", "alpha", "body", "x")
        node.attribute.append(helper.make_attribute(rng.choice(names), rng.choice((1, 1.5, "a", [1, 2], [0.5]))))
    elif way == 1:
        attribute.type = rng.randrange(15)
    elif way == 2:
        node.attribute.remove(attribute)
    elif way == 3:
        node.attribute.append(attribute)
    elif way == 4:
        attribute.name, attribute.ref_attr_name = rng.choice((("axis", ""), (attribute.name, "other"), ("", "")))
    else:
        _change_value(rng, attribute)


def _change_value(rng: random.Random, attribute: AttributeProto) -> None:
    attribute.i, attribute.f = rng.choice(INTEGERS) % (1 << 63), rng.choice(FLOATS)
    if rng.random() < 0.5:
        attribute.s = rng.choice((b"", b"\xff\xfe", b"SAME_LOWER", b"linear", b"x" * 100_000, b"ij,jk->ik"))
    if attribute.ints:
        way = rng.randrange(4)
        if way == 0:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice([i for i in INTEGERS if abs(i) < 1 << 63])
        elif way == 1:
            attribute.ints.append(rng.choice((0, 1, -1)))
        elif way == 2:
            del attribute.ints[rng.randrange(len(attribute.ints)) :]
        else:
            attribute.ints[:] = [rng.choice((0, 1, 2, 1 << 30))] * rng.choice((1, 4, 1000))
    if attribute.HasField("t"):
        _change_tensor(rng, attribute.t)


def change_opset(rng: random.Random, model: onnx.ModelProto) -> None:
    """The opset, or the version of the format, is another, is missing, or is told twice."""
    way = rng.randrange(4)
    if way == 0:
        model.ir_version = rng.choice((0, 1, 3, 4, 9, 13, 99, -1, 1 << 62))
    elif way == 1 or not model.opset_import:
        model.opset_import.append(helper.make_opsetid(rng.choice(DOMAINS), rng.choice((0, 1, 6, 13, 17, 30))))
    elif way == 2:
        del model.opset_import[rng.randrange(len(model.opset_import))]
    else:
        changed = _pick(rng, model.opset_import)
        changed.version = rng.choice((0, 1, 5, 6, 7, 9, 10, 11, 12, 13, 16, 18, 20, 23, 25, 99, -1, (1 << 63) - 1))


def _change_tensor(rng: random.Random, tensor: TensorProto) -> None:
    way = rng.randrange(8)
    if way == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([i for i in INTEGERS if abs(i) < 1 << 63])
    elif way == 1:
        tensor.dims.append(rng.choice((0, 1, 2, 1 << 20)))
    elif way == 2:
        tensor.data_type = rng.choice((0, *range(1, 27), 99, -1))
    elif way == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif way == 4 and tensor.raw_data:
        data = bytearray(tensor.raw_data)
        for _ in range(rng.choice((1, 10))):
            data[rng.randrange(len(data))] = rng.choice((0, 255, 127))
        tensor.raw_data = bytes(data)
    elif way == 5:
        tensor.name = rng.choice(NAMES)
    elif way == 6:
        tensor.float_data.extend([1.0] * rng.choice((1, 1000)))
    else:
        places = ("/etc/passwd", "../../../etc/passwd", "gone.bin", "apart.bin", ".", "", "/dev/zero", "a\0b")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (
            ("location", rng.choice(places)),
            ("offset", rng.choice(("0", "-1", "999999999999", "x"))),
            ("length", rng.choice(("4", "0", "-1", str(1 << 62), "x"))),
        ):
            tensor.external_data.add(key=key, value=value)


def change_weight(rng: random.Random, model: onnx.ModelProto) -> None:
    """A weight is of another shape, type, name or place, is gone, or stands there twice."""
    weights = model.graph.initializer
    if (weight := _pick(rng, weights)) is None:
        return
    way = rng.random()
    if way < 0.1:
        weights.remove(weight)
    elif way < 0.2:
        weights.append(weight)
    else:
        _change_tensor(rng, weight)


def change_interface(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or output is of another shape, type or name, is gone, or stands there twice."""
    values = rng.choice((model.graph.input, model.graph.output))
    value = _pick(rng, values)
    if value is None:
        return
    way, tensor = rng.randrange(7), value.type.tensor_type
    if way == 0 and tensor.shape.dim:
        side = _pick(rng, tensor.shape.dim)
        side.dim_value = rng.choice([i for i in INTEGERS if abs(i) < 1 << 63])
    elif way == 1:
        tensor.shape.dim.add(dim_value=rng.choice((0, 1, 3, 1 << 40)))
    elif way == 2 and tensor.shape.dim:
        tensor.shape.dim.pop()
    elif way == 3:
        tensor.elem_type = rng.choice((*range(27), 99))
    elif way == 4:
        value.name = rng.choice(NAMES)
    elif way == 5:
        values.append(value)
    else:
        value.type.CopyFrom(rng.choice(_types(value.type)))


def _types(inner: onnx.TypeProto) -> list[onnx.TypeProto]:
    shapes: tuple[list[str | int] | None, ...] = (None, ["N", "c", "h", "w"], [], [1, 3, 24, 24])
    wrapped = (helper.make_sequence_type_proto, helper.make_optional_type_proto)
    return [
        onnx.TypeProto(),
        helper.make_map_type_proto(TensorProto.INT64, inner),
        helper.make_sparse_tensor_type_proto(1, [1, 3]),
        *(wrap(inner) for wrap in wrapped),
        *(helper.make_tensor_type_proto(1, shape) for shape in shapes),
    ]


def claim_shapes(rng: random.Random, model: onnx.ModelProto) -> None:
    """The file claims shapes of tensors in between, wrong ones."""
    for node in rng.sample(list(model.graph.node), min(3, len(model.graph.node))):
        for name in node.output:
            shape = rng.choice(([1], ["N", 8, 12, 12], [0], [1 << 40, 2], None, ["?", "?"]))
            model.graph.value_info.append(helper.make_tensor_value_info(name, rng.choice((1, 7, 10)), shape))


def change_notes(rng: random.Random, model: onnx.ModelProto) -> None:
    """The file says nonsense of itself: class names, producers, notes."""
    text = rng.choice(("{", "[]", "{'0': 'cat'}", '{"0": 1}', "a\nb", "[" * 5000, "null", "1e999", "\0", "é" * 9000))
    for key in rng.sample(("names", "labels", "classes", "id2label", "imgsz", "mean", "std", "task", "stride"), 2):
        model.metadata_props.add(key=key, value=text)
    model.producer_name, model.doc_string, model.graph.name = (rng.choice(NAMES) for _ in range(3))


def grow(rng: random.Random, model: onnx.ModelProto) -> None:
    """Make a model need more memory or time than there is: repeats, sizes and loops without end."""
    at = rng.randrange(len(model.graph.node) + 1)
    before = [name for node in model.graph.node[:at] for name in node.output] or ["x"]
    read = rng.choice(before)
    huge = rng.choice((1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1))
    way = rng.randrange(5)
    if way == 0:
        constant, node = [1, 1, huge, 1], helper.make_node("Tile", [read, "fuzz_c"], ["fuzz"])
    elif way == 1:
        constant, node = [huge, 8], helper.make_node("ConstantOfShape", ["fuzz_c"], ["fuzz"])
    elif way == 2:
        constant, node = [1, 1, huge, 4], helper.make_node("Expand", [read, "fuzz_c"], ["fuzz"])
    elif way == 3:
        constant, node = [0, 0, 0, 0, 0, 0, huge, 0], helper.make_node("Pad", [read, "fuzz_c"], ["fuzz"])
    else:
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["v2"])],
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
            ],
        )
        constant, node = huge, helper.make_node("Loop", ["fuzz_c", "", read], ["fuzz"], body=body)
    shape = [len(constant)] if isinstance(constant, list) else []
    values = constant if isinstance(constant, list) else [constant]
    model.graph.initializer.append(helper.make_tensor("fuzz_c", TensorProto.INT64, shape, values))
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    for later in nodes[at:]:
        for i, name in enumerate(later.input):
            if name == read:
                later.input[i] = "fuzz"
    nodes.insert(at, node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def call_itself(rng: random.Random, model: onnx.ModelProto) -> None:
    """A function of the model's own that calls itself, is missing, or is there twice."""
    inner = helper.make_node(rng.choice(("Again", "Relu", "Other")), ["i"], ["o"], domain="local")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)][: rng.choice((1, 2))]
    function = helper.make_function("local", "Again", ["i"], ["o"], [inner], imports)
    model.functions.extend([function] * rng.choice((1, 1, 2)))
    model.opset_import.append(helper.make_opsetid("local", 1))
    if (node := _pick(rng, model.graph.node)) is not None:
        node.op_type, node.domain = "Again", "local"


def change_branch(rng: random.Random, model: onnx.ModelProto) -> None:
    """A graph within the graph is spoiled, or put where none belongs."""
    holders = [a for n in model.graph.node for a in n.attribute if a.HasField("g")]
    if not holders:
        node = _pick(rng, model.graph.node)
        if node is not None:
            small = onnx.GraphProto.FromString(model.graph.SerializeToString())
            node.attribute.append(helper.make_attribute(rng.choice(("body", "then_branch", "g")), small))
        return
    inner = onnx.ModelProto(graph=rng.choice(holders).g)
    rng.choice((change_edge, change_nodes, change_node, change_interface))(rng, inner)
    rng.choice(holders).g.CopyFrom(inner.graph)


OF_FIELDS: tuple[Mutation, ...] = (
    change_node, change_edge, change_edge, change_nodes, change_attribute, change_attribute, change_attribute,
    change_opset, change_weight, change_weight, change_interface, change_interface, claim_shapes, change_notes, grow,
    call_itself, change_branch,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes) -> tuple[bytes, list[str]]:
    """A spoiled model: its bytes, and the names of the mutations."""
    done: list[str] = []
    if rng.random() < 0.8:
        model = onnx.ModelProto.FromString(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutation = rng.choice(OF_FIELDS)
            done.append(mutation.__name__)
            mutation(rng, model)
        data = model.SerializeToString()
    if not done or rng.random() < 0.1:
        spoiled = bytearray(data)
        for _ in range(rng.choice((1, 1, 2))):
            byte_mutation = rng.choice(OF_BYTES)
            if spoiled:
                done.append(byte_mutation.__name__)
                byte_mutation(rng, spoiled)
        data = bytes(spoiled)
    return data, done
