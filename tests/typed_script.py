"""A user's script, never run: `make lint` holds its types against those of the package, with mypy --strict."""

import asyncio
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fusioncam import (
    AsyncExplainer,
    Explainer,
    Explanation,
    FusionCamError,
    ImageLike,
    Photo,
    auto,
    difference,
    export_model,
)


def report(done: int, passes: int) -> None:
    """Stands for a progress bar."""


def explain(photo: Path) -> list[Explanation]:
    """Uses what has types of its own: options, pictures in any form, results."""
    export_model("model.onnx", "model.fcam", preprocessing={"preset": "torchvision"})
    with Explainer("model.fcam", providers=["cpu"], methods=["grad_cam"], budget=auto(0.01)) as explainer:
        found: Explanation = explainer.explain(photo, "zebra", progress=report)
        files: list[Path] = found.save("out", style="contour")
        panel: npt.NDArray[np.uint8] = found.panel(opacity=0.5)
        photos: list[ImageLike] = [
            str(files[0]), photo, photo.read_bytes(), BytesIO(), Image.new("L", (2, 2)), torch.zeros(2, 2), panel,
            Photo(panel, "its name"),
        ]  # fmt: skip
        explainer.overlay(np.zeros((3, 4, 4), np.float32), 3)
        first, second = explainer.explain_batch([photo], [["zebra", 3]], keep_photos=True)
        largest: dict[str, float] = difference(first, second).largest
        assert largest
        return explainer.explain_batch(photos, top=3)


async def main() -> Explanation:
    """Awaits explanations, and preliminary ones."""
    try:
        async with AsyncExplainer("model.fcam") as explainer:
            async for preliminary in explainer.explain_progressively("a.jpg", 3):
                assert preliminary.maps
            return await explainer.explain("a.jpg", verify=True)
    except FusionCamError as error:
        raise SystemExit(str(error)) from None


asyncio.run(main())
