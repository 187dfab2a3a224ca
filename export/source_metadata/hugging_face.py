"""Preprocessing by an image processor of Hugging Face: its configuration, `preprocessor_config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusioncam.export.source_metadata.image_processors import MODEL_TYPES, PROCESSORS, RESAMPLE, SIGNS, Config

# Steps that are followed, or that change nothing in a photo of three channels. The last two are of old files:
# PoolFormer's name of its two steps, and one of training, which no processor has today.
_STEPS = {
    "do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_flip_channel_order",
    "do_pad", "do_convert_rgb", "do_reduce_labels", "do_resize_and_center_crop", "do_random_crop",
    "do_convert_annotations",
}  # fmt: skip
# Whatever else these keys hold, no input of a fixed size can be made by them.
_NO_PICTURE = ("max_num_patches", "keep_aspect_ratio", "codebook_size")
# What a `way` does to the size of a picture, and no field can say.
_REMARKS = {
    "pplcnet": "the longer side is rounded down, not to the nearest: it can differ by a pixel",
    "yolos": "sides are rounded down to multiples of 16, here to whole pixels",
}


@dataclass(frozen=True)
class PictureConfig:
    """The preprocessing that a configuration asks for.

    Attributes:
        fields: Of `Preprocessing`, without its size.
        size: (H, W) of the pictures it makes, or None where it does not say.
        refusal: The reason why its resizing and cutting cannot be followed, and are not in `fields`; or None.
        remarks: Steps that were not followed to the letter.
    """

    fields: dict[str, Any]
    size: tuple[int, int] | None = None
    refusal: str | None = None
    remarks: tuple[str, ...] = ()


class _Refusal(Exception):  # noqa: N818
    """The reason why a configuration's resizing or cutting cannot be followed."""


def read_config(config: Config, model_type: object = None) -> PictureConfig:
    """Return the preprocessing of an image processor with this configuration.

    Args:
        config: The content of `preprocessor_config.json`, or of `image_processor` in `processor_config.json`.
        model_type: That of the model's `config.json`, for a configuration that does not name its processor.

    Raises:
        ValueError: Its arithmetic or its filter cannot be followed.
        TypeError, LookupError, ArithmeticError: A value is not what it should be.
    """
    name, remarks = _processor(config, model_type)
    default = PROCESSORS.get(name, {})
    stated = {key: value for key, value in config.items() if value is not None}
    normalises = name in PROCESSORS or not config.keys().isdisjoint({"image_mean", "image_std"})
    if name not in PROCESSORS:
        taken = {"size": "squashing", "resample": "the bilinear filter"}
        remarks += tuple(
            f"it does not say its {key}: {way} was taken" for key, way in taken.items() if key not in stated
        )
    settings = {"do_normalize": normalises, **default, **stated, **default.get("always", {})}
    arithmetic = {**_arithmetic(settings), "interpolation": interpolation(settings.get("resample", 2))}
    try:
        geometry, size = _geometry(settings)
    except _Refusal as refusal:
        return PictureConfig(arithmetic, None, f"{name or 'it'} {refusal}", remarks)
    if geometry.get("resize") == "letterbox":  # of zeros, in the arithmetic of the input
        geometry["pad"] = tuple(m / arithmetic["rescale"] for m in arithmetic["mean"])
        remarks += _of_letterbox(settings, size)
    remarks += tuple(text for way, text in _REMARKS.items() if default.get("way") == way)
    return PictureConfig({**arithmetic, **geometry}, size, None, remarks)


def _processor(config: Config, model_type: object) -> tuple[str, tuple[str, ...]]:
    """Return the processor's name as in `PROCESSORS`, or "" where it is unknown, and remarks on that."""
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    signed = next((name for key, name in SIGNS if config.get(key) is not None), "")
    if signed == "ConvNext" and config.get("do_center_crop"):
        signed = "PoolFormer"
    if named:
        name = str(named)
        for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
            name = name.removesuffix(ending)
        if name in PROCESSORS:
            return name, ()
        like = f"{signed}ImageProcessor" if signed else "most"
        return signed, (f"the image processor {str(named)[:60]!r} is not known: its fields were read as by {like}",)
    return MODEL_TYPES.get(str(model_type), signed), ()


def _arithmetic(settings: Config) -> dict[str, Any]:
    """Return all steps on pixel values as one: x = (pixel * rescale - mean) / std."""
    rescales = settings.get("do_rescale", True)
    rescale = float(settings.get("rescale_factor", 1 / 255)) if rescales else 1.0
    mean, std = triple(0), triple(1)
    if settings["do_normalize"]:
        if "image_mean" not in settings or "image_std" not in settings:
            raise ValueError("do_normalize without image_mean and image_std, and the image processor is not known")
        mean, std = triple(settings["image_mean"]), triple(settings["image_std"])
    if rescales and settings.get("rescale_offset"):
        mean = tuple(1 + m for m in mean)
    if settings.get("include_top"):  # EfficientNet divides a second time
        std = tuple(s * again for s, again in zip(std, triple(settings["image_std"]), strict=True))
    if not settings.get("do_flip_channel_order"):
        return {"rescale": rescale, "mean": mean, "std": std}
    return {"rescale": rescale, "mean": mean[::-1], "std": std[::-1], "channel_order": "bgr"}


def triple(value: Any) -> tuple[float, ...]:
    """Return one number per channel."""
    numbers = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    return tuple(float(n) for n in numbers)


def interpolation(resample: Any) -> str:
    """Return the filter for Pillow's number or name."""
    if isinstance(resample, int) and not isinstance(resample, bool) and 0 <= resample < len(RESAMPLE):
        return RESAMPLE[resample]
    name = str(resample).lower().rpartition(".")[2]
    if name not in RESAMPLE:
        raise ValueError(f"resample {resample!r} is no filter of Pillow's: 0 to {len(RESAMPLE) - 1}")
    return name


def _geometry(settings: Config) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Return the fields of `Preprocessing` for resizing and cutting, and the size of the result."""
    for key, value in settings.items():
        if value and (key in _NO_PICTURE or (key.startswith("do_") and key not in _STEPS)):
            raise _Refusal(f"has a step that is not known here ({key})")
    for key in ("size_divisor", "ensure_multiple_of"):
        if settings.get(key, 1) != 1:
            raise _Refusal(f"rounds the sides up to a multiple of {settings[key]}")
    if not settings.get("do_resize", True):
        raise _Refusal("takes photos at their own size (do_resize is false)")
    size = _named_sides(settings.get("size"), settings.get("square", True))
    if size is not None and size.keys() == {"shortest_edge"} and settings.get("max_size"):
        size["longest_edge"] = int(settings["max_size"])
    crop = _square(settings.get("crop_size", size)) if settings.get("do_center_crop") else None
    if settings.get("way") in _WAYS:
        size, crop = _WAYS[settings["way"]](settings, size, crop)
    if size is None:
        return {}, None
    if settings.get("do_pad") and crop is None and (bounds := _bounds(size)) is not None:
        return _letterbox(bounds, "shortest_edge" in size, _square(settings.get("pad_size")))
    fields, out = _cut(size, crop) if settings.get("way") != "perceiver" else _cut_first(size, crop)
    if settings.get("do_pad") and (padded := _square(settings.get("pad_size"))) and padded != out:
        raise _Refusal("pads the picture")
    return fields, out


Sides = dict[str, int]
Size = tuple[int, int]


def _named_sides(size: Any, square: bool) -> Sides | None:
    """Return a `size` of any form as a mapping by today's names."""
    if size is None:
        return None
    if isinstance(size, Mapping):
        return {str(name): int(side) for name, side in size.items() if side is not None}
    if isinstance(size, list | tuple):
        height, width = size if len(size) == 2 else (*size, *size)
        return {"height": int(height), "width": int(width)}
    side = int(size)
    return {"height": side, "width": side} if square else {"shortest_edge": side}


def _square(size: Any) -> Size | None:
    """Return a `crop_size` of any form as (H, W)."""
    sides = _named_sides(size, True)
    if not sides:
        return None
    edge = sides.get("shortest_edge", 0)
    return sides.get("height", edge), sides.get("width", edge)


def _cut(size: Sides, crop: Size | None) -> tuple[dict[str, Any], Size]:
    """Return the fields for resizing to `size`, then cutting `crop` out of the centre, if anything is cut."""
    if size.keys() == {"height", "width"}:
        whole, way = (size["height"], size["width"]), "squash_crop"
        crop = crop or whole
    elif size.keys() == {"shortest_edge"} and crop is not None:
        whole, way = (size["shortest_edge"],) * 2, "crop"
        if crop[0] != crop[1]:
            raise _Refusal(f"cuts {crop[0]} x {crop[1]} out of a photo whose shorter side is {whole[0]}")
    else:
        sides = " and ".join(f"{name} {side}" for name, side in size.items())
        raise _Refusal(f"keeps the aspect ratio and cuts nothing ({sides}), so its pictures differ in size")
    if crop[0] > whole[0] or crop[1] > whole[1]:
        raise _Refusal(f"pads pictures of {whole[0]} x {whole[1]} to {crop[0]} x {crop[1]}")
    if crop[0] * whole[1] != crop[1] * whole[0]:
        raise _Refusal(f"cuts {crop[0]} x {crop[1]} out of {whole[0]} x {whole[1]}, of another aspect ratio")
    if way == "squash_crop" and crop == whole:
        return {"resize": "squash"}, crop
    return {"resize": way, "crop_fraction": crop[0] / whole[0], "crop_rounding": "down"}, crop


def _bounds(size: Sides) -> Size | None:
    """Return the bounds of both sides of a picture that keeps its aspect ratio; None of any other."""
    for names in (("shortest_edge", "longest_edge"), ("max_height", "max_width")):
        if size.keys() == {*names}:
            return size[names[0]], size[names[1]]
    return None


def _letterbox(bounds: Size, edges: bool, padded: Size | None) -> tuple[dict[str, Any], Size | None]:
    """Return a detector's fields: the picture fits within bounds, and zeros follow below and on its right.

    Args:
        bounds: Of both sides.
        edges: Whether they are those of the shorter and of the longer side, not of height and width.
        padded: (H, W) of the result, where it is named.
    """
    if padded is not None and padded not in (bounds, bounds[::-1] if edges else bounds):
        raise _Refusal(f"pads pictures within {bounds[0]} x {bounds[1]} to {padded[0]} x {padded[1]}")
    rounding = "even" if edges and bounds[0] == bounds[1] else "down"
    return {"resize": "letterbox", "pad_place": "corner", "pad_rounding": rounding}, padded


def _of_letterbox(settings: Config, padded: Size | None) -> tuple[str, ...]:
    """Return a remark where its pictures have sizes of their own, or sides that are rounded in another way."""
    if padded is None:
        return ("it keeps the aspect ratio, so its pictures differ in size: they were fitted into the model's input",)
    exact = "max_height" in (_named_sides(settings["size"], False) or {})
    return () if exact else ("the sides of its pictures can differ by a pixel",)


def _cut_first(size: Sides, crop: Size | None) -> tuple[dict[str, Any], Size]:
    """Return Perceiver's fields: it cuts size / crop of the shorter side out, then resizes that to `size`."""
    out = size["height"], size["width"]
    if crop is None:
        return {"resize": "squash"}, out
    if out[0] * crop[1] != out[1] * crop[0] or out[0] != out[1] or out[0] > crop[0]:
        raise _Refusal(f"cuts {out[0]} x {out[1]} of {crop[0]} x {crop[1]} out of the photo first")
    return {"resize": "crop_first", "crop_fraction": out[0] / crop[0], "crop_rounding": "down"}, out


def _edge(size: Sides | None) -> int:
    if size is None or "shortest_edge" not in size or len(size) > 1:
        raise _Refusal("needs the shortest_edge as its size")
    return size["shortest_edge"]


def _convnext(settings: Config, size: Sides | None, crop: Size | None) -> tuple[Sides, Size | None]:
    """Return size and crop: below 384 pixels it crops, from there on it squashes."""
    edge = _edge(size)
    if crop not in (None, (edge, edge)):
        raise _Refusal("cuts twice (crop_pct and crop_size)")
    if edge >= 384:
        return {"height": edge, "width": edge}, None
    return {"shortest_edge": int(edge / float(settings["crop_pct"]))}, (edge, edge)


def _levit(_: Config, size: Sides | None, crop: Size | None) -> tuple[Sides | None, Size | None]:
    if size is None or "shortest_edge" not in size:
        return size, crop
    return {"shortest_edge": int(256 / 224 * size["shortest_edge"])}, crop


def _poolformer(settings: Config, size: Sides | None, crop: Size | None) -> tuple[Sides, Size | None]:
    sides = size or {}
    edge = sides.get("shortest_edge") or sides.get("height", 0)
    if not edge or sides.get("width", edge) != edge:
        raise _Refusal("needs the shortest_edge, or a square, as its size")
    return {"shortest_edge": int(edge / float(settings["crop_pct"]))}, crop


def _pplcnet(settings: Config, _: Sides | None, crop: Size | None) -> tuple[Sides, Size | None]:
    return {"shortest_edge": int(settings["resize_short"])}, crop


def _perceiver(_: Config, size: Sides | None, crop: Size | None) -> tuple[Sides | None, Size | None]:
    if size is not None and size.keys() != {"height", "width"}:
        raise _Refusal("needs height and width as its size")
    return size, crop


_WAYS = {
    "convnext": _convnext,
    "levit": _levit,
    "perceiver": _perceiver,
    "poolformer": _poolformer,
    "pplcnet": _pplcnet,
}
