"""The ways in which torch writes ONNX files."""

import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import nn

INPUT = "image"


def _free(module: nn.Module, picture: torch.Tensor, path: Path) -> None:
    """Write opset 18 with a free batch."""
    batch = torch.cat([picture, picture])  # a batch of one would be taken for a constant
    axes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        module, (batch,), dynamo=True, opset_version=18, input_names=[INPUT], dynamic_shapes=axes, verbose=False
    )
    assert program is not None
    program.save(path)


def _one(module: nn.Module, picture: torch.Tensor, path: Path) -> None:
    """Write opset 23, which has Attention, for one picture."""
    program = torch.onnx.export(module, (picture,), dynamo=True, opset_version=23, input_names=[INPUT], verbose=False)
    assert program is not None
    program.save(path)


def _script(module: nn.Module, picture: torch.Tensor, path: Path) -> None:
    """Write opset 17 by the old exporter, TorchScript's, for one picture."""
    torch.onnx.export(module, (picture,), path, dynamo=False, opset_version=17, input_names=[INPUT])


WAYS: Mapping[str, Callable[[nn.Module, torch.Tensor, Path], None]] = {
    "dynamo 18, any batch": _free, "dynamo 23, one picture": _one, "script 17, one picture": _script,
}  # fmt: skip


def write(way: str, module: nn.Module, picture: torch.Tensor, path: Path) -> None:
    """Write a module as ONNX in one of the ways; what the exporter prints is dropped."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        WAYS[way](module, picture, path)
