"""Networks made small, whatever their library calls what makes them so."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from zoo.entry import Entry

SIZES = (64, 96, 128, 192, 224, 256)  # of the picture, tried in this order
# Names of the libraries' options, with what makes a network small; those that a network lacks are left out.
DEPTHS: tuple[dict[str, Any], ...] = (
    {"depths": (1, 1, 1, 1)}, {"layers": (1, 1, 1, 1)}, {"depth": 2}, {"depths": (1, 1, 1)}, {},
)  # fmt: skip
TINY: dict[str, int] = {
    "hidden_size": 32, "embed_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "num_heads": 2, "decoder_hidden_size": 32, "projection_dim": 24, "patch_size": 16, "hidden_dim": 32, "mlp_dim": 48,
    "depth": 2, "num_key_value_heads": 2, "encoder_hidden_size": 32, "vocab_size": 99, "d_model": 32, "d_latents": 32,
    "num_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 2, "n_embd": 32, "n_layer": 2, "n_head": 2,
    "text_embed_dim": 32, "vision_embed_dim": 32,
}  # fmt: skip


def smallest(make: Callable[[Entry], nn.Module], entry: Entry) -> tuple[nn.Module, torch.Tensor]:
    """Return the smallest form of a network that can be made and run, and an input of it.

    Raises:
        Exception: What the last try raises, where none runs.
    """
    failure: Exception | None = None
    for tried in _forms(entry):
        torch.manual_seed(0)
        picture = torch.zeros(1, 3, *tried.size)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                module = make(tried).eval()
                module(torch.randn(picture.shape))
        except Exception as error:  # each library has its own
            failure = error
            continue
        return module, picture
    assert failure is not None
    raise failure


def _forms(entry: Entry) -> Iterator[Entry]:
    """Yield a network in its sizes, from the smallest on, each with few layers first."""
    depths = DEPTHS if entry.library == "timm" else ({},)
    fixed = [{"img_size": None}] if entry.library == "timm" else []
    for side in SIZES:
        size = (*entry.size[:-2], side, side)
        for of_size in (*fixed, {}):
            for depth in depths:
                named = dict.fromkeys(of_size, side)
                yield replace(entry, size=size, options={**named, **depth, **entry.options})


def tiny(config: Any, side: int) -> None:
    """Make a configuration of transformers small, and those within it.

    Args:
        config: The configuration, which is changed.
        side: Side of its picture in pixels.
    """
    given = vars(config)
    for name, value in list(given.items()):
        if hasattr(value, "to_dict"):
            tiny(value, side)
        elif name in TINY and isinstance(value, int) and value > TINY[name]:
            setattr(config, name, TINY[name])
        elif name in ("depths", "depth") and isinstance(value, list | tuple):
            few = (1, 2, 3) if name == "depth" else [1] * len(value)  # CvT's, which counts from its place on
            setattr(config, name, type(value)(few))
        elif name == "image_size" and value is not None:
            setattr(config, name, side if isinstance(value, int) else type(value)([side] * len(value)))
