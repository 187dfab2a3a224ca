"""The sizes of input that a bundle takes beside its own: the part of the manifest of a bundle of any size."""

import math
from typing import Annotated

from pydantic import Field

from fusioncam.preprocessing import Part, Positive

Size = tuple[int, ...]
PHOTO_PIXELS = 1 << 20  # of the input, for a photo at its own size: bounds time and memory
MOST_PIXELS = 100_000_000  # of any input
ANY, PHOTO = "any", "photo"  # words for sizes: all that a model takes, and that of the photo
AXES = ("length",), ("height", "width"), ("depth", "height", "width")  # of inputs of one, two and three axes


class FreeSize(Part):
    """Sizes that the graphs of a bundle can be derived for.

    Attributes:
        step: For each axis, from where on the model ran: sizes that differ from the bundle's own by whole multiples of
            the step; 0 where the size is fixed.
        least: The smallest size of each axis at which the model ran.
        options: Options of the export that the rest of the manifest does not tell.
    """

    step: tuple[Annotated[int, Field(ge=0)], ...]
    least: tuple[Positive, ...]
    options: dict[str, str | bool | int | float]

    def refusal(self, size: Size, own: Size) -> str | None:
        """Return why the model cannot take a size; None where it may.

        Args:
            size: The size.
            own: The size of the bundle.
        """
        if len(size) != len(own):
            count = f"{len(own)} number{'s' * (len(own) > 1)}"
            return f"the model takes sizes of {count}, such as {sides(own)}, not {sides(size)}"
        if math.prod(size) > MOST_PIXELS:
            return f"{sides(size)} are {math.prod(size)} pixels, more than {MOST_PIXELS}"
        for name, n, of_own, step, least in zip(AXES[len(own) - 1], size, own, self.step, self.least, strict=True):
            if n == of_own:
                continue
            if not step:
                return f"the model takes a {name} of {of_own} only, not {n}"
            if n < least:
                return f"the model takes a {name} of {least} or more, not {n}"
            if (n - of_own) % step:
                below = n - (n - of_own) % step
                nearest = " or ".join(str(m) for m in (below, below + step) if m >= least)
                return f"the model takes a {name} of {of_own} plus or minus multiples of {step}, not {n}: try {nearest}"
        return None

    def fitted(self, size: Size, own: Size, most: int = PHOTO_PIXELS) -> Size:
        """Return the largest size that the model takes within a photo's own; a large photo is shrunk.

        Args:
            size: The size of the photo.
            own: The size of the bundle.
            most: The most pixels; more only where the smallest size that the model takes has more.
        """
        scale = min(1.0, (most / math.prod(size)) ** (1 / len(size)))
        return tuple(
            max(of_own + math.floor((n * scale - of_own) / step) * step, least) if step else of_own
            for n, of_own, step, least in zip(size, own, self.step, self.least, strict=True)
        )

    def words(self, own: Size) -> str:
        """Return the sizes in a few words: `any height from 33 on, and any width from 33 on`."""
        said = []
        for name, of_own, step, least in zip(AXES[len(own) - 1], own, self.step, self.least, strict=True):
            if not step:
                said.append(f"a {name} of {of_own}")
            elif step == 1:
                said.append(f"any {name} from {least} on")
            else:
                said.append(f"a {name} of {least}, {least + step}, {least + 2 * step} and so on")
        return " and ".join(said)


def sides(size: Size) -> str:
    """Return a size as text: `224 x 224`."""
    return " x ".join(map(str, size))
