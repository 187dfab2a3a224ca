"""The torch front door: a plain forward export, which then joins the same road as any ONNX file.

No other module of `export` or of the run time imports torch, and this one only while it exports.
"""

import importlib
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fusioncam.errors import ModelError, OutputError, UsageError, first_line
from fusioncam.export.load import OPSET, root
from fusioncam.export.quiet import quiet

if TYPE_CHECKING:
    import torch


def save_onnx(module: "torch.nn.Module", example: "torch.Tensor", path: Path) -> Path:
    """Export the forward pass of `module`, in evaluation mode and with a free batch, to an ONNX file.

    Args:
        module: An image classifier.
        example: One input (1, 3, H, W).
        path: The file to write.

    Raises:
        ModelError: torch is missing, or its exporter refuses the module.
        UsageError: `module` is none, or `example` is no tensor.
        OutputError: The file cannot be written.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module) or not isinstance(example, torch.Tensor):
        kinds = f"{type(module).__name__} and {type(example).__name__}"
        raise UsageError(f"a torch.nn.Module and an example torch.Tensor are wanted, not {kinds}")
    training = module.training
    module.eval()
    try:
        with quiet(), redirect_stderr(io.StringIO()), torch.no_grad():
            batch = torch.cat([example, example])  # a batch of one would be taken for a constant
            program = torch.onnx.export(
                module,
                (batch,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                optimize=True,
                verbose=False,
            )
    except (Exception, SystemExit) as error:  # the exporter raises whatever the module raises
        raise ModelError(f"torch cannot export the module: {_why(root(error))}") from error
    finally:
        module.train(training)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        program.save(path, external_data=False)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path.parent} ({first_line(error)}); choose another place with -o") from error
    return path


def _why(error: BaseException) -> str:
    return "it exits the program" if isinstance(error, SystemExit) else first_line(error)


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


def zeros(size: tuple[int, int]) -> "torch.Tensor":
    """An example input (1, 3, H, W)."""
    return cast("torch.Tensor", _torch().zeros(1, 3, *size))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelError("exporting a torch module needs torch: pip install 'fusioncam[torch]'") from error
    return torch
