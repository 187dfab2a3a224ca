"""The preprocessing of pictures: the user's, or that of the model's metadata or a configuration beside it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from pydantic import ValidationError

from fusioncam.errors import ModelError, UsageError, first_line
from fusioncam.export.reading.configurations import ODDITIES, folders_of, read_json
from fusioncam.export.source_metadata.hugging_face import PictureConfig, read_config
from fusioncam.export.source_metadata.timm_config import read_timm
from fusioncam.kernels.arrays import Size
from fusioncam.manifest import Preprocessing
from fusioncam.preprocessing import PADDING, usual_order

PRESETS: dict[str, dict[str, Any]] = {
    "torchvision": {"rescale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "tf": {"rescale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)},
    "unit": {"rescale": 1 / 255},
    "raw": {},
    "signed": {"mean": (128.0, 128.0, 128.0)},
    "yolo": {"rescale": 1 / 255, "resize": "letterbox"},
    "yolox": {"channel_order": "bgr", "resize": "letterbox", "pad_place": "corner", "pad_rounding": "down"},
}
ARITHMETIC = ("rescale", "mean", "std")
RT_DETR = {"rescale": 1 / 255, "resize": "squash", "interpolation": "cv2-linear"}  # Ultralytics' takes no letterbox
YOLO_TASKS = ("detect", "segment", "pose", "obb")  # those of Ultralytics that take a letterbox
LEVELS = 16  # at least so many whole numbers must be left of 256 pixel values

# The values of `Image.NominalPixelRange` (ONNX, MetadataProps.md), as presets. 16..235 is nobody's float input.
PIXEL_RANGES = {"NominalRange_0_255": "raw", "Normalized_0_1": "unit", "Normalized_1_1": "tf"}


def read_preprocessing(
    metadata: Mapping[str, str],
    folder: Path,
    size: Size,
    user_fields: str | Mapping[str, Any],
    kind: ir.DataType = ir.DataType.FLOAT,
    channels: int = 3,
    detector: str | None = None,
) -> Preprocessing:
    """Return the preprocessing: the user's fields over those of the source, over the usual ones.

    Args:
        metadata: The model's metadata_props.
        folder: Where the model lies.
        size: (H, W) of the input.
        user_fields: Fields of `Preprocessing`; `preset` names one of `PRESETS`. A mere name is that of a preset. One
            number as `mean` or `std` is that of every channel.
        kind: Type of the input, for the usual arithmetic, see `usual_preset`.
        channels: C.
        detector: The usual preset of a detector, see `preset_of_detector`; None of other models.

    Raises:
        ModelError: The description in the source makes no sense.
        UsageError: A value of the user makes no sense.
    """
    if isinstance(user_fields, str):
        user_fields = {"preset": user_fields}
    if not isinstance(user_fields, Mapping):
        raise UsageError(f"preprocessing is a preset's name or a mapping of fields, not {type(user_fields).__name__}")
    user = {k: v for k, v in user_fields.items() if v is not None}
    preset = user.pop("preset", None)
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise UsageError(f"no preset {preset!r}; the presets are {', '.join(PRESETS)}")
    origin, fields = "user", PRESETS.get(preset or "", {})
    if preset is None:
        order = user.get("channel_order", None if len(size) == 2 else "bands")
        usual = _usual(usual_preset(kind, channels, order), detector)
        origin, fields = _stated(lambda: _in_model(metadata, detector), folder, size, channels, usual, user)
    # A colour statistic belongs to its rescaling: who gives one gives the whole arithmetic.
    if origin == "assumed" and user.keys() & {*ARITHMETIC}:
        fields = _without(fields, ARITHMETIC)
    if user.get("resize", "letterbox") != "letterbox":
        fields = _without(fields, PADDING)
    origin = "user" if user.keys() - {"shown_bands"} else origin
    try:
        return _validated({**fields, **user, "size": size, "origin": origin}, channels)
    except ValueError as error:
        raise UsageError(f"preprocessing cannot be read: {_complaint(error)}") from error


def _without(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _validated(fields: Mapping[str, Any], channels: int) -> Preprocessing:
    """Return the preprocessing of these fields; one number, or three equal ones of a photo, go for any channels.

    Raises:
        ValueError: A field makes no sense, or is of another number of channels.
    """
    spread = {name: fields.get(name, default) for name, default in (("mean", 0.0), ("std", 1.0))}
    spread |= {"pad": fields["pad"]} if "pad" in fields else {}
    for name, value in spread.items():
        numbers = (value,) * 3 if isinstance(value, int | float) else value
        if isinstance(numbers, tuple | list) and len(numbers) == 3 and numbers[0] == numbers[1] == numbers[2]:
            spread[name] = (numbers[0],) * channels
    made = Preprocessing.model_validate({**fields, **spread})
    if made.channels != channels:
        raise ValueError(
            f"mean and std are of {made.channels} channels, and the model takes {channels}: give one number for all, "
            "or one per channel"
        )
    return made


def usual_preset(kind: ir.DataType, channels: int = 3, order: Any = None) -> str:
    """Return the usual preset of an input: whole numbers are pixels, and bands stay as they are.

    Args:
        kind: Type of the input.
        channels: C.
        order: See `Preprocessing.channel_order`; None takes the usual one.
    """
    if kind.is_integer():
        return "signed" if kind == ir.DataType.INT8 else "raw"
    named = usual_order(channels) if order is None else order if isinstance(order, str) else "bands"
    return {"grey": "unit", "bands": "raw"}.get(named, "torchvision")


def refuse_rounded_away(prep: Preprocessing, kind: ir.DataType) -> None:
    """Make sure that pixels are still told apart once they are rounded to whole numbers.

    Raises:
        UsageError: The input's type is one of whole numbers, and the preprocessing leaves next to none of them.
    """
    if prep.extremes is None:
        return
    low, high = prep.extremes
    if kind.is_integer() and high - low < LEVELS:
        raise UsageError(
            f"the model takes whole numbers ({kind.name.lower()}), and the preprocessing gives {low:.3g}..{high:.3g}, "
            f"which rounding makes nearly constant; use --preset {usual_preset(kind)}"
        )


def _usual(arithmetic: str, detector: str | None) -> dict[str, Any]:
    """Return the fields where nobody says any; a detector of others than colour photos has its resizing only."""
    if detector is None or arithmetic == "torchvision":
        return PRESETS[detector or arithmetic]
    return {**PRESETS[arithmetic], **_without(PRESETS[detector], (*ARITHMETIC, "channel_order"))}


def _stated(
    in_model: Callable[[], dict[str, Any]],
    folder: Path,
    size: Size,
    channels: int,
    usual: dict[str, Any],
    user: Mapping[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Return the origin of the fields, and the fields: of the model, else of a configuration, else the usual ones."""
    sources: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
        ("model", "the model's metadata", in_model),
        *(
            ("config", str(path), lambda path=path, read=read: _followed(read(path), path, size, user))
            for path, read in _configurations(folder, size)
        ),
    ]
    for origin, where, read in sources:
        try:
            if fields := read():
                _validated({**fields, "size": (1, 1)}, channels)
                return origin, fields
        except ODDITIES as error:
            raise ModelError(
                f"the preprocessing in {where} cannot be read ({_complaint(error)}); give it with --preset"
            ) from error
    return "assumed", usual


def _configurations(folder: Path, size: Size) -> Iterator[tuple[Path, Callable[[Path], PictureConfig | None]]]:
    """Yield the files that may hold the preprocessing, with their readers; the first that holds it counts."""
    for place in folders_of(folder) if len(size) == 2 else ():
        kind = read_json(place / "config.json").get("model_type")

        def processor(path: Path, kind: object = kind) -> PictureConfig | None:
            config = read_json(path)
            config = config.get("image_processor", config if path.name.startswith("pre") else {})
            if not config:
                return None
            return read_timm(config, size) or read_config(config, kind)

        yield place / "processor_config.json", processor
        yield place / "preprocessor_config.json", processor
        yield place / "config.json", lambda path: read_timm(read_json(path), size)


def _followed(config: PictureConfig | None, path: Path, size: Size, user: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Preprocessing`, with remarks on steps not followed; none where nothing was found.

    Raises:
        ModelError: Its resizing cannot be followed, and the user gives no other.
    """
    if config is None:
        return {}
    if config.refusal and "resize" not in user:
        raise ModelError(
            f"the preprocessing in {path} cannot be followed: {config.refusal}; choose the closest with "
            "--resize, or give the whole preprocessing with --preset"
        )
    remarks = [f"{path.name}: {remark}" for remark in config.remarks]
    if config.size not in (None, size):
        made, taken = (" x ".join(map(str, sides)) for sides in (config.size or (), size))
        remarks.append(f"{path.name} makes pictures of {made}, the model takes {taken}: the proportions were kept")
    return {**config.fields, "remarks": tuple(remarks)}


def _complaint(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors()[0]
    where, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return " ".join(f"{where}: {said}".lstrip(": ").split())


def _in_model(metadata: Mapping[str, str], detector: str | None) -> dict[str, Any]:
    """Return the fields of the model's own metadata: this project's key, ONNX's `Image.*` keys, or YOLO's habits."""
    if "fusioncam.preprocessing" in metadata:
        return dict(json.loads(metadata["fusioncam.preprocessing"]))
    if metadata.get("Image.NominalPixelRange") in PIXEL_RANGES:
        order = "bgr" if metadata.get("Image.BitmapPixelFormat", "").lower().startswith("bgr") else "rgb"
        return {**PRESETS[PIXEL_RANGES[metadata["Image.NominalPixelRange"]]], "channel_order": order}
    if metadata.get("author") == "Ultralytics":
        if "rtdetr" in (metadata.get("head", "") + metadata.get("description", "")).lower():
            return RT_DETR
        return PRESETS["yolo"] if metadata.get("task") in YOLO_TASKS else {**PRESETS["unit"], "resize": "crop"}
    if detector is not None and {"stride", "names"} <= metadata.keys():  # YOLOv5 says no more of itself
        return PRESETS[detector]
    return {}
