"""Small networks of operators that others lack: sampling, choosing, attention of opset 23, recurrence, running sums."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn
from torch.nn import functional

SIZE, CHANNELS, CLASSES = 32, 16, 5
Middle = Callable[["Network", torch.Tensor], torch.Tensor]


class Network(nn.Module):
    """Two convolutions, a middle that takes their map (N, 16, 8, 8) and gives a map or tokens, and a classifier."""

    def __init__(self, middle: Middle) -> None:
        """Make all layers, with random weights."""
        super().__init__()
        self.middle = middle
        self.before = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1), nn.ReLU()
        )
        self.score, self.place = nn.Linear(CHANNELS, 1), nn.Linear(CHANNELS, 6)
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.recurrent = nn.LSTM(CHANNELS, CHANNELS, batch_first=True)
        self.after, self.head = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1), nn.Linear(CHANNELS, CLASSES)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor([1.1, 0, 0, 0, 1.1, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 5) of pictures (N, 3, 32, 32)."""
        made = self.middle(self, self.before(x))
        if made.ndim == 4:
            made = torch.relu(self.after(made)).flatten(2).mT
        logits: torch.Tensor = self.head(made.mean(1))
        return logits


def _tokens(x: torch.Tensor) -> torch.Tensor:
    """Return a map (N, C, H, W) as tokens (N, H * W, C)."""
    return x.flatten(2).mT


def _sampled(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return what a spatial transformer reads (Jaderberg et al. 2015)."""
    grid = functional.affine_grid(net.place(x.mean((2, 3))).view(-1, 2, 3), [*x.shape], align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def _pruned(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return the twelve tokens of the highest scores, times these."""
    tokens = _tokens(x)
    scores, best = net.score(tokens).squeeze(-1).topk(12, 1)
    return tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, CHANNELS)) * scores.sigmoid().unsqueeze(-1)


def _scattered(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return a map that holds the twelve best tokens in their places, and zeros."""
    best = net.score(_tokens(x)).squeeze(-1).topk(12, 1)[1].unsqueeze(1).expand(-1, CHANNELS, -1)
    flat = x.flatten(2)
    return torch.zeros_like(flat).scatter(2, best, flat.gather(2, best)).view(x.shape)


def _heads(net: Network, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return queries, keys and values of two heads, each (N, 2, 64, 8)."""
    return net.qkv(_tokens(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _attended(net: Network, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """Return tokens after torch's attention, which opset 23 has as one operator."""
    made = functional.scaled_dot_product_attention(*_heads(net, x), is_causal=causal)
    return made.transpose(1, 2).flatten(2) + _tokens(x)


def _einsum(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return tokens after an attention in Einsum, of capital letters."""
    q, k, v = _heads(net, x)
    weights = torch.einsum("B H I D, B H J D -> B H I J", q, k).softmax(-1)
    return torch.einsum("B H I J, B H J D -> B I H D", weights, v).flatten(2) + _tokens(x)


def _read(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return what an LSTM makes of the columns."""
    made: torch.Tensor = net.recurrent(x.mean(2).mT)[0]
    return made


def _summed(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return a map of running sums, its upper triangle left out."""
    return x.cumsum(2).div(8).tril()


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    name: partial(Network, middle)
    for name, middle in {
        "attention": _attended, "attention_causal": partial(_attended, causal=True), "einsum": _einsum,
        "grid_sample": _sampled, "lstm": _read, "scatter": _scattered, "sums": _summed, "topk": _pruned,
    }.items()
}  # fmt: skip
