"""Small networks of signals and volumes, with trained-like weights, for tests from export to picture."""

import torch
from torch import nn


def parts(rank):
    """The modules of torch of this rank, by their names without the number."""
    names = ("Conv", "BatchNorm", "MaxPool", "AvgPool", "ConvTranspose", "InstanceNorm")
    return {name: getattr(nn, f"{name}{rank}d") for name in names}


class Network(nn.Module):
    """A classifier of signals (N, C, L), rank 1, or of volumes (N, C, D, H, W), rank 3."""

    def __init__(self, rank, channels=2, classes=4, last=False, video=False):
        super().__init__()
        torch.manual_seed(rank)
        of = parts(rank)
        self.last, self.video = last, video
        self.features = nn.Sequential(
            of["Conv"](channels, 8, 3, padding=1), of["BatchNorm"](8), nn.ReLU(), of["MaxPool"](2),
            of["Conv"](8, 8, 3, padding=1, groups=4), nn.SiLU(), of["Conv"](8, 6, 3, padding=2, dilation=2), nn.ReLU(),
        )  # fmt: skip
        self.after = nn.Sequential(
            of["ConvTranspose"](6, 6, 2, stride=2), nn.GELU(), of["AvgPool"](2), of["InstanceNorm"](6, affine=True),
            nn.Upsample(scale_factor=2, mode={1: "linear", 3: "trilinear"}[rank]), of["Conv"](6, 10, 3, stride=2),
            nn.GroupNorm(2, 10), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(10, classes)
        with torch.no_grad():
            for name, value in self.named_buffers():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5) if name.endswith("var") else value.normal_(0, 0.2)
            self.head.weight.mul_(8)

    def forward(self, x):
        """The logits (N, classes)."""
        if self.last:
            x = x.movedim(-1, 1)
        if self.video:
            x = x.transpose(1, 2)
        return self.head(self.after(self.features(x)).flatten(2).mean(2))


SIZES = {1: (60,), 3: (6, 10, 12)}
