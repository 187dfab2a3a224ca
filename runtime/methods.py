"""The methods by name, and what a fused one is made of."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fusioncam.errors import UsageError
from fusioncam.kernels.cam_methods import GRADIENT_MAPS, SCORE_CAMS
from fusioncam.kernels.reference import THETA
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import listed

if TYPE_CHECKING:
    from fusioncam.runtime.budget import Budget

METHODS = ("fusion_cam", "grad_cam", "score_cam")
"""The methods made by default, where the bundle has them; the GPU has kernels for these."""
GRADIENT = tuple(GRADIENT_MAPS)
REGION = (*SCORE_CAMS, "group_cam", "recipro_cam", "rise")
FUSED = ("union_cam", "fusion_cam")
EVERY = (*GRADIENT, *REGION, *FUSED)
"""Every name; a fused one may go on with its parts, see `fusion_cam`."""
WITHOUT_GRADIENT = (*SCORE_CAMS, "recipro_cam", "rise")
WITHOUT_LAYER = ("rise",)

_FUSED_NAME = re.compile(rf"({'|'.join(FUSED)}):([a-z_]+)\+([a-z_]+)(?::([0-9]{{1,3}}(?:\.[0-9]{{1,6}})?))?")


class Recipe(NamedTuple):
    """The parts of a fused map: a gradient map, denoised at the percentile `theta`, and a region map.

    `fused` says how: as Fusion-CAM (arXiv 2603.05386), or as Union-CAM, its predecessor, which takes the union U of the
    two or the region map R, whichever gains more of the model's confidence.
    """

    fused: str
    gradient: str = "grad_cam"
    region: str = "score_cam"
    theta: float = THETA


def fusion_cam(gradient: str = "grad_cam", region: str = "score_cam", theta: float = THETA) -> str:
    """Name of the Fusion-CAM of other parts than Grad-CAM and Score-CAM, to be used as any method's.

    Args:
        gradient: A gradient method.
        region: A region method.
        theta: Percentile of the gradient map below which it counts as noise, 0 to 100; to six decimals.

    Raises:
        UsageError: There is no such method, or theta is no percentile.
    """
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not 0 <= theta <= 100:
        raise UsageError(f"theta is a percentile, 0 to 100, not {theta!r}")
    written = f"{theta:.6f}".rstrip("0").rstrip(".")
    name = f"fusion_cam:{gradient}+{region}" + ("" if theta == THETA else f":{written}")
    recipe(name)
    return name


def recipe(method: str) -> Recipe | None:
    """Return the parts of a fused method; None for another method.

    Raises:
        UsageError: There is no such method.
    """
    if method in GRADIENT or method in REGION:
        return None
    if method in FUSED:
        return Recipe(method)
    found = _FUSED_NAME.fullmatch(method) if isinstance(method, str) else None
    if found is None:
        raise UsageError(
            f"no method {method!r}; the methods are {', '.join(EVERY)}, and fusions of other parts, "
            "such as fusion_cam:layer_cam+group_cam"
        )
    fused, gradient, region, theta = found.groups()
    for part, kind, of in ((gradient, "gradient", GRADIENT), (region, "region", REGION)):
        if part not in of:
            raise UsageError(f"no {kind} method {part!r} in {method!r}; they are {', '.join(of)}")
    percentile = THETA if theta is None else float(theta)
    if not 0 <= percentile <= 100:
        raise UsageError(f"theta is a percentile, 0 to 100, not {theta} as in {method!r}")
    return Recipe(fused, gradient, region, percentile)


def with_parts(methods: Sequence[str]) -> set[str]:
    """Return the methods, and the parts of fused ones."""
    found = {m: recipe(m) for m in methods}
    return {*methods, *(part for r in found.values() if r is not None for part in (r.gradient, r.region))}


def needs_gradient(method: str) -> bool:
    """Return True where a method needs the gradient."""
    return method not in WITHOUT_GRADIENT


def needs_layer(methods: Sequence[str]) -> bool:
    """Return True where a method needs activations: then each level explains the detections that come from it."""
    return any(m not in WITHOUT_LAYER for m in methods)


def needs_every_pass(methods: Sequence[str], manifest: Manifest) -> bool:
    """Return True where a method needs the scores of all classes, which cannot be guessed: only exact budgets do."""
    return "score_cam_probability" in with_parts(methods) and manifest.ending not in ("sigmoid", "value")


def checked_methods(names: Sequence[str] | None, gradient: bool = True) -> tuple[str, ...]:
    """Return the methods of these names, each once.

    Args:
        names: Names of methods; None for those of METHODS that a bundle has, with its gradient or without one.
        gradient: Whether the bundle has a gradient.

    Raises:
        UsageError: There is no such method, none is given, or one needs a gradient that the bundle has not.
    """
    if names is None:
        return tuple(method for method in METHODS if gradient or not needs_gradient(method))
    methods = listed(names, "methods")
    if not methods:
        raise UsageError(f"no method chosen; the methods are {', '.join(EVERY)}")
    for method in methods:
        recipe(method)
        if not gradient and needs_gradient(method):
            raise UsageError(
                f"{method} needs a gradient, and the bundle was exported without; choose from "
                f"{', '.join(WITHOUT_GRADIENT)}"
            )
    return tuple(dict.fromkeys(methods))


def checked_for(methods: Sequence[str] | None, manifests: Sequence[Manifest], budget: "Budget") -> tuple[str, ...]:
    """Return the methods, each once, if these bundles have them; for None the default ones that they have.

    Raises:
        UsageError: There is no such method, or it cannot be made of these bundles, or not with this budget.
    """
    checked = checked_methods(methods, all(m.gradient for m in manifests))
    parts = with_parts(checked)
    if "recipro_cam" in parts and any(m.levels for m in manifests):
        raise UsageError("recipro_cam masks one layer that all evidence passes, and this detector has several levels")
    if "recipro_cam" in parts and not all(m.has_head for m in manifests):
        raise UsageError(
            "recipro_cam runs head.onnx, which the bundle lacks; export the model again, or by a layer that all "
            "evidence passes (`fusioncam inspect`)"
        )
    if budget not in ("exact", 1.0) and needs_every_pass(checked, manifests[0]):
        raise UsageError(
            "score_cam_probability needs the scores of all classes, which cannot be guessed: use budget exact"
        )
    return checked
