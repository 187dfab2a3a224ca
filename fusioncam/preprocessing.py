"""`Preprocessing`, the part of a manifest that says how a picture becomes the model's input."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

PerChannel = Annotated[tuple[float, ...], Field(min_length=1)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "cv2-linear"]
Resize = Literal["squash", "crop", "squash_crop", "crop_first", "letterbox", "none"]
Order = Literal["rgb", "bgr", "grey", "bands"]
Positive = Annotated[int, Field(gt=0)]
KINDS = {1: "signals", 2: "pictures", 3: "volumes"}  # of inputs, by the number of their axes
ORDERS = {"rgb": 3, "bgr": 3, "grey": 1}  # of photos, with the number of channels that each has
PAD = 114.0  # the grey of Ultralytics' letterbox
PADDING = ("pad", "pad_place", "pad_rounding")  # fields that say something for a letterbox only
RESIZES = {  # the ways that inputs of each kind can take
    "signals": ("squash", "none"),
    "pictures": ("squash", "crop", "squash_crop", "crop_first", "letterbox"),
    "volumes": ("squash", "none"),
}
BY_OPENCV = ("squash", "letterbox")  # ways of resizing pictures by the filter `cv2-linear`


class Part(BaseModel):
    """A part of `manifest.json`: it has no other fields than those here, and none changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def usual_order(channels: int) -> str:
    """Return the order of channels where nobody says another."""
    return {1: "grey", 3: "rgb"}.get(channels, "bands")


def _ranges(numbers: tuple[int, ...]) -> str:
    """Return whole numbers in words: `1 to 13`, or all of them where they are in no such order."""
    if len(numbers) > 2 and numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _numbers(values: Iterable[float], between: str = " ") -> str:
    return between.join(f"{value:g}" for value in values)


class Preprocessing(Part):
    """The way from a picture to the input: x = (pixel * rescale - mean) / std.

    Pixels of a photo are 0..255, whatever the depth of its file. Numbers of bands are taken as they are.

    Attributes:
        size: (H, W) of the model's input in pixels; (L,) of a signal, (D, H, W) of a volume.
        channel_order: What the model's channels are; `mean` and `std` follow their order. `rgb` or `bgr` of a photo,
            `grey` of a photo (as Pillow's L: the luma of its colours), `bands` (all bands of an array, in its order),
            or the numbers of bands of an array, counted from 1. By default `rgb` for three channels, `grey` for one,
            else `bands`.
        rescale: Factor applied to the pixel first.
        mean: Subtracted after rescaling, one per channel.
        std: Divided by last, one per channel.
        resize: `squash` resizes to `size` and ignores the aspect ratio; `crop` resizes the picture, aspect ratio
            kept, until it just covers `size / crop_fraction`, then cuts `size` out of the centre; `squash_crop`
            resizes to `size / crop_fraction`, aspect ratio ignored, then cuts; `crop_first` cuts the largest centred
            part of the aspect ratio of `size`, times `crop_fraction`, and resizes that. `letterbox` resizes the whole
            picture, aspect ratio kept, until it just fits into `size`, and fills the rest with `pad`. `none` refuses
            any other size: the usual way of a signal, whose samples lie at times of their own. A volume is squashed, or
            refused.
        crop_fraction: Side of the crop over the side of the (resized) picture; not for `squash` and `letterbox`.
        crop_rounding: Where the cut begins if an odd number of pixels is left beside it: at the `even` one of the two
            in the middle (torchvision, timm), or at the lower, `down` (transformers).
        shown_bands: The bands that pictures show, numbered as for `channel_order`: three as red, green and blue, or one
            as grey. None: those of one or of three channels; of any other number the mean, as grey.
        interpolation: The filter that resizes, as Pillow defines it; all but `nearest` are antialiased. `cv2-linear` is
            OpenCV's INTER_LINEAR, which is not: the usual one of `letterbox`, also for `squash`.
        pad: What fills a letterbox: a pixel, 0..255 of a photo, one number per channel in the model's order.
        pad_place: Where the picture lies in a letterbox: in the `centre` (Ultralytics; an odd pixel that is left lies
            below or on the right), or in the upper left `corner` (mmdetection, YOLOX).
        pad_rounding: How the sides of the picture in a letterbox become whole numbers: to the nearest, halves to the
            `even` one (Ultralytics) or `up` (mmdetection), or always `down` (YOLOX).
        origin: Who says so: the user, the model file, a configuration beside it, or nobody (`assumed`).
        remarks: What a configuration says that could not be followed to the letter, one line each.
    """

    size: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=3)]
    channel_order: Order | tuple[Positive, ...] = "rgb"
    rescale: float = 1.0
    mean: PerChannel = (0.0, 0.0, 0.0)
    std: PerChannel = (1.0, 1.0, 1.0)
    resize: Resize = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    crop_rounding: Literal["even", "down"] = "even"
    interpolation: Interpolation = "bilinear"
    pad: PerChannel = (PAD, PAD, PAD)
    pad_place: Literal["centre", "corner"] = "centre"
    pad_rounding: Literal["even", "up", "down"] = "even"
    shown_bands: tuple[Positive, ...] | None = None
    origin: Literal["user", "model", "config", "assumed"] = "user"
    remarks: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_the_number_of_channels(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = data.get("mean", data.get("std"))
        channels = len(given) if isinstance(given, tuple | list) else 3
        usual = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "channel_order": usual_order(channels)}
        axes = len(size) if isinstance(size := data.get("size"), tuple | list) else 2
        if axes != 2:
            usual |= {"channel_order": "bands", "resize": "none" if axes == 1 else "squash"}
        if data.get("resize") == "letterbox":
            usual["interpolation"] = "cv2-linear"
        elif said := [name for name in PADDING if data.get(name) is not None]:
            raise ValueError(f"{said[0]} is for resize letterbox, not for {data.get('resize', 'squash')}")
        pad = data.get("pad", PAD)
        spread = {"pad": (pad,) * channels} if isinstance(pad, int | float) else {}
        return {**usual, **data, **spread}

    @model_serializer(mode="wrap")
    def _padding_of_letterboxes_only(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields; where nothing is padded, those that manifests had before there was padding."""
        fields: dict[str, Any] = written(self)
        return {k: v for k, v in fields.items() if self.resize == "letterbox" or k not in PADDING}

    @property
    def channels(self) -> int:
        """Return C, the number of the model's channels."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (C, H, W) of the model's input."""
        return (self.channels, *self.size)

    @property
    def kind(self) -> str:
        """Return what the model takes: signals (L,), pictures (H, W) or volumes (D, H, W)."""
        return KINDS[len(self.size)]

    @property
    def takes_photos(self) -> bool:
        """Return whether the model takes colours or grey of photos, and not bands, whose numbers have no white."""
        return self.channel_order in ORDERS

    @property
    def bands(self) -> tuple[int, ...]:
        """Return the numbers of the bands that the model takes, from 1."""
        return self.channel_order if isinstance(self.channel_order, tuple) else tuple(range(1, self.channels + 1))

    @property
    def shown_channels(self) -> tuple[int, ...]:
        """Return the channels, one or three, that pictures show; none where they show the mean of all."""
        usual = self.bands if self.channels in (1, 3) else ()
        return tuple(map(self.bands.index, usual if self.shown_bands is None else self.shown_bands))

    @property
    def shown_text(self) -> str:
        """Return which bands pictures show, in a few words; nothing for photos and signals, which show all channels."""
        if self.takes_photos or self.kind == "signals":
            return ""
        shown = [self.bands[c] for c in self.shown_channels]
        numbers = f"band{'s' * (len(shown) > 1)} {', '.join(map(str, shown))}"
        return numbers if shown else f"the mean of {self.channels} bands"

    def why_not_shown(self, bands: tuple[int, ...]) -> str | None:
        """Return why pictures cannot show these bands; None where they can."""
        if self.takes_photos:
            return f"bands to show are those of arrays, and the model takes photos ({self.order_text}): leave them out"
        if len(bands) not in (1, 3) or not {*bands} <= {*self.bands}:
            said = ", ".join(map(str, bands)) or "none"
            return f"bands to show are one or three of the model's bands, {_ranges(self.bands)}, not {said}"
        return None

    @property
    def extremes(self) -> tuple[float, float] | None:
        """Return the least and the greatest value of an input; None for bands, whose numbers have no limits."""
        if not self.takes_photos:
            return None
        ends = [(p * self.rescale - m) / s for p in (0, 255) for m, s in zip(self.mean, self.std, strict=True)]
        return min(ends), max(ends)

    @property
    def words(self) -> str:
        """Return the preprocessing in a few words, for notes to the user."""
        mean, std = (_numbers({*v} if self.channels > 3 and len({*v}) == 1 else v) for v in (self.mean, self.std))
        arithmetic = f"x = (pixel * {self.rescale:.4g} - {mean}) / {std}"
        if (self.rescale, {*self.mean}, {*self.std}) == (1, {0}, {1}):
            arithmetic = f"x = pixel, {'0..255 ' if self.takes_photos else ''}as they are"
        order, shape = self.order_text, _numbers(self.size, " x ")
        kind = {"pictures": "photos" if self.takes_photos else "arrays"}.get(self.kind, self.kind)
        way = f"{kind} of {shape}" if self.resize == "none" else f"{kind} resized to {shape} ({self._way})"
        return f"{arithmetic}, {order}, {way}"

    @property
    def _way(self) -> str:
        """Return the way of resizing, in a few words."""
        pad = _numbers({*self.pad} if len({*self.pad}) == 1 else self.pad)
        return f"letterbox, {self.pad_place}, padded with {pad}" if self.resize == "letterbox" else self.resize

    @property
    def order_text(self) -> str:
        """Return what the channels are, in a few words."""
        if isinstance(self.channel_order, tuple):
            return f"bands {_numbers(self.channel_order)}"
        plural = "s" * (self.channels > 1)
        bands = f"{self.channels} {'band' if self.kind == 'pictures' else 'channel'}{plural}"
        return {"grey": "grey", "bands": bands}.get(self.channel_order, self.channel_order.upper())

    @model_validator(mode="after")
    def _factors_are_not_zero(self) -> Self:
        for name, factors in (("rescale", (self.rescale,)), ("std", self.std)):
            if 0.0 in factors:
                raise ValueError(f"{name} must not be zero")
        return self

    @model_validator(mode="after")
    def _cut_only_pictures(self) -> Self:
        pictures = self.kind == "pictures"
        if not pictures and self.channel_order != "bands":
            raise ValueError(f"channel_order is for pictures, and the model takes {self.kind}: leave it out")
        if self.resize not in RESIZES[self.kind]:
            others = "squash or none" if not pictures else "another"
            raise ValueError(f"resize {self.resize} is not for {self.kind}: use {others}")
        if self.interpolation == "cv2-linear" and not (pictures and self.resize in BY_OPENCV):
            way = f"resize {self.resize}" if pictures else self.kind
            raise ValueError(f"interpolation cv2-linear is for pictures by {' and '.join(BY_OPENCV)}, not for {way}")
        return self

    @model_validator(mode="after")
    def _padding_is_a_pixel(self) -> Self:
        if len(self.pad) != len(self.mean):
            raise ValueError(
                f"pad has {len(self.pad)} numbers, and mean {len(self.mean)}: give one number, or one each"
            )
        if self.takes_photos and not all(0 <= p <= 255 for p in self.pad):
            raise ValueError(f"pad is a pixel of a photo, 0 to 255, not {_numbers(self.pad)}")
        return self

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> Self:
        if len(self.std) != len(self.mean):
            raise ValueError(f"mean has {len(self.mean)} numbers, and std {len(self.std)}: give one per channel")
        order, channels = self.channel_order, len(self.mean)
        named = len(order) if isinstance(order, tuple) else ORDERS.get(order, channels)
        if named != channels:
            said = _numbers(order) if isinstance(order, tuple) else repr(order)
            plural = "s" * (named != 1)
            raise ValueError(f"channel_order {said} is of {named} channel{plural}, and the model takes {channels}")
        return self

    @model_validator(mode="after")
    def _bands_can_be_shown(self) -> Self:
        if self.shown_bands is not None and (reason := self.why_not_shown(self.shown_bands)) is not None:
            raise ValueError(reason)
        return self
