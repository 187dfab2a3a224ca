"""onnxruntime's own format (.ort), which onnxruntime writes as ONNX again."""

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from fusioncam.errors import ModelError
from fusioncam.export.sessions import NOISE, failing_as

ORT_MAGIC = slice(4, 8), b"ORTM"  # the file identifier of the format


def in_ort_format(path: Path) -> bool:
    """Return whether a file is in onnxruntime's own format."""
    where, magic = ORT_MAGIC
    with path.open("rb") as file:
        return file.read(8)[where] == magic


def read_ort(path: Path) -> onnx.ModelProto:
    """Return the ONNX model that a file in onnxruntime's own format holds, as it was optimised.

    onnxruntime reads the format by the file's ending, so the file is opened as bytes.

    Raises:
        ModelError: The installed onnxruntime cannot read or write it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.load_model_format", "ORT")
    options.add_session_config_entry("session.save_model_format", "ONNX")
    with tempfile.TemporaryDirectory() as folder, failing_as(lambda why: _refusal(path, why), ()):
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"], enable_fallback=0)
        proto = onnx.load(options.optimized_model_filepath)
    proto.graph.name = proto.graph.name or path.stem
    return proto


def _refusal(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} is in onnxruntime's own format (.ort), and the installed onnxruntime cannot write it as ONNX "
        f"({NOISE.sub('', why)}); give the .onnx file it was made from"
    )
