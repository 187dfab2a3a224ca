"""Faults of onnxruntime, which both stages go round."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusioncam.manifest import Manifest

# Ends the process on the attention of some float16 models (seen with onnxruntime 1.31 on the CPU).
CRASHING_OPTIMIZERS = ("MatmulTransposeFusion",)


def crashing_optimizers(manifest: "Manifest") -> Sequence[str]:
    """Return the optimizers of onnxruntime to leave out for a bundle."""
    return CRASHING_OPTIMIZERS if "float16" in (manifest.precision, manifest.score_precision) else ()
