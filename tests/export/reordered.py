"""Networks that reorder, window or fold their tokens, or carry them on without reading them; a few channels wide.

Loaded by `conftest.py`, which hands them out as fixtures.
"""

import torch
from torch import nn

CLASSES = 10


class Mlp(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Attention(nn.Module):
    """Attention in one head per 8 channels; queries may be fewer than keys."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x, queries=None):
        queries = x if queries is None else queries
        n, t, c = x.shape
        q = self.q(queries).reshape(n, -1, self.heads, c // self.heads).transpose(1, 2)
        k, v = self.kv(x).reshape(n, t, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, -1, c))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ClassAttention(nn.Module):
    """The class token reads the patches; XCiT and CaiT then carry these on, though nothing reads them any more."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x):
        normal = self.norm1(x)
        x = x + torch.cat([self.attention(normal, normal[:, :1]), normal[:, 1:]], dim=1)
        x = self.norm2(x)
        return x + torch.cat([self.mlp(x[:, :1]), x[:, 1:]], dim=1)


class ClassAttentionNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.last = ClassAttention(16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head(self.norm(self.last(x))[:, 0])


class Nested(nn.Module):
    """As TNT: the pixels of a patch are tokens of a network of its own, whose results join those of the patch."""

    def __init__(self):
        super().__init__()
        self.pixels, self.inner = nn.Conv2d(3, 8, 3, 2, 1), Block(8)
        self.norm, self.proj = nn.LayerNorm(128), nn.Linear(128, 16)
        self.outer, self.last, self.head = Block(16), nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.pixels(x)
        n, c, h, w = x.shape
        inner = nn.functional.unfold(x, 4, stride=4).transpose(1, 2).reshape(n * (h * w // 16), c, 16).transpose(1, 2)
        inner = self.inner(inner)
        x = self.proj(self.norm(inner.reshape(n, h * w // 16, 16 * c)))
        return self.head(self.last(self.outer(x)).mean(dim=1))


class Unrolled(nn.Module):
    """As Hiera: tokens are reordered so that those of a unit are neighbours, attend in units, and are pooled by max."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.widen = nn.Conv2d(3, 8, 4, 4), Block(8), nn.Linear(8, 16)
        self.second, self.norm, self.head = Block(16), nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(n, h * w, c)
        units = x.reshape(n, 4, h * w // 4, c).transpose(1, 2).reshape(n * (h * w // 4), 4, c)
        units = self.first(units).reshape(n, h * w // 4, 4, c).transpose(1, 2).reshape(n, h * w, c)
        x = self.widen(units).reshape(n, 4, h * w // 4, 16).amax(dim=1)
        return self.head(self.norm(self.second(x)).mean(dim=1))


class FoldedNorm(nn.Module):
    """A linear layer with batch norm over all tokens of all pictures, as LeViT has it."""

    def __init__(self, width, out):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, out, bias=False), nn.BatchNorm1d(out)

    def forward(self, x):
        x = self.linear(x)
        return self.norm(x.flatten(0, 1)).reshape_as(x)


class Folding(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 4, 4), FoldedNorm(16, 16)
        self.q, self.kv, self.proj = FoldedNorm(16, 16), FoldedNorm(16, 48), FoldedNorm(32, 24)
        self.up, self.down = FoldedNorm(24, 48), FoldedNorm(48, 24)
        self.last, self.head = nn.Identity(), nn.Linear(24, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        x = x + self.first(x)
        few = x.view(n, h, w, c)[:, ::2, ::2].reshape(n, -1, c)
        q = self.q(few).reshape(n, -1, 2, 8).transpose(1, 2)
        k, v = self.kv(x).view(n, h * w, 2, 24).split([8, 16], dim=3)
        mixed = (q @ k.permute(0, 2, 3, 1)).softmax(dim=-1) @ v.transpose(1, 2)
        x = self.proj(nn.functional.hardswish(mixed.transpose(1, 2).reshape(n, -1, 32)))
        x = self.last(x + self.down(nn.functional.hardswish(self.up(x))))
        return self.head(x.mean(dim=1))


class Partitioned(nn.Module):
    """As MaxViT: attention within windows, then over a grid of equal places in all windows."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.GELU())
        self.window, self.grid, self.norm = Block(16), Block(16), nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n * (h * w // 16), 16, c)
        x = self.window(x)
        x = x.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        x = x.reshape(n, c, 4, h // 4, 4, w // 4).permute(0, 3, 5, 2, 4, 1).reshape(n * (h * w // 16), 16, c)
        x = self.grid(x)
        x = x.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 3, 1, 4, 2, 5).reshape(n, h, w, c)
        return self.head(self.norm(x).mean(dim=(1, 2)))


class Pooled(nn.Module):
    """As VGG on a picture whose last map the pool does not divide: its windows are gathered element by element."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, 2, 1),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 49, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x):
        return self.head(self.pool(self.features(x)))


# See `Network` in networks.py for the columns.
NETWORKS = {
    "class_attention": (ClassAttentionNet, (32, 32), "last.norm1", (16, 4, 4), "last:input", "NTC", "NTC", 1),
    "tnt": (Nested, (32, 32), "last", (16, 4, 4), "proj", "NTC", "NTC"),
    "hiera": (Unrolled, (32, 32), "norm", (16, 4, 4), "second:input", "NTC", "NTC"),
    "levit": (Folding, (32, 32), "last", (24, 4, 4), "proj", "NTC", "NTC"),
    "maxvit": (Partitioned, (32, 32), "norm", (16, 8, 8), "stem", "NHWC", "NCHW"),
    "pooled": (Pooled, (32, 32), "pool", (12, 7, 7), "features.3"),
}
