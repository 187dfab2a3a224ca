"""Printed names of methods, and printed probabilities."""

METHOD_TITLES = {
    "fusion_cam": "Fusion-CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "xgrad_cam": "XGrad-CAM",
    "hires_cam": "HiRes-CAM",
    "layer_cam": "Layer-CAM",
    "score_cam": "Score-CAM",
    "group_cam": "Group-CAM",
    "union_cam": "Union-CAM",
    "recipro_cam": "Recipro-CAM",
    "rise": "RISE",
}


def method_title(method: str) -> str:
    """Return the printed name of a method.

    `fusion_cam` -> `Fusion-CAM`, `score_cam_corners` -> `Score-CAM (corners)`, `fusion_cam:layer_cam+group_cam:20` ->
    `Fusion-CAM (Layer-CAM + Group-CAM, theta 20)`; unknown names lose their underscores.
    """
    name, *details = method.split(":")
    if details:
        return f"{method_title(name)} ({', '.join(map(_detail, details))})"
    known = max((n for n in METHOD_TITLES if f"{name}_".startswith(f"{n}_")), key=len, default="")
    variant = name[len(known) :].strip("_").replace("_", " ")
    if not known:
        return variant
    return f"{METHOD_TITLES[known]} ({variant})" if variant else METHOD_TITLES[known]


def probability_title(probability: float) -> str:
    """Return a probability, or the value of a regression, to two decimals; a small one is never shown as zero."""
    return "< 0.01" if 0 < probability < 0.005 else f"{probability:.2f}"


def _detail(text: str) -> str:
    parts = " + ".join(method_title(part) for part in text.split("+") if part)
    return f"theta {text}" if text.replace(".", "", 1).isdecimal() else parts
