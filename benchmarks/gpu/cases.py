"""Arguments that the kernels are timed on, of the sizes that a network like ResNet-50 gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusioncam.kernels.reference import THETA
from fusioncam.kernels.spec import Spec
from fusioncam.kernels.specs import SPECS, fuse, masks

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One kernel and what it is given.

    Attributes:
        label: In words.
        spec: The kernel's.
        arguments: All but what it writes.
        needed: Bytes of arrays of which it reads or writes only a part.
    """

    label: str
    spec: Spec
    arguments: Arguments
    needed: Mapping[str, int] = field(default_factory=dict)


def cases(
    channels: int = 2048, small: int = 7, large: int = 224, classes: int = 1000, chunks: Sequence[int] = (64, 256)
) -> list[Case]:
    """Every kernel as one explanation starts it, for one class of a picture.

    Args:
        channels: K.
        small: Height and width of the layer.
        large: Height and width of the picture.
        classes: Of the network.
        chunks: Pictures per run, for the mask kernels.
    """
    rng = np.random.default_rng(0)
    maps = rng.random((channels, small, small), np.float32)
    pixels, points = large * large, small * small
    image = rng.standard_normal((3, large, large), np.float32)
    found = [case for chunk in chunks for case in _mask_cases(rng, maps, image, min(chunk, channels))]
    rows, columns = masks.turning_points((small, small), (large, large))
    normalized = {"maps": maps, "rows": rows, "columns": columns, "H": large, "W": large, "positive": 0}
    weights = rng.random((1, channels), np.float32)
    plain: list[tuple[str, Arguments]] = [
        ("normalize_maps", normalized),
        ("expand_maps", {"scaled": maps[:1], "H": large, "W": large}),
        ("row_means", {"values": maps.reshape(channels, points)}),
        ("weighted_sums", {"weights": weights, "maps": maps.reshape(channels, points), "positive": 1}),
        ("score_weights", {"scores": weights, "blank": weights[0, :1], "kinds": np.zeros(channels, np.int32)}),
        *_fusion(rng, pixels),
        ("overlay_map", _overlay(rng, pixels)),
    ]
    found += [Case(name, SPECS[name], arguments) for name, arguments in plain]
    return found + _picking(rng, min(chunks[0], channels), classes, channels)


def _mask_cases(rng: np.random.Generator, maps: np.ndarray, image: np.ndarray, chunk: int) -> list[Case]:
    """One chunk of x * M_k, of a picture, in float32 and float16."""
    picks = rng.permutation(len(maps))[:chunk].astype(np.int32)
    read = {"maps": chunk * maps[0].nbytes}
    return [
        Case(f"{spec.name}, chunk {chunk}", spec, {"maps": maps, "channels": picks, "image": image}, read)
        for spec in masks.MASK.values()
    ]


def _fusion(rng: np.random.Generator, pixels: int) -> list[tuple[str, Arguments]]:
    """Denoise, unite and blend full-size maps."""
    one, two = (rng.random((1, pixels), np.float32) for _ in range(2))
    low, middle, high = (np.full(1, p) for p in (0.1, 0.4, 0.6))
    rank, fraction = fuse.percentile(THETA, pixels)
    both = {"region": two, "of_blank": low}
    return [
        ("denoise_maps", {"maps": one, "rank": rank, "fraction": fraction}),
        ("unite_maps", {"denoised": one, "of_denoised": middle, "of_region": high, **both}),
        ("blend_maps", {"united": one, "of_united": high, "region_share": middle, **both}),
    ]


def _overlay(rng: np.random.Generator, pixels: int) -> Arguments:
    photo, colors = rng.integers(0, 256, (pixels, 3), np.uint8), rng.integers(0, 256, (256, 3), np.uint8)
    return {"photo": photo, "map": rng.random(pixels, np.float32), "colors": colors, "opacity": 0.7}


def _picking(rng: np.random.Generator, chunk: int, classes: int, channels: int) -> list[Case]:
    """The kernels that pick from the logits of a chunk."""
    logits = rng.standard_normal((chunk, classes), np.float32)
    picks, zero = np.arange(chunk, dtype=np.int32), np.zeros(1, np.int32)
    scores = np.zeros((1, channels), np.float32)
    gather = {"logits": logits, "channels": picks, "classes": zero, "scores": scores}
    read = {"logits": logits, "rows": zero, "classes": zero, "ending": 0}
    return [
        Case("gather_scores", SPECS["gather_scores"], gather, {"logits": 4 * chunk, "scores": 4 * chunk}),
        Case("read_classes", SPECS["read_classes"], read, {"logits": logits[0].nbytes}),
    ]
