"""Group-CAM: the picture under the masks of groups of channels, blurred where they hide it."""

from collections.abc import Sequence

import numpy as np

from fusioncam.kernels import cam_methods
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.targets.readout import Readout


class GroupCam:
    """The groups of every target, and their passes.

    Args:
        passes: Runs pictures.
        readout: Reads the targets of what comes out.
        activations: A (K, h, w) of each target.
        gradients: g (K, h, w) of each target.
    """

    def __init__(
        self,
        passes: MaskedPasses,
        readout: Readout,
        activations: Sequence[Float32Array],
        gradients: Sequence[Float32Array],
    ) -> None:
        self._passes, self._readout = passes, readout
        groups = (cam_methods.group_maps(a, g) for a, g in zip(activations, gradients, strict=True))
        makers = [MaskMaker(maps, passes.image) for maps in groups]
        self._groups = [(maker, np.flatnonzero(~maker.zero & ~maker.constant)) for maker in makers]

    @property
    def passes(self) -> int:
        """Return the number of passes: one per group that shows anything, and the blurred picture."""
        return sum(len(live) for _, live in self._groups) + 1

    def maps(self) -> Task[list[Array]]:
        """Pass the masked pictures of all targets together with the blurred picture; return the maps."""
        x = self._passes.image
        blurred = cam_methods.blur(x)
        places = [(maker, k) for maker, live in self._groups for k in live.tolist()]

        def picture(i: int) -> Float32Array:
            if i == len(places):
                return blurred
            maker, k = places[i]
            return np.asarray(blurred + (x - blurred) * maker.full(k))

        rows = yield from self._passes.of_pictures(len(places) + 1, picture)
        maps, start = [], 0
        confidences = self._readout.confidences(rows)
        for n, (maker, live) in enumerate(self._groups):
            gains = confidences[start : start + len(live), n] - confidences[-1, n]
            masks = maker.scaled[live].astype(np.float64)
            maps.append(cam_methods.group_cam_map(masks, gains, self._passes.size))
            start += len(live)
        return maps
