"""SqueezeNet and ShuffleNets, built like the published ones but a few channels wide.

Loaded by `conftest.py`, which hands them out as fixtures.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


def conv_bn(cin, cout, kernel=3, stride=1, groups=1, padding=None, act=nn.ReLU, bias=False):
    padding = padding if padding is not None else kernel // 2
    parts = [nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=bias), nn.BatchNorm2d(cout)]
    return nn.Sequential(*parts, *([act()] if act else []))


class Head(nn.Module):
    """Features, global average pool, one linear layer."""

    def __init__(self, features, channels, classifier=None):
        super().__init__()
        self.features, self.avgpool = features, nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier or nn.Linear(channels, CLASSES)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Fire(nn.Module):
    def __init__(self, cin, squeeze, c):
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(cin, squeeze, 1), nn.ReLU(inplace=True))
        self.one = nn.Sequential(nn.Conv2d(squeeze, c, 1), nn.ReLU(inplace=True))
        self.three = nn.Sequential(nn.Conv2d(squeeze, c, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()
        pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(inplace=True), pool(), Fire(8, 4, 8), pool(), Fire(16, 4, 10), pool(),
            Fire(20, 5, 12),
        )  # fmt: skip
        final = nn.Conv2d(24, CLASSES, 1)
        self.classifier = nn.Sequential(nn.Dropout(), final, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x):
        return torch.flatten(self.classifier(self.features(x)), 1)


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleV1(nn.Module):
    """Grouped 1x1 convolutions with a shuffle between; the shortcut is pooled and joined where the stride is 2."""

    def __init__(self, cin, cout, stride, groups=2):
        super().__init__()
        self.stride, self.groups = stride, groups
        grown = cout - cin if stride == 2 else cout
        self.compress = conv_bn(cin, 8, 1, groups=groups)
        self.depthwise = conv_bn(8, 8, 3, stride, 8, act=None)
        self.expand = conv_bn(8, grown, 1, groups=groups, act=None)
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.expand(self.depthwise(shuffle(self.compress(x), self.groups)))
        if self.stride == 2:
            return self.relu(torch.cat([functional.avg_pool2d(x, 3, 2, 1), out], 1))
        return self.relu(out + x)


class ShuffleV2(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.stride, c = stride, cout // 2
        self.left = nn.Sequential(conv_bn(cin, cin, 3, 2, cin, act=None), conv_bn(cin, c, 1)) if stride == 2 else None
        inner = cin if stride == 2 else c
        self.right = nn.Sequential(conv_bn(inner, c, 1), conv_bn(c, c, 3, stride, c, act=None), conv_bn(c, c, 1))

    def forward(self, x):
        if self.left is None:
            a, b = x.chunk(2, dim=1)
            return shuffle(torch.cat((a, self.right(b)), 1), 2)
        return shuffle(torch.cat((self.left(x), self.right(x)), 1), 2)


def shufflenet_v1():
    stem = nn.Sequential(conv_bn(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1))
    return Head(nn.Sequential(stem, ShuffleV1(8, 16, 2), ShuffleV1(16, 16, 1), ShuffleV1(16, 24, 2)), 24)


class ShuffleNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        stem = nn.Sequential(conv_bn(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1))
        self.features = nn.Sequential(stem, ShuffleV2(8, 16, 2), ShuffleV2(16, 16, 1), ShuffleV2(16, 24, 2))
        self.conv5, self.fc = conv_bn(24, 32, 1), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.fc(self.conv5(self.features(x)).mean([2, 3]))


# See `Network` in networks.py for the columns.
NETWORKS = {
    "squeezenet": (SqueezeNet, (64, 64), "features", (24, 3, 3), "features.3"),
    "shufflenet_v1": (shufflenet_v1, (64, 64), "features", (24, 4, 4), "features.1"),
    "shufflenet_v2": (ShuffleNetV2, (64, 64), "conv5", (32, 4, 4), "features.1"),
}
