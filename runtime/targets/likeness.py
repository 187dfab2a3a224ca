"""Targets of embeddings: likeness to a reference."""

import math
import os
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.targets.kinds import Like, Target
from fusioncam.runtime.targets.resolved import ResolvedTarget
from fusioncam.runtime.targets.sight import Sight, load_array


def check_like(target: Like, manifest: Manifest) -> Target:
    """Return the target; raise UsageError where its vector is none of this embedding."""
    _vector_of(target.reference, manifest.classes)
    return target


def resolve_like(target: Like, sight: Sight) -> ResolvedTarget:
    """Return likeness to a vector, or to the embedding of another picture."""
    vector = _vector_of(target.reference, sight.manifest.classes)
    name = _name_of(target.reference) or ("a picture" if vector is None else "a vector")
    if vector is None:
        vector = sight.read(as_input(target.reference, sight.manifest.preprocessing)[1]).form
    return ResolvedTarget("like", label=f"like {name}", tensors={"reference": _unit_length(vector)})


def no_default(sight: Sight) -> list[Target]:
    """Raise UsageError: a model does not know what its embedding is to be compared with."""
    raise UsageError("an embedding needs a reference to be compared with: name one, target=Like(picture or vector)")


def _vector_of(reference: Any, length: int) -> Array | None:
    """Return the vector (length,) that a reference is; None for a picture."""
    if isinstance(reference, str | os.PathLike):
        array = load_array(os.fspath(reference)) if os.fspath(reference).endswith(".npy") else None
    else:
        listed = isinstance(reference, list | tuple) or getattr(reference, "ndim", None) in (1, 2)
        array = np.asarray(reference) if listed else None
    if array is None or array.dtype == np.uint8 or array.size != math.prod(array.shape[-1:]):
        return None
    vector = array.ravel()
    if vector.dtype.kind not in "fiu":
        raise UsageError(f"a reference is a vector of numbers or a picture, not {quote(vector.tolist())}")
    if len(vector) != length:
        raise UsageError(f"the reference has {len(vector)} numbers, but the embedding {length}: use the same model's")
    if not np.isfinite(vector).all():
        raise UsageError("the reference holds NaN or infinity: compute it again")
    if not vector.any():
        raise UsageError("the reference is zero everywhere: nothing is like it; compute it again")
    return vector


def _unit_length(vector: Array) -> Float32Array:
    """Return a vector scaled to length 1, which changes no angle and keeps products small."""
    exact = vector.astype(np.float64) / max(float(np.abs(vector).max()), np.finfo(np.float64).tiny)
    return np.asarray(exact / max(float(np.linalg.norm(exact)), 1e-12), np.float32)


def _name_of(reference: Any) -> str | None:
    """Return the name of the file of a reference, where it has one."""
    named = reference if isinstance(reference, str | os.PathLike) else getattr(reference, "name", None)
    named = named or getattr(reference, "filename", None)
    return os.path.basename(os.fspath(named)) if isinstance(named, str | os.PathLike) else None  # noqa: PTH119
