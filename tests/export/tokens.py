"""Networks on tokens: ViT in several forms, Swin and MLP-Mixer, a few channels wide.

Loaded by `conftest.py`, which hands them out as fixtures.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional

CLASSES = 10


class Mlp(nn.Sequential):
    def __init__(self, width, inner):
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Dropout(0.0), nn.Linear(inner, width))


class FusedAttention(nn.Module):
    """Attention as timm writes it: one linear layer for queries, keys and values; `fused` calls torch's own kernel."""

    def __init__(self, width, heads, fused=False):
        super().__init__()
        self.heads, self.scale, self.fused = heads, (width // heads) ** -0.5, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = functional.scaled_dot_product_attention(q, k, v)
        else:
            x = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, t, c))


class TorchAttention(nn.MultiheadAttention):
    """Attention as torchvision's ViT calls it."""

    def __init__(self, width, heads):
        super().__init__(width, heads, batch_first=True)

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    def __init__(self, width, attention):
        super().__init__()
        self.ln_1, self.attention = nn.LayerNorm(width, eps=1e-6), attention
        self.ln_2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width, 2 * width)

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class ViT(nn.Module):
    """A vision transformer.

    Args:
        size: (H, W) of the input; patches are of 8 x 8 pixels.
        attention: Makes the attention of a block from width and heads.
        head: `token` classifies the class token, `mean` the mean of the patch tokens.
        registers: Further tokens between class token and patches.
        class_token: Whether there is a class token.
        normalize_first: Whether `mean` averages before the last normalisation (as timm's `fc_norm`) or after.
    """

    def __init__(
        self, size, attention=FusedAttention, head="token", registers=0, class_token=True, normalize_first=True
    ):
        super().__init__()
        width, self.head, self.normalize_first = 16, head, normalize_first
        patches = (size[0] // 8) * (size[1] // 8)
        self.before = registers + class_token
        self.conv_proj = nn.Conv2d(3, width, 8, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1, width)) if class_token else None
        self.registers = nn.Parameter(torch.randn(1, registers, width)) if registers else None
        self.position = nn.Parameter(torch.randn(1, patches + class_token, width) * 0.2)
        self.blocks = nn.Sequential(*(Block(width, attention(width, 2)) for _ in range(3)))
        self.ln, self.fc = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.position
        if self.registers is not None:
            registers = self.registers.expand(x.shape[0], -1, -1)
            parts = [x[:, :1], registers, x[:, 1:]] if self.class_token is not None else [registers, x]
            x = torch.cat(parts, dim=1)
        x = self.blocks(x)
        if self.head == "token":
            return self.fc(self.ln(x)[:, 0])
        if self.normalize_first:
            return self.fc(self.ln(x)[:, self.before :].mean(dim=1))
        return self.fc(self.ln(x[:, self.before :].mean(dim=1)))


class MixerBlock(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.norm1, self.mlp_tokens = nn.LayerNorm(width), Mlp(tokens, 12)
        self.norm2, self.mlp_channels = nn.LayerNorm(width), Mlp(width, 24)

    def forward(self, x):
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.Sequential(*(MixerBlock(16, 16) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(dim=1))


class WindowAttention(nn.Module):
    """Attention within windows, every second time shifted by half a window, as torchvision writes it."""

    def __init__(self, width, heads, window, shift):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.2)
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (grid[:, :, None] - grid[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("index", (relative[:, :, 0] * (2 * window - 1) + relative[:, :, 1]).flatten())

    def mask(self, h, w):
        """Keeps apart what the roll brought together from opposite edges."""
        window, shift = self.window, self.shift
        areas, count = self.table.new_zeros((h, w)), 0
        edges = ((0, -window), (-window, -shift), (-shift, None))
        for rows in edges:
            for columns in edges:
                areas[rows[0] : rows[1], columns[0] : columns[1]] = count
                count += 1
        areas = areas.view(h // window, window, w // window, window).permute(0, 2, 1, 3).reshape(-1, window**2)
        different = areas[:, None, :] - areas[:, :, None]
        return different.masked_fill(different != 0, -100.0).masked_fill(different == 0, 0.0)

    def forward(self, x):
        n, height, width, c = x.shape
        s = self.window
        x = functional.pad(x, (0, 0, 0, (s - width % s) % s, 0, (s - height % s) % s))
        h, w = x.shape[1:3]
        shifted = self.shift and s < h
        if shifted:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = (h // s) * (w // s)
        x = x.view(n, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(n * windows, s * s, c)
        q, k, v = self.qkv(x).reshape(x.size(0), s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)
        scores = scores + self.table[self.index].view(s * s, s * s, -1).permute(2, 0, 1).unsqueeze(0)
        if shifted:
            scores = scores.view(n, windows, self.heads, s * s, s * s) + self.mask(h, w).unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, s * s, s * s)
        x = self.proj((functional.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(n * windows, s * s, c))
        x = x.view(n, h // s, w // s, s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        if shifted:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width, :].contiguous()


class Merging(nn.Module):
    """Four neighbouring patches become one of twice the width."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        parts = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class ToChannelsLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class Swin(nn.Module):
    def __init__(self):
        super().__init__()

        def stage(width, window, shifts):
            return nn.Sequential(*(Block(width, WindowAttention(width, 2, window, s)) for s in shifts))

        stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), ToChannelsLast(), nn.LayerNorm(8))
        self.features = nn.Sequential(
            stem, stage(8, 4, (0, 2)), Merging(8), stage(16, 3, (0, 1)), Merging(16), stage(32, 4, (2,))
        )
        self.norm, self.avgpool, self.head = nn.LayerNorm(32), nn.AdaptiveAvgPool2d(1), nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.norm(self.features(x)).permute(0, 3, 1, 2)
        return self.head(torch.flatten(self.avgpool(x), 1))


def _vit(last, offset, size=(32, 32), **options):
    shape = 16, size[0] // 8, size[1] // 8
    return partial(ViT, size, **options), size, last, shape, "blocks.0", "NTC", "NTC", offset


# See `Network` in networks.py for the columns.
# Where only the class token is read, the patch tokens last matter as what the last block's attention takes in.
NETWORKS = {
    "vit": _vit("blocks.2.ln_1", 1, attention=TorchAttention),
    "vit_fused_qkv": _vit("blocks.2.ln_1", 1, size=(32, 48)),
    "vit_registers": _vit("blocks.2.ln_1", 5, registers=4, attention=partial(FusedAttention, fused=True)),
    "vit_gap": _vit("ln", 0, head="mean", class_token=False),
    "vit_gap_class_token": _vit("ln", 1, head="mean"),
    "vit_gap_one_register": _vit("blocks", 1, head="mean", class_token=False, registers=1, normalize_first=False),
    "mixer": (Mixer, (32, 32), "norm", (16, 4, 4), "blocks.0", "NTC", "NTC"),
    "swin": (Swin, (48, 48), "norm", (32, 3, 3), "features.1", "NHWC", "NHWC"),
}
