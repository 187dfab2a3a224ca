"""`Preprocessing`, the part of a manifest that says how a picture becomes the model's input."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Triple = tuple[float, float, float]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Positive = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """A part of `manifest.json`: it has no other fields than those here, and none changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _numbers(values: tuple[float, ...], between: str = " ") -> str:
    return between.join(f"{value:g}" for value in values)


class Preprocessing(Part):
    """The way from a picture to the input: x = (pixel * rescale - mean) / std on 0..255 pixels.

    Attributes:
        size: (H, W) of the model's input in pixels.
        channel_order: Order in which the model takes the channels; `mean` and `std` follow it.
        rescale: Factor applied to the 0..255 pixel first.
        mean: Subtracted after rescaling, one per channel.
        std: Divided by last, one per channel.
        resize: `squash` resizes to `size` and ignores the aspect ratio; `crop` resizes the picture, aspect ratio
            kept, until it just covers `size / crop_fraction`, then cuts `size` out of the centre; `squash_crop`
            resizes to `size / crop_fraction`, aspect ratio ignored, then cuts; `crop_first` cuts the largest centred
            part of the aspect ratio of `size`, times `crop_fraction`, and resizes that.
        crop_fraction: Side of the crop over the side of the (resized) picture; not for `squash`.
        crop_rounding: Where the cut begins if an odd number of pixels is left beside it: at the `even` one of the two
            in the middle (torchvision, timm), or at the lower, `down` (transformers).
        interpolation: The filter that resizes, as Pillow defines it; all but `nearest` are antialiased.
        origin: Who says so: the user, the model file, a configuration beside it, or nobody (`assumed`).
        remarks: What a configuration says that could not be followed to the letter, one line each.
    """

    size: tuple[Positive, Positive]
    channel_order: Literal["rgb", "bgr"] = "rgb"
    rescale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    resize: Literal["squash", "crop", "squash_crop", "crop_first"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    crop_rounding: Literal["even", "down"] = "even"
    interpolation: Interpolation = "bilinear"
    origin: Literal["user", "model", "config", "assumed"] = "user"
    remarks: tuple[str, ...] = ()

    @property
    def extremes(self) -> tuple[float, float]:
        """Return the least and the greatest value of an input."""
        ends = [(p * self.rescale - m) / s for p in (0, 255) for m, s in zip(self.mean, self.std, strict=True)]
        return min(ends), max(ends)

    @property
    def words(self) -> str:
        """Return the preprocessing in a few words, for notes to the user."""
        arithmetic = f"x = (pixel * {self.rescale:.4g} - {_numbers(self.mean)}) / {_numbers(self.std)}"
        if (self.rescale, self.mean, self.std) == (1, (0, 0, 0), (1, 1, 1)):
            arithmetic = "x = pixel, 0..255 as they are"
        order, shape = self.channel_order.upper(), _numbers(self.size, " x ")
        return f"{arithmetic}, {order}, photos resized to {shape} ({self.resize})"

    @model_validator(mode="after")
    def _factors_are_not_zero(self) -> Self:
        for name, factors in (("rescale", (self.rescale,)), ("std", self.std)):
            if 0.0 in factors:
                raise ValueError(f"{name} must not be zero")
        return self
