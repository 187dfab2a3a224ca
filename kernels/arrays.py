"""Types of NumPy arrays, named once for the whole project."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Size: TypeAlias = tuple[int, ...]  # (H, W) of a picture, (D, H, W) of a volume, (L,) of a signal
Array: TypeAlias = npt.NDArray[Any]  # elements of any type
BoolArray: TypeAlias = npt.NDArray[np.bool_]  # masks and regions of a picture
UInt8Array: TypeAlias = npt.NDArray[np.uint8]  # photos and overlays
Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]  # ONNX's type of shapes and indices
IndexArray: TypeAlias = npt.NDArray[np.intp]  # NumPy's type of indices
FloatingArray: TypeAlias = npt.NDArray[np.floating[Any]]  # numbers of any precision
Float32Array: TypeAlias = npt.NDArray[np.float32]  # model inputs, maps and logits
Float64Array: TypeAlias = npt.NDArray[np.float64]  # exact intermediate results
Complex64Array: TypeAlias = npt.NDArray[np.complex64]  # places in a picture
ObjectArray: TypeAlias = npt.NDArray[np.object_]  # Python's own numbers
