"""Flags: the special cases that a result met, and what each means."""

from fusioncam.runtime.picture.titles import method_title

FLAGS = {
    "flat_grad_cam": "the gradient gives no positive evidence: Grad-CAM is blank",
    "flat_score_cam": "no region gives positive evidence: Score-CAM is blank",
    "flat_fusion_cam": "nothing gives positive evidence: Fusion-CAM is blank",
    "equal_contributions": "neither map changes the confidence: both count the same",
    "mixed_contributions": "one map raises the confidence and the other lowers it: a weight is negative, and the fused "
    "map is unstable, as a small change of the scores can turn it over; trust its two parts",
    "cut_short": "the budget ended before the map was settled: more passes could still change it",
    "nothing_saved": "every pass was run: guessing scores would not have kept the tolerance with clearly fewer",
    "late": "the deadline was missed by more than one run of the model: the machine was busier than before",
    "not_explained": "no map was made: the condition for an explanation does not hold",
    "nothing_detected": "nothing of what is asked for is detected in this picture: there is no map",
    "preliminary": "the map is still being made: it will change",
    "lost_in_mirror": "the mirrored picture has no such detection: its map there is of the place that fits best",
    "dark_picture": "the picture is nearly black: if its file has 16 bits but fewer are used, scale its values up",
    "no_gradient": "the bundle was exported without a gradient: methods that need one are unavailable",
    "logits_out_of_reach": "the logits of the model's probabilities are out of reach: what raises log p is explained",
    "doubtful_logits": "the model's outputs lie within 0..1, but were taken for logits: say --ending if they are not",
    "bypassed_layer": "part of the evidence reaches the scores past the layer: it has no part in the maps",
    "early_layer": "the layer lies in the first third of the model, as no later one could be read: maps show edges",
    "drifting_scores": "scores of this bundle are rounded: on a photo its maps correlated with exact ones by only {}",
    "assumed_preprocessing": "the model does not say how pictures are prepared, so the export guessed: if the "
    "guess is wrong, so are the maps; say it with --preset",
}


def flag_text(flag: str) -> str:
    """Return the meaning of a flag, in a line: `FLAGS`, and `flat_METHOD` for any method.

    The text of FLAG=FIGURE is that of FLAG, with the figure in place of {}.
    """
    name, _, figure = flag.partition("=")
    if name in FLAGS:
        return FLAGS[name].replace("{}", figure or "{}")
    return f"{method_title(flag.removeprefix('flat_'))} finds no positive evidence: its map is blank"
