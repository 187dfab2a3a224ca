"""Reading a model file, whatever its age, into onnx-ir at a current opset."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from google.protobuf.message import DecodeError
from onnxscript import optimizer

from fusioncam.errors import ModelError, first_line
from fusioncam.export.quiet import quiet

OLDEST_OPSET, OPSET = 7, 18


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, external data included.

    Raises:
        ModelError: The file is missing, is no ONNX model, or is truncated.
    """
    if not path.is_file():
        raise ModelError(
            f"model file {path} {'is a folder' if path.is_dir() else 'does not exist'}; give an .onnx file"
        )
    try:
        proto = onnx.load(path, format="protobuf")  # the text formats are nothing onnxruntime could be held against
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX file, or it is truncated; export or copy it again") from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the weights of {path} cannot be read ({first_line(error)}); keep them beside it") from error
    if not proto.graph.node:
        raise ModelError(f"{path} is not an ONNX model: it holds no graph")
    if not proto.opset_import:
        raise ModelError(f"{path} does not say its opset (opset_import is empty); export the model again")
    return proto


def to_current_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18, or at its own where that is later.

    Raises:
        ModelError: Its opset is older than 7, or an operator cannot be converted.
    """
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=OPSET)
    if version < OLDEST_OPSET:
        raise ModelError(f"the model is of opset {version}; {OLDEST_OPSET} is the oldest supported, export it again")
    if version >= OPSET:
        return proto
    # Up to IR 3 every initializer had to be an input too; the converter insists on it, some files do not.
    proto.ir_version = max(proto.ir_version, 8)
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter's C++ side raises several types
        raise ModelError(f"the model cannot be brought from opset {version} to {OPSET}: {first_line(error)}") from error


def load_graph(path: Path) -> ir.Model:
    """Read a model, bring it to a current opset, and fold what is constant.

    Raises:
        ModelError: See `read_model` and `to_current_opset`; also a constant that holds NaN (infinities serve as masks).
    """
    proto = read_model(path)
    try:
        with quiet():
            model = ir.from_proto(to_current_opset(proto))
            assert isinstance(model, ir.Model)
            passes.RemoveInitializersFromInputsPass()(model)
            passes.InlinePass()(model)
            model.graph.sort()
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            fold(model)
        _refuse_bad_constants(model, path)
    except ModelError:
        raise
    except Exception as error:  # what the passes raise has no base class in common
        raise ModelError(f"{path} is damaged or truncated: {first_line(root(error))}") from error
    return model


def root(error: BaseException) -> BaseException:
    """Where a chain of exceptions began: libraries wrap the one that says something in several of general advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def fold(model: ir.Model) -> None:
    """Compute constants beforehand and drop what nothing reads."""
    with quiet():
        optimizer.fold_constants_ir(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.RemoveUnusedNodesPass()(model)


def _refuse_bad_constants(model: ir.Model, path: Path) -> None:
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        if value.const_value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE):
            array = value.const_value.numpy()
            if np.isnan(array).any():
                raise ModelError(
                    f"tensor {name!r} of {path} holds NaN; the weights are damaged, export the model again"
                )
