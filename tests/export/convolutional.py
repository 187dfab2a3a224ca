"""Convolutional networks, built like those of torchvision but a few channels wide.

Loaded by `conftest.py`, which hands them out as fixtures.
"""

from functools import partial

import torch
from torch import nn
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


class FullyConnected(nn.Module):
    """AlexNet and VGG: features, a pool to a fixed grid, three linear layers."""

    def __init__(self, features, channels, grid):
        super().__init__()
        self.features, self.avgpool = features, nn.AdaptiveAvgPool2d(grid)
        inner = channels * grid[0] * grid[1]
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(inner, 32), nn.ReLU(inplace=True),
            nn.Dropout(), nn.Linear(32, 32), nn.ReLU(inplace=True), nn.Linear(32, CLASSES),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet():
    features = nn.Sequential(
        nn.Conv2d(3, 8, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(16, 12, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    return FullyConnected(features, 12, (3, 3))


def vgg(batch_norm=False):
    parts, cin = [], 3
    for cout in (6, "M", 8, "M", 10, 10, "M", 12, 12, "M"):
        if cout == "M":
            parts.append(nn.MaxPool2d(2, 2))
            continue
        parts += [nn.Conv2d(cin, cout, 3, padding=1), *([nn.BatchNorm2d(cout)] if batch_norm else []), nn.ReLU()]
        cin = cout
    return FullyConnected(nn.Sequential(*parts), 12, (3, 3))


class Residual(nn.Module):
    def __init__(self, cin, cout, stride=1, bottleneck=False, groups=1):
        super().__init__()
        if bottleneck:
            inner = cout // 4 * (2 if groups > 1 else 1)
            self.body = nn.Sequential(
                conv_bn(cin, inner, 1), conv_bn(inner, inner, 3, stride, groups), conv_bn(inner, cout, 1, act=None)
            )
        else:
            self.body = nn.Sequential(conv_bn(cin, cout, 3, stride), conv_bn(cout, cout, 3, act=None))
        straight = stride == 1 and cin == cout
        self.downsample = None if straight else conv_bn(cin, cout, 1, stride, act=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(self.body(x) + identity)


def resnet(bottleneck=False, groups=1):
    block, width, parts, cin = partial(Residual, bottleneck=bottleneck, groups=groups), 8, [], 8
    for i in range(4):
        cout = width * 2**i
        further = [] if bottleneck else [block(cout, cout)]
        parts.append(nn.Sequential(block(cin, cout, 1 if i == 0 else 2), *further))
        cin = cout
    stem = nn.Sequential(conv_bn(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1))
    return Head(nn.Sequential(stem, *parts), cin)


class DenseLayer(nn.Module):
    def __init__(self, cin, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.conv1(functional.relu(self.norm1(torch.cat(x, 1))))
        return self.conv2(functional.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, cin, growth, layers):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(cin + i * growth, growth) for i in range(layers))

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        parts, channels = [conv_bn(3, 8, 7, 2), nn.MaxPool2d(3, 2, 1)], 8
        for i in range(3):
            parts.append(DenseBlock(channels, 4, 3))
            channels += 12
            if i < 2:
                half = channels // 2
                parts += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, half, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
                channels = half
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels))
        self.relu, self.classifier = nn.ReLU(inplace=True), nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = functional.adaptive_avg_pool2d(self.relu(self.features(x)), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class Branches(nn.Module):
    """The branches of an Inception block, joined."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([b(x) for b in self.branches], 1)


def inception_v1():
    def block(cin, c):
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(cin, c, 1))
        return Branches(
            conv_bn(cin, c, 1),
            nn.Sequential(conv_bn(cin, c, 1), conv_bn(c, 2 * c)),
            nn.Sequential(conv_bn(cin, c, 1), conv_bn(c, c)),
            pool,
        )

    features = nn.Sequential(
        conv_bn(3, 6, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), conv_bn(6, 6, 1), conv_bn(6, 8),
        nn.MaxPool2d(3, 2, ceil_mode=True), block(8, 4), block(20, 4), nn.MaxPool2d(2, 2, ceil_mode=True), block(20, 5),
    )  # fmt: skip
    return Head(features, 25, nn.Sequential(nn.Dropout(0.2), nn.Linear(25, CLASSES)))


def inception_v3():
    conv = partial(conv_bn, padding=0)

    def average(cin, c):
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(cin, c, 1))

    def asymmetric(cin, c):
        row, column = conv(c, c, (1, 5), padding=(0, 2)), conv(c, c, (5, 1), padding=(2, 0))
        return nn.Sequential(conv(cin, c, 1), row, column)

    def expanded(cin, c):
        split = Branches(conv(c, c, (1, 3), padding=(0, 1)), conv(c, c, (3, 1), padding=(1, 0)))
        return nn.Sequential(conv(cin, c, 1), split)

    reduction = Branches(conv(16, 6, 3, 2), nn.Sequential(conv(16, 4, 1), conv(4, 4, 3, 2)), nn.MaxPool2d(3, 2))
    features = nn.Sequential(
        conv(3, 6, 3, 2), conv(6, 6, 3), nn.MaxPool2d(3, 2),
        Branches(conv(6, 4, 1), nn.Sequential(conv(6, 4, 1), conv(4, 8, 5, padding=2)), average(6, 4)),
        reduction,
        Branches(conv(26, 6, 1), asymmetric(26, 6), average(26, 4)),
        Branches(conv(16, 6, 1), expanded(16, 5), average(16, 4)),
    )  # fmt: skip
    return Head(features, 20, nn.Sequential(nn.Dropout(), nn.Linear(20, CLASSES)))


# See `Network` in networks.py for the columns.
NETWORKS = {
    "alexnet": (alexnet, (127, 127), "features", (12, 3, 3), "features.7"),
    "vgg": (partial(vgg, batch_norm=True), (48, 48), "features", (12, 3, 3), "features.13"),
    "resnet_basic": (resnet, (64, 96), "features", (64, 2, 3), "features.2"),
    "resnet_bottleneck": (partial(resnet, bottleneck=True), (64, 64), "features", (64, 2, 2), "features.0.1"),
    "resnext": (partial(resnet, bottleneck=True, groups=2), (64, 64), "features", (64, 2, 2), "features.3.0"),
    "densenet": (DenseNet, (64, 64), "relu", (23, 4, 4), "features.6"),
    "inception_v1": (inception_v1, (64, 64), "features", (25, 4, 4), "features.5"),
    "inception_v3": (inception_v3, (75, 75), "features", (20, 8, 8), "features.3"),
}
