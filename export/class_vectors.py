"""Class vectors: with one vector for each class, an embedding model becomes a classifier, as CLIP is by texts.

Logits are scale * cosine(embedding, vector of the class): Radford et al., Learning transferable visual models from
natural language supervision, arXiv 2103.00020. The scale is the model's learned temperature; CLIP's is 100.
"""

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir

from fusioncam.errors import UsageError
from fusioncam.export.gradient import Ops, dims
from fusioncam.export.targets.shapes import infer_shapes
from fusioncam.kernels.arrays import Array, Float32Array

SCALE = 100.0
WEIGHTS_NAME = "class_vectors"  # of the constant in the graphs: (D, classes), unit vectors times the scale
LEAST = 1e-12  # of a length that is divided by
ClassVectors = str | os.PathLike[str] | Array


def read_class_vectors(given: ClassVectors, scale: float = SCALE) -> Float32Array:
    """Return unit vectors times the scale, (classes, D).

    Args:
        given: An array (classes, D), or a .npy file that holds one; the vectors have any length but zero.
        scale: The factor on cosines.

    Raises:
        UsageError: The file cannot be read, or it holds no such array, or the scale is not positive.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise UsageError(f"the scale of class vectors is a positive number, not {scale}")
    try:
        array = np.load(Path(given), allow_pickle=False) if isinstance(given, str | os.PathLike) else np.asarray(given)
    except (OSError, ValueError, EOFError) as error:
        why = getattr(error, "strerror", None) or "it is no .npy file of numbers"
        raise UsageError(f"class vectors cannot be read from {given}: {why}; save them by numpy.save") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or len(array) < 2 or array.dtype.kind not in "fiu":
        shape = getattr(array, "shape", "several arrays")
        raise UsageError(f"class vectors are one array (classes, D) of two or more rows of numbers, not {shape}")
    exact = array.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        bad = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise UsageError(f"class vector {bad} is zero or not finite; leave that class out, or compute it again")
    return np.asarray(scale * exact / lengths, np.float32)


def append_classes(model: ir.Model, vectors: Float32Array) -> None:
    """Put logits (N, classes) in the place of the embedding (N, D), the output of a graph.

    Args:
        model: The model; it is changed.
        vectors: As `read_class_vectors` returns them.

    Raises:
        UsageError: Vectors and embedding differ in length.
    """
    graph = model.graph
    embedding, (classes, length) = graph.outputs[0], vectors.shape
    if dims(embedding)[1] != length:
        raise UsageError(
            f"class vectors have {length} numbers each, but the model's embedding has {dims(embedding)[1]}; compute "
            "them by the text tower of the same model"
        )
    before, op = len(graph), Ops(graph, "classes")
    size = op.Max(op.ReduceL2(embedding, op.ints([1]), keepdims=1), op.constant(LEAST, np.float32))
    matrix = ir.Value(name=WEIGHTS_NAME, const_value=ir.tensor(np.ascontiguousarray(vectors.T), name=WEIGHTS_NAME))
    matrix.shape, matrix.dtype = ir.Shape([length, classes]), ir.DataType.FLOAT
    graph.register_initializer(matrix)
    logits = op.MatMul(op.Div(embedding, size), matrix)
    infer_shapes([*graph][before:])
    logits.name, graph.outputs[0] = "logits", logits


def class_logits(embedding: Array, matrix: Array) -> Array:
    """Return the same logits in NumPy, for the check: of embeddings (N, D), by the constant (D, classes)."""
    lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
    return np.asarray(embedding / np.maximum(lengths, LEAST) @ matrix.astype(np.float64))
