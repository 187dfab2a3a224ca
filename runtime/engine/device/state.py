"""The state of a device engine: it is kept between pictures, and the steps work on it."""

from dataclasses import dataclass

from fusioncam.kernels.device import Device
from fusioncam.runtime.engine.device.buffers import ClassBuffers, PictureBuffers
from fusioncam.runtime.engine.device.passes import DevicePasses
from fusioncam.runtime.engine.device.run import Run


@dataclass
class DeviceState:
    """The GPU, its buffers and the sessions bound to them.

    Attributes:
        device: The GPU.
        stream: The stream that the sessions run on.
        picture: Buffers of a picture.
        classes: Buffers of its classes; larger ones take their place when more classes are asked for.
        passes: Runs the masked passes.
        explain_runs: The explain pass of each class.
    """

    device: Device
    stream: int
    picture: PictureBuffers
    classes: ClassBuffers
    passes: DevicePasses
    explain_runs: list[Run]
