"""The reader of model files: other files are named as what they are, and valid ones take one form."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import numpy_helper

from fusioncam.errors import ModelError, first_line
from fusioncam.export.reading.nodes import all_nodes
from fusioncam.export.reading.ort_format import in_ort_format, read_ort
from fusioncam.export.reading.plugins import write_out_plugins
from fusioncam.export.reading.rare_types import rare_types, to_float32
from fusioncam.export.sessions import failing_as, open_session, quiet

WELL_KNOWN_IR, WELL_KNOWN_OPSET = 10, 21  # every onnxruntime that this project takes knows them
ONNX_DOMAINS = ("", "ai.onnx")  # two names of one
OLDEST_OPSET, OPSET = 7, 18  # the oldest that is read, and the one that older models are brought to


def read_model(path: Path, newer: bool = False) -> onnx.ModelProto:
    """Read an ONNX file, external data included, and check it.

    The default domain is written as "", whatever the file has. A tensor of numbers takes the place of each map from
    labels to numbers that a ZipMap makes; the labels go to the metadata, as `names`. TensorRT's plugins that search for
    the best boxes are written in plain operators.

    Models in float64 or bfloat16 that onnxruntime does not run on the CPU are read as float32, and a file in
    onnxruntime's own format as the ONNX that it was made of.

    Args:
        path: The file.
        newer: Read formats that the installed onnxruntime does not know yet, too.

    Raises:
        ModelError: The file is missing, is no valid ONNX model, is truncated, or is of a newer format.
    """
    proto = _parsed(path)
    if not _texts_are_valid(proto):
        raise ModelError(f"{path} is damaged: a name in it is no text; export or copy it again")
    if not proto.graph.node:
        raise ModelError(f"{path} is not an ONNX model: it holds no graph")
    if not proto.opset_import:
        raise ModelError(f"{path} does not say its opset (opset_import is empty); export the model again")
    if not newer and proto.ir_version > WELL_KNOWN_IR and not _taken(proto.ir_version, OPSET):
        raise ModelError(
            f"{path} is of IR version {proto.ir_version}, which the installed onnxruntime does not know yet; "
            "upgrade it, or export the model with an older onnx"
        )
    _name_default_domain(proto)
    write_out_plugins(proto)
    versions = [o.version for o in _opsets(proto) if o.domain == ""]
    if (oldest := min(versions)) < OLDEST_OPSET:
        raise ModelError(f"the model is of opset {oldest}; {OLDEST_OPSET} is the oldest supported, export it again")
    if not newer and versions[0] > WELL_KNOWN_OPSET and not _taken(WELL_KNOWN_IR, versions[0]):
        raise ModelError(
            f"{path} is of opset {versions[0]}, which the installed onnxruntime does not know yet; "
            f"upgrade it, or export the model at opset {OPSET}"
        )
    written = _without_rare_types(proto, path)
    _check(proto, written)
    _fill_sparse(proto.graph, path)
    tensors_for_maps(proto)
    return proto


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(
            f"model file {path} {'is a folder' if path.is_dir() else 'does not exist'}; give an .onnx file"
        )
    try:
        if in_ort_format(path):
            return read_ort(path)
        return onnx.load(path, format="protobuf")  # the text formats are nothing onnxruntime could be held against
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX file, or it is truncated; export or copy it again") from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the weights of {path} cannot be read ({first_line(error)}); keep them beside it") from error


def _texts_are_valid(message: Message) -> bool:
    """Tell whether all texts are UTF-8; protobuf gives others as bytes, which no code expects."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            valid = not any(isinstance(text, bytes) for text in ([value] if isinstance(value, str | bytes) else value))
        elif field.type == field.TYPE_MESSAGE:
            valid = all(map(_texts_are_valid, [value] if isinstance(value, Message) else value))
        else:
            continue
        if not valid:
            return False
    return True


def _name_default_domain(proto: onnx.ModelProto) -> None:
    """Write "" for the default domain; a model that does not say its version is of the newest, as in onnxruntime."""
    for domain in _opsets(proto):
        if domain.domain in ONNX_DOMAINS:
            domain.domain = ""
    for node in all_nodes([*proto.graph.node, *itertools.chain.from_iterable(f.node for f in proto.functions)]):
        if node.domain in ONNX_DOMAINS:
            node.domain = ""
    if all(o.domain != "" for o in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid("", _newest_opset()))


def _opsets(proto: onnx.ModelProto) -> Iterator[onnx.OperatorSetIdProto]:
    """Yield the operator sets of a model, then those of its functions."""
    yield from proto.opset_import
    yield from itertools.chain.from_iterable(f.opset_import for f in proto.functions)


def _newest_opset() -> int:
    """Return the newest opset that onnxruntime takes."""
    known = range(onnx.defs.onnx_opset_version(), OPSET, -1)
    return next((version for version in known if _taken(WELL_KNOWN_IR, version)), OPSET)


def _taken(ir_version: int, opset: int) -> bool:
    """Tell whether onnxruntime takes a model of these versions."""
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "y"))
    graph = onnx.helper.make_graph([node], "probe", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir_version)
    try:
        open_session(model.SerializeToString())
    except ModelError:
        return False
    return True


def _check(proto: onnx.ModelProto, written: bytes | Path) -> None:
    """Refuse a model that is not valid, before a library that trusts it crashes on it.

    onnx's checker minds more than onnxruntime does, such as the order of the nodes: what that loads, is taken.
    """
    try:
        with quiet():
            onnx.checker.check_model(proto)
    except (ValueError, EncodeError):
        return  # more than the 2 GB that protobuf holds
    except onnx.checker.ValidationError:
        open_session(written, optimize=False)


def _without_rare_types(proto: onnx.ModelProto, path: Path) -> bytes | Path:
    """Bring a model in float64 or bfloat16 to float32, unless onnxruntime happens to run it as it is.

    Returns:
        What onnxruntime is to open: the file, or the model that was made of it.

    Raises:
        ModelError: It does not run in float32, either.
    """
    rare = rare_types(proto)
    if not rare or _opens(path):
        return path
    with failing_as(lambda why: ModelError(f"{path} is damaged or truncated: {why}")):
        to_float32(proto)
        written: bytes = proto.SerializeToString()
    if not _opens(written):
        raise ModelError(
            f"{path} is a {' and '.join(sorted(rare))} model, which onnxruntime cannot run on the CPU; "
            "export it in float32 or float16"
        )
    return written


def _opens(model: bytes | Path) -> bool:
    """Tell whether onnxruntime takes a model."""
    try:
        open_session(model, optimize=False)
    except ModelError:
        return False
    return True


def _fill_sparse(graph: onnx.GraphProto, path: Path) -> None:
    """Write the weights that are stored in sparse form, also those in Constant nodes, as others are."""
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, path))
    del graph.sparse_initializer[:]
    for node in all_nodes(graph.node):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                attribute.CopyFrom(onnx.helper.make_attribute("value", _dense(attribute.sparse_tensor, path)))


def _dense(sparse: onnx.SparseTensorProto, path: Path) -> onnx.TensorProto:
    """Return a tensor with all its zeros.

    Raises:
        ModelError: Its parts do not fit each other.
    """
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    try:
        whole = np.zeros([*sparse.dims], values.dtype)
        whole[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, whole.shape)] = values
    except (ValueError, IndexError) as error:
        why = f"sparse tensor {sparse.values.name!r} ({first_line(error)})"
        raise ModelError(f"{path} is damaged: {why}; export the model again") from error
    return numpy_helper.from_array(whole, sparse.values.name)


def tensors_for_maps(proto: onnx.ModelProto) -> None:
    """Put the tensor that a ZipMap reads in its place, under its name; drop other maps, if some output stays.

    Raises:
        ModelError: There is no output but maps.
    """
    graph = proto.graph
    outputs = {o.name: o for o in graph.output}
    for node in graph.node:
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml":
            continue
        labels = [v for a in node.attribute for v in (*a.strings, *a.ints)]
        named = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in labels]
        if all(p.key != "names" for p in proto.metadata_props) and named != [str(i) for i in range(len(named))]:
            proto.metadata_props.add(key="names", value=repr(named))
        node.op_type, node.domain = "Identity", ""
        del node.attribute[:]
        if (output := outputs.get(node.output[0])) is not None:
            output.type.Clear()
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    maps = [o for o in graph.output if _holds_map(o.type)]
    if maps and len(maps) == len(graph.output):
        raise ModelError(f"output {maps[0].name!r} is no tensor (a sequence or a map); cut the graph before it")
    for output in maps:
        graph.output.remove(output)


def _holds_map(kind: onnx.TypeProto) -> bool:
    """Tell whether a type is a map, or a sequence of them."""
    if kind.HasField("sequence_type"):
        return _holds_map(kind.sequence_type.elem_type)
    if kind.HasField("optional_type"):
        return _holds_map(kind.optional_type.elem_type)
    return bool(kind.HasField("map_type"))
