"""Preprocessing by timm: its `config.json`."""

import math

from fusioncam.export.source_metadata.hugging_face import PictureConfig, interpolation, triple
from fusioncam.export.source_metadata.image_processors import IMAGENET, Config

# What timm takes where a configuration does not say (timm.data.constants).
_TIMM = {**IMAGENET, "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center", "input_size": (3, 224, 224)}


def read_timm(config: Config, model_size: tuple[int, ...]) -> PictureConfig | None:
    """Return the preprocessing of timm's `config.json`, or None where the file is none of timm's.

    Args:
        config: The content of `config.json`: `pretrained_cfg` in it, or of old ones all of it.
        model_size: (H, W) of the model's input, which tells the size of training from that of testing.

    Raises:
        ValueError: Its filter cannot be followed.
        TypeError, LookupError, ArithmeticError: A value is not what it should be.
    """
    nested = next((config[key] for key in ("data_config", "pretrained_cfg") if config.get(key)), None)
    if nested is None and not {"crop_pct", "interpolation"} <= config.keys():
        return None
    stated = {key: value for key, value in dict(nested or config).items() if value is not None}
    settings = {**_TIMM, **stated}
    if tuple(settings.get("test_input_size", ()))[-2:] == model_size:
        crop_pct = settings.get("test_crop_pct", settings["crop_pct"])
        settings |= {"input_size": settings["test_input_size"], "crop_pct": crop_pct}
    mean, std = settings.get("mean", _TIMM["image_mean"]), settings.get("std", _TIMM["image_std"])
    fields = {"rescale": 1 / 255, "mean": triple(mean), "std": triple(std)}
    fields["interpolation"] = interpolation(settings["interpolation"])
    height, width = (int(side) for side in settings["input_size"][-2:])
    ways = {"center": "crop", "squash": "squash_crop"}
    if settings["crop_mode"] not in ways:
        return PictureConfig(fields, refusal=f"it asks for crop_mode {str(settings['crop_mode'])[:20]!r}, which pads")
    whole = math.floor(height / float(settings["crop_pct"]))
    fields |= {"resize": ways[settings["crop_mode"]], "crop_fraction": height / whole}
    return PictureConfig(fields, (height, width))
