"""Everything the device holds of a picture on its way to the maps, allocated once."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Device, DeviceArray, empty
from fusioncam.kernels.specs.masks import turning_points
from fusioncam.manifest import Manifest

MAPS = ("grad_cam", "denoised", "score_cam", "united", "fusion_cam")  # full-size maps that are kept
SLOTS = 2  # chunks: one is made while the other runs


class Buffers:
    """Device arrays, some of them with an end on the host, so that copies need not wait."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._host: dict[str, tuple[Array, DeviceArray]] = {}

    def _new(self, *shape: int, dtype: npt.DTypeLike = np.float32) -> DeviceArray:
        return empty(self._device, shape, dtype)

    def _constant(self, values: Array, stream: int) -> DeviceArray:
        made = self._new(*values.shape, dtype=values.dtype)
        self._device.upload(values, made.pointer, stream)
        self._device.synchronize(stream)  # or `values` might be gone first
        return made

    def _pin(self, **arrays: DeviceArray) -> None:
        for name, array in arrays.items():
            self._host[name] = self._device.pinned(array.shape, array.dtype), array

    def send(self, name: str, source: npt.ArrayLike, stream: int) -> None:
        """Copy rows to the start of one of the arrays, without waiting."""
        rows = np.asarray(source)
        host, target = self._host[name]
        host[: len(rows)] = rows
        self._device.upload(host[: len(rows)], target.pointer, stream)

    def receive(self, name: str, stream: int, count: int | None = None) -> Array:
        """Return the first rows of one of the arrays; they are valid once `stream` is done, until the next call."""
        host, source = self._host[name]
        self._device.download(source.pointer, host[:count], stream)
        return host[:count]


class PictureBuffers(Buffers):
    """Buffers of a picture, for any number of classes. They are never moved: CUDA graphs hold their addresses.

    Args:
        device: Where it is.
        manifest: The bundle's.
        dtype: Type of the masked pictures.
        chunk: Masked pictures per run, B.
        stream: For copies.

    Raises:
        DeviceError: There is not enough memory.
    """

    def __init__(
        self, device: Device, manifest: Manifest, dtype: type[np.floating[Any]], chunk: int, stream: int
    ) -> None:
        super().__init__(device)
        K, h, w = manifest.layer.shape  # noqa: N806
        C, H, W = manifest.preprocessing.shape  # noqa: N806
        self.image, self.logits = self._new(C, H, W), self._new(1, manifest.classes)
        self.activations, self.scaled = self._new(K, h, w), self._new(K, h, w)
        self.kinds = self._new(K, dtype=np.int32)
        self.pictures = [self._new(chunk, C, H, W, dtype=dtype) for _ in range(SLOTS)]
        self.chunk_logits = [self._new(chunk, manifest.classes) for _ in range(SLOTS)]
        self.photo, self.overlay = (self._new(H, W, 3, dtype=np.uint8) for _ in range(2))
        self.colors = self._new(256, 3, dtype=np.uint8)
        self.rows, self.columns = (self._constant(p, stream) for p in turning_points((h, w), (H, W)))
        self._pin(image=self.image, logits=self.logits, kinds=self.kinds)
        self._pin(activations=self.activations, scaled=self.scaled)  # for plans
        self._pin(photo=self.photo, overlay=self.overlay, colors=self.colors)
        self.probe = device.pinned((1,), np.float32)


class ClassBuffers(Buffers):
    """Buffers of N classes of a picture.

    Args:
        device: Where it is.
        manifest: The bundle's.
        chunk: Masked pictures per run, B.
        classes: N.
        stream: For copies.

    Raises:
        DeviceError: There is not enough memory.
    """

    def __init__(self, device: Device, manifest: Manifest, chunk: int, classes: int, stream: int) -> None:
        super().__init__(device)
        K, h, w = manifest.layer.shape  # noqa: N806
        H, W = manifest.preprocessing.size  # noqa: N806
        N = self.most = classes  # noqa: N806
        self.class_index, self.classes = self._new(N, dtype=np.int64), self._new(N, dtype=np.int32)
        self.gradients = self._new(N, K, h, w)
        # Which picture is which in the chunks, padded to whole ones, and where x * 0 and the full-size maps are.
        self.channels = self._new(-(-(K + 1 + N) // chunk) * chunk, dtype=np.int32)
        self.places = self._new(2 * N, dtype=np.int32)
        self.scores, self.weights = self._new(N, K), self._new(N, K)
        self.blank, self.unused = self._new(N), self._new(N)
        self.of = {name: self._new(N, dtype=np.float64) for name in ("blank", *MAPS)}  # confidences
        self.region_share, self.flags = self._new(N, dtype=np.float64), self._new(2, N, dtype=np.int32)
        self.sums, self.small, self.small_kinds = self._new(N, h, w), self._new(N, h, w), self._new(N, dtype=np.int32)
        self.maps = {name: self._new(N, H, W) for name in MAPS}
        self.in_order = self._constant(np.arange(N, dtype=np.int32), stream)
        self._pin(class_index=self.class_index, classes=self.classes, channels=self.channels, places=self.places)
        self._pin(gradients=self.gradients, scores=self.scores)  # for plans
        self._pin(weights=self.weights, blank=self.blank, flags=self.flags, **self.maps)
