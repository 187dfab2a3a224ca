"""torch in the place of onnxruntime: the project's kernels and steps, with torch networks for the passes.

Where onnxruntime has no CUDA provider, the device's engine is run from end to end with this backend. A torch network
gets the interface of onnxruntime, so the steps of `fusioncam.runtime` run unchanged.
"""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from networks import Network
from torch import Tensor

from fusioncam.kernels.device import Device
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine.device.engine import DeviceEngine

Outputs = dict[str, Tensor]


def place_of(device: Device) -> torch.device:
    """The device as torch calls it."""
    return torch.device("cpu") if device.memory == "cpu" else torch.device("cuda", device.index)


def missing(device: Device) -> str | None:
    """Return the reason why torch cannot use the device, or None."""
    usable = device.memory == "cpu" or torch.cuda.is_available()
    return None if usable else f"torch {torch.__version__} sees no GPU; install a build of torch with CUDA"


def exact() -> None:
    """No TF32: as the project's options for onnxruntime have it."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def moved(network: Network, device: Device, precision: str) -> Network:
    """A copy of the network in the device's memory; in float16, channels come last, which is faster there."""
    exact()
    copied = deepcopy(network).to(place_of(device))
    return copied.half().to(memory_format=torch.channels_last) if precision == "fp16" else copied


class Binding:
    """Device arrays by name, as torch tensors over the same memory."""

    def __init__(self) -> None:
        self.inputs: Outputs = {}
        self.outputs: Outputs = {}

    def bind_input(self, name: str, *array: Any) -> None:
        """As onnxruntime's: name, memory, device, type, shape, pointer."""
        self.inputs[name] = tensor_over(*array)

    def bind_output(self, name: str, *array: Any) -> None:
        """Bind an output, as `bind_input` binds an input."""
        self.outputs[name] = tensor_over(*array)


def tensor_over(memory: str, index: int, kind: type[np.generic], shape: Sequence[int], pointer: int) -> Tensor:
    """A tensor over memory that belongs to others."""
    dtype = np.dtype(kind)
    if memory == "cpu":
        nbytes = int(np.prod(shape)) * dtype.itemsize
        room = (ctypes.c_byte * nbytes).from_address(pointer)
        return torch.from_numpy(np.frombuffer(room, dtype).reshape(shape))
    interface = {"shape": tuple(shape), "typestr": dtype.str, "data": (pointer, False), "strides": None, "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=interface), device=torch.device("cuda", index))


class TorchSession:
    """A torch network with the part of onnxruntime's session that the engine uses.

    Args:
        work: Takes the inputs and gives the outputs, by name.
        half: Whether it takes float16 pictures.
        device: Where its memory is.
        stream: All work goes there.
    """

    def __init__(self, work: Callable[..., Outputs], half: bool, device: Device, stream: int) -> None:
        self._work, self._type = work, "tensor(float16)" if half else "tensor(float)"
        cuda = device.memory == "cuda"
        self._stream = torch.cuda.ExternalStream(stream, place_of(device)) if cuda else None

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return the one input, the picture."""
        return [SimpleNamespace(name="image", type=self._type)]

    def io_binding(self) -> Binding:
        """Return a binding without inputs and outputs."""
        return Binding()

    def run_with_iobinding(self, binding: Binding, options: object = None) -> None:
        """Give the work to the stream, without waiting for it."""
        lane: AbstractContextManager[Any] = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with lane, torch.no_grad():
            found = self._work(**binding.inputs)
            for name, target in binding.outputs.items():
                target.copy_(found[name])


def explaining(network: Network) -> Callable[..., Outputs]:
    """Return a function that does what the explain graph does: logits, activations, and one logit's gradient."""

    def work(image: Tensor, class_index: Tensor) -> Outputs:
        activations = network.features(image)
        with torch.enable_grad():
            layer = activations.detach().requires_grad_(True)
            logits = network.head(layer)
            chosen = torch.where(class_index < 0, logits.argmax(1), class_index)
            chosen = chosen.clamp_max(logits.shape[1] - 1)  # the engine warms up on memory that may hold anything
            (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), layer)
        return {"logits": logits.detach(), "activations": activations, "gradients": gradients}

    return work


def engine(device: Device, manifest: Manifest, explain: Network, score: Network, chunk: int) -> DeviceEngine:
    """The GPU's engine on torch networks.

    Args:
        device: The GPU.
        manifest: Of the bundle that the engine stands in for.
        explain: In float32.
        score: In the precision of the passes.
        chunk: Masked pictures per run.
    """
    half = next(score.parameters()).dtype == torch.float16
    with device.entered():
        stream = device.stream()
        both: list[Any] = [
            TorchSession(explaining(explain), False, device, stream),
            TorchSession(lambda image: {"logits": score(image)}, half, device, stream),
        ]
        return DeviceEngine(device, stream, manifest, *both, chunk, one_shape=False)
