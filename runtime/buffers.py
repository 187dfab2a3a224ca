"""Everything the device holds of a picture on its way to the maps: allocated once, bound to the sessions by pointer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fusioncam.kernels.device import Array, Device, DeviceArray, empty
from fusioncam.kernels.specs.masks import ITEM, turning_points
from fusioncam.manifest import Manifest
from fusioncam.runtime.session import run_failure

MAPS = ("grad_cam", "denoised", "score_cam", "united", "fusion_cam")  # full-size maps that are kept


@dataclass(frozen=True)
class Run:
    """A session with its inputs and outputs bound to device memory."""

    session: onnxruntime.InferenceSession
    binding: Any
    options: onnxruntime.RunOptions

    def __call__(self) -> None:
        """Give the work to the session's stream, without waiting for it.

        Raises:
            FusionCamError: onnxruntime fails.
        """
        try:
            self.session.run_with_iobinding(self.binding, self.options)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise run_failure(error) from error


def bound(
    device: Device,
    session: onnxruntime.InferenceSession,
    inputs: dict[str, DeviceArray],
    outputs: dict[str, DeviceArray],
    graph: int = -1,
) -> Run:
    """Bind a session to device arrays.

    Args:
        device: Where the arrays are.
        session: The session.
        inputs: By name.
        outputs: By name.
        graph: Number of the CUDA graph that is captured for these arrays; -1 for none.
    """
    binding = session.io_binding()
    for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
        for name, array in arrays.items():
            bind(name, device.memory, device.index, array.dtype.type, list(array.shape), array.pointer)
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return Run(session, binding, options)


class Buffers:
    """Device arrays for a bundle, a chunk size and at most N classes per picture.

    Args:
        device: Where they are.
        manifest: The bundle's.
        dtype: Type of the masked pictures.
        chunk: Masked pictures per run, B.
        classes: N.

    Raises:
        DeviceError: There is not enough memory.
    """

    def __init__(
        self, device: Device, manifest: Manifest, dtype: type[np.floating[Any]], chunk: int, classes: int
    ) -> None:
        K, h, w = manifest.layer.shape  # noqa: N806
        H, W = manifest.preprocessing.size  # noqa: N806
        N, B, C = classes, chunk, manifest.classes  # noqa: N806
        slots = -(-(K + 1 + N) // B) * B

        def array(*shape: int, dtype: npt.DTypeLike = np.float32) -> DeviceArray:
            return empty(device, shape, dtype)

        self.most_classes = N
        # The explain pass.
        self.image, self.class_index = array(1, 3, H, W), array(N, dtype=np.int64)
        self.logits, self.activations, self.gradients = array(1, C), array(K, h, w), array(N, K, h, w)
        # The masked passes: two chunks, so that one is made while the other runs.
        self.scaled, self.kinds = array(K, h, w), array(K, dtype=np.int32)
        self.items, self.places = array(slots, dtype=ITEM), array(2 * N, dtype=np.int32)
        self.pictures = [array(B, 3, H, W, dtype=dtype) for _ in range(2)]
        self.chunk_logits = [array(B, C) for _ in range(2)]
        # What comes of them; per class.
        self.classes, self.scores, self.weights = array(N, dtype=np.int32), array(N, K), array(N, K)
        self.blank, self.unused = array(N), array(N)
        self.of = {name: array(N, dtype=np.float64) for name in ("blank", *MAPS)}
        self.region_share, self.flags = array(N, dtype=np.float64), array(2, N, dtype=np.int32)
        # Maps: small, scaled, and at full size.
        self.sums, self.small, self.small_kinds = array(N, h, w), array(N, h, w), array(N, dtype=np.int32)
        self.maps = {name: array(N, H, W) for name in MAPS}
        self.photos, self.overlays = (array(N, H, W, 3, dtype=np.uint8) for _ in range(2))
        self.colors = array(256, 3, dtype=np.uint8)
        # What never changes: where extremes are sought, and one item and one place per full-size map.
        rows, columns = turning_points((h, w), (H, W))
        each = np.zeros(N, ITEM)
        each["map"] = np.arange(N)
        self.rows, self.columns = array(len(rows), dtype=np.int32), array(len(columns), dtype=np.int32)
        self.each, self.in_order = array(N, dtype=ITEM), array(N, dtype=np.int32)
        self.constants = (
            (rows, self.rows), (columns, self.columns), (each, self.each), (each["map"].copy(), self.in_order)
        )  # fmt: skip
        # The host's ends of copies, which do not wait.
        self._host = {
            name: (device.pinned(a.shape, a.dtype), a)
            for name, a in {
                "image": self.image, "class_index": self.class_index, "logits": self.logits, "kinds": self.kinds,
                "items": self.items, "places": self.places, "classes": self.classes, "flags": self.flags,
                "photos": self.photos, "overlays": self.overlays, "colors": self.colors, **self.maps,
            }.items()
        }  # fmt: skip
        self.probe = device.pinned((N,), np.float32)
        self._device = device

    def send(self, name: str, source: npt.ArrayLike, stream: int) -> None:
        """Copy rows to the start of one of the arrays, without waiting."""
        rows = np.asarray(source)
        host, target = self._host[name]
        host[: len(rows)] = rows
        self._device.upload(host[: len(rows)], target.pointer, stream)

    def receive(self, name: str, stream: int, count: int | None = None) -> Array:
        """The first rows of one of the arrays; they are there once `stream` is, and until the next call."""
        host, source = self._host[name]
        self._device.download(source.pointer, host[:count], stream)
        return host[:count]
