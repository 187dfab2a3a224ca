"""Torch modules: a plain forward export, after which they are handled as any ONNX file.

No other module of `export` or of the run time imports torch, and this one only during an export.
"""

import importlib
import inspect
import io
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fusioncam.errors import ModelError, OutputError, UsageError, first_line
from fusioncam.export.reading.file import OPSET
from fusioncam.export.sessions import quiet, root

if TYPE_CHECKING:
    import torch


def save_onnx(module: "torch.nn.Module", example: "torch.Tensor", path: Path, any_size: bool = False) -> Path:
    """Export the forward pass of `module`, in evaluation mode and with a free batch, to an ONNX file.

    Args:
        module: A model of images.
        example: One input (1, C, H, W); (1, C, L) of a signal, (1, C, D, H, W) of a volume.
        path: The file to write.
        any_size: Whether the sizes of the picture are left open, too, where the module allows that.

    Raises:
        ModelError: torch is missing, or its exporter refuses the module.
        UsageError: `module` is none, or `example` is no tensor.
        OutputError: The file cannot be written.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module) or not isinstance(example, torch.Tensor):
        kinds = f"{type(module).__name__} and {type(example).__name__}"
        raise UsageError(f"export_torch takes a torch.nn.Module and an example torch.Tensor, not {kinds}")
    with quiet():
        module = _unwrapped(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError("torch cannot export a ScriptModule (of torch.jit); pass the module that it was made from")
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with quiet(), redirect_stderr(io.StringIO()), torch.no_grad():
            batch = torch.cat([example, example])  # a batch of one would be taken for a constant
            sizes = dict.fromkeys(range(2, example.ndim), torch.export.Dim.AUTO) if any_size else {}
            program = torch.onnx.export(
                module,
                (batch,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=_as_parameters(module, {0: torch.export.Dim("batch"), **sizes}),
                optimize=True,
                verbose=False,
            )
    except (Exception, SystemExit) as error:  # the exporter raises whatever the module raises
        raise ModelError(f"torch cannot export the module: {_why(root(error))}") from error
    finally:
        for part, mode in training:
            part.training = mode
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        program.save(path, external_data=False)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path.parent} ({first_line(error)}); choose another place with -o") from error
    return path


def _unwrapped(module: "torch.nn.Module") -> "torch.nn.Module":
    """Return the module within DataParallel, DistributedDataParallel, an averaged model or torch.compile's wrapper."""
    torch = _torch()
    parallel = torch.nn.parallel
    wrappers: dict[type, str] = {
        parallel.DataParallel: "module",
        parallel.DistributedDataParallel: "module",
        torch.optim.swa_utils.AveragedModel: "module",
        torch._dynamo.OptimizedModule: "_orig_mod",
    }
    while (name := next((n for kind, n in wrappers.items() if isinstance(module, kind)), None)) is not None:
        module = getattr(module, name)
    return module


def _as_parameters(module: "torch.nn.Module", of_image: dict[int, Any]) -> tuple[Any, ...]:
    """Put the free axes of the image into the form of the parameters of `forward`: `*args` is a tuple of its own."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    return ((of_image,),) if first is not None and first.kind is first.VAR_POSITIONAL else (of_image,)


# What torch says where `forward` computes with the size of the batch as if it were a number.
FIXED_BATCH = re.compile(r"\bEq\(s\d+, (\d+)\)|inferred to be a constant \((\d+)\)")
DATA_DEPENDENT = "data-dependent"
PLACE = re.compile(r'File "([^"]+)", line (\d+), in')


def _why(error: BaseException) -> str:
    """Return why torch did not export a module, and the cause in its `forward`, in one line."""
    if isinstance(error, SystemExit):
        return "it exits the program"
    text, why = str(error), first_line(error)
    if batch := FIXED_BATCH.search(text):
        return (
            f"it works for a batch of {batch[1] or batch[2]} only; "
            f"let its forward keep the batch axis, as x.flatten(1) does and x.view(1, -1) does not ({why})"
        )
    if DATA_DEPENDENT in why:
        place = PLACE.search(text)
        where = f", in line {place[2]} of {place[1]}" if place else ""
        return f"its forward decides by the values of tensors{where}; use torch.where in place of if ({why})"
    if not text.strip() and (frames := traceback.extract_tb(error.__traceback__)):
        return f"{why} in line {frames[-1].lineno} of {frames[-1].filename} ({frames[-1].line})"
    return why


def build_module(target: str) -> "torch.nn.Module":
    """Call the factory named `package.module:factory`; the current folder is looked in first.

    Raises:
        UsageError: There is no such module or factory, or it makes no torch module.
        ModelError: The factory fails, or torch is missing.
    """
    module_class = _torch().nn.Module
    module_name, _, factory = target.partition(":")
    if not module_name or not factory:
        raise UsageError(f"{target!r} names no factory; write module:factory")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = getattr(importlib.import_module(module_name), factory)
        made = made if isinstance(made, module_class) else made()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{target!r} cannot be found: {first_line(error)}") from error
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise ModelError(f"{target!r} fails: {_why(error)}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(made, module_class):
        raise UsageError(f"{target!r} makes a {type(made).__name__}, not a torch.nn.Module")
    return cast("torch.nn.Module", made)


def zeros(size: Sequence[int], channels: int = 3) -> "torch.Tensor":
    """Return an example input (1, C, H, W); (1, C, L) of a signal, (1, C, D, H, W) of a volume."""
    return cast("torch.Tensor", _torch().zeros(1, channels, *size))


def channels_of(module: "torch.nn.Module") -> int:
    """Return the number of channels that the first convolution takes; 3 where there is none."""
    convolutions = (_torch().nn.Conv1d, _torch().nn.Conv2d, _torch().nn.Conv3d)
    return next((m.in_channels for m in module.modules() if isinstance(m, convolutions)), 3)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelError("exporting a torch module needs torch: pip install 'fusioncam[torch]'") from error
    return torch
