"""The gradient of a bundle's layer beside that of torch in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Layer, Manifest

SAME = 1e-2  # of the largest activation: so near must a tensor of torch be to be the layer
FEWEST = 8  # numbers of a layer


class Tape(TorchFunctionMode):
    """A record of every tensor that torch computes in a forward pass.

    Batch norms are computed by their formula: torch's own derivative is wrong for a gradient that is a transposed view.
    Nothing is detached: training stops gradients there, but the function that a file holds does not.
    """

    def __init__(self) -> None:
        """Start a record that is empty."""
        super().__init__()
        self.seen: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and keep what it gives."""
        if func is torch.Tensor.detach:
            return args[0]
        made = (_affine if func is functional.batch_norm else func)(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None and tensor.numel() >= FEWEST:
                self.seen[id(tensor)] = tensor
        return made


def _affine(x: torch.Tensor, mean: torch.Tensor | None, var: torch.Tensor | None, weight: torch.Tensor | None = None,
            bias: torch.Tensor | None = None, training: bool = False, momentum: float = 0.1,
            eps: float = 1e-5) -> torch.Tensor:  # fmt: skip
    if mean is None or var is None:  # weights that are standardised, through which no gradient is asked for
        return functional.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    axes = (-1, *[1] * (x.ndim - 2))
    return x * scale.view(axes) + shift.view(axes)


class Oracle:
    """A network in float64, run once.

    Attributes:
        output: Its output.
        seen: Every tensor on the way.
    """

    def __init__(self, module: nn.Module, picture: Array) -> None:
        """Run a module, which becomes float64, on a picture (1, C, ...)."""
        x = torch.from_numpy(picture).double().requires_grad_()
        module = module.double().requires_grad_(False)
        with Tape() as tape:
            self.output: torch.Tensor = module(x)
        self.seen = list(tape.seen.values())

    def error(self, manifest: Manifest, targets: Mapping[str, Array], run: Mapping[str, Array]) -> float | None:
        """Return the distance of a gradient from torch's, relative to its norm; None where no tensor is the layer.

        Args:
            manifest: The bundle's.
            targets: Feeds of the target.
            run: `activations` and `gradients` of the explain graph.
        """
        layer = manifest.layer
        activations, gradient = run["activations"][0], run["gradients"][0].astype(np.float64)
        near = [t for t in self.seen if any(is_same(a, activations) for a in forms(t.detach().numpy(), layer))]
        if not near:
            return None
        score = _score(manifest, self.output, targets)
        found = torch.autograd.grad(score, near, retain_graph=True, allow_unused=True)
        errors = [
            float(np.linalg.norm(form - gradient) / (np.linalg.norm(form) or 1.0))
            for tensor, g in zip(near, found, strict=True) if g is not None
            for a, form in zip(forms(tensor.detach().numpy(), layer), forms(g.numpy(), layer), strict=True)
            if is_same(a, activations)
        ]  # fmt: skip
        return min(errors, default=None)


def _score(manifest: Manifest, y: torch.Tensor, targets: Mapping[str, Array]) -> torch.Tensor:
    """Return the score of the picture's target, from the network's own output."""
    if manifest.task == "embed":
        vector = y[:, 0] if manifest.reader == "cls-token" else y.mean(1) if manifest.reader == "mean-tokens" else y
        return functional.cosine_similarity(vector[0], torch.from_numpy(targets["reference"][0]).double(), dim=0)
    of_class = y[0] if y.ndim == 3 else y[0, int(targets["class_index"][0])]  # depths have no axis of classes
    if manifest.task != "segment":
        return of_class
    region = torch.from_numpy(targets["region"][0]).double()
    return (of_class * region).sum() / region.sum()


def is_same(a: Array, b: Array) -> bool:
    """Return whether two tensors are the same, but for rounding."""
    return bool(np.abs(a - b).max() <= SAME * max(float(np.abs(b).max()), 1e-6))


def forms(array: Array, layer: Layer) -> list[Array]:
    """Return a tensor of torch in the form (K, h, w) of a layer, in each order of axes that fits."""
    k, *grid = layer.shape
    places, found = int(np.prod(grid)), []
    squeezed: Array = array[0] if array.ndim and array.shape[0] == 1 else array
    shape = squeezed.shape
    if squeezed.size == k * places:
        if shape in ((k, *grid), (k, places)):
            found.append(squeezed.reshape(k, *grid))
        if shape in ((*grid, k), (places, k)):
            found.append(np.moveaxis(squeezed.reshape(*grid, k), -1, 0))
    elif squeezed.ndim == 2 and shape[1] == k and shape[0] >= layer.offset + places:
        tokens = squeezed[layer.offset : layer.offset + places]
        found.append(np.moveaxis(tokens.reshape(*grid, k), -1, 0))
    elif squeezed.ndim == 2 and shape[0] == k and shape[1] >= layer.offset + places:
        found.append(squeezed[:, layer.offset : layer.offset + places].reshape(k, *grid))
    return found
