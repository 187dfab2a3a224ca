"""MobileNets, EfficientNet and ConvNeXt, built like those of torchvision but a few channels wide.

Loaded by `conftest.py`, which hands them out as fixtures.
"""

import torch
from torch import nn

CLASSES = 10


def conv_bn(cin, cout, kernel=3, stride=1, groups=1, act=nn.ReLU6):
    parts = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*parts, *([act()] if act else []))


class Excite(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels, inner, act, gate):
        super().__init__()
        self.avgpool, self.fc1, self.fc2 = (
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.Conv2d(inner, channels, 1),
        )
        self.act, self.gate = act(), gate()

    def forward(self, x):
        return self.gate(self.fc2(self.act(self.fc1(self.avgpool(x))))) * x


class Inverted(nn.Module):
    """An inverted residual: widen, depthwise, excite, narrow."""

    def __init__(self, cin, cout, stride=1, kernel=3, act=nn.ReLU6, excite=None):
        super().__init__()
        inner = 3 * cin
        self.straight = stride == 1 and cin == cout
        parts = [conv_bn(cin, inner, 1, act=act), conv_bn(inner, inner, kernel, stride, inner, act=act)]
        parts += [Excite(inner, 4, *excite)] if excite else []
        self.block = nn.Sequential(*parts, conv_bn(inner, cout, 1, act=None))

    def forward(self, x):
        return x + self.block(x) if self.straight else self.block(x)


class Head(nn.Module):
    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.avgpool, self.classifier = features, nn.AdaptiveAvgPool2d(1), classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def mobilenet_v1():
    parts, cin = [conv_bn(3, 8, 3, 2, act=nn.ReLU)], 8
    for cout, stride in ((12, 1), (16, 2), (16, 1), (24, 2)):
        parts += [conv_bn(cin, cin, 3, stride, cin, act=nn.ReLU), conv_bn(cin, cout, 1, act=nn.ReLU)]
        cin = cout

    class ConvolutionalHead(nn.Module):
        """As in its first release: the classifier is a 1x1 convolution after the global pool."""

        def __init__(self):
            super().__init__()
            self.features, self.avgpool = nn.Sequential(*parts), nn.AvgPool2d(4)
            self.fc = nn.Conv2d(cin, CLASSES, 1)

        def forward(self, x):
            return self.fc(self.avgpool(self.features(x))).squeeze(3).squeeze(2)

    return ConvolutionalHead()


def mobilenet_v2():
    parts = [conv_bn(3, 8, 3, 2), Inverted(8, 12, 2), Inverted(12, 12), Inverted(12, 16, 2), Inverted(16, 16)]
    return Head(nn.Sequential(*parts, conv_bn(16, 40, 1)), nn.Sequential(nn.Dropout(0.2), nn.Linear(40, CLASSES)))


def mobilenet_v3():
    excite = (nn.ReLU, nn.Hardsigmoid)
    parts = [
        conv_bn(3, 8, 3, 2, act=nn.Hardswish),
        Inverted(8, 8, 2, act=nn.ReLU, excite=excite),
        Inverted(8, 8, act=nn.ReLU),
        Inverted(8, 12, 2, 5, nn.Hardswish, excite),
        Inverted(12, 12, 1, 5, nn.Hardswish, excite),
        conv_bn(12, 30, 1, act=nn.Hardswish),
    ]
    classifier = nn.Sequential(nn.Linear(30, 32), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(32, CLASSES))
    return Head(nn.Sequential(*parts), classifier)


def efficientnet():
    excite = (nn.SiLU, nn.Sigmoid)
    parts = [
        conv_bn(3, 8, 3, 2, act=nn.SiLU),
        Inverted(8, 12, 2, 3, nn.SiLU, excite),
        Inverted(12, 12, 1, 5, nn.SiLU, excite),
        Inverted(12, 16, 2, 3, nn.SiLU, excite),
        conv_bn(16, 36, 1, act=nn.SiLU),
    ]
    return Head(nn.Sequential(*parts), nn.Sequential(nn.Dropout(0.2), nn.Linear(36, CLASSES)))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels), Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=1e-6), nn.Linear(channels, 4 * channels), nn.GELU(),
            nn.Linear(4 * channels, channels), Permute(0, 3, 1, 2),
        )  # fmt: skip
        self.layer_scale = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x):
        return x + self.layer_scale * self.block(x)


def convnext():
    def down(cin, cout):
        return nn.Sequential(LayerNorm2d(cin, eps=1e-6), nn.Conv2d(cin, cout, 2, 2))

    stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8, eps=1e-6))
    parts = [stem, ConvNeXtBlock(8), down(8, 12), ConvNeXtBlock(12), ConvNeXtBlock(12), down(12, 20), ConvNeXtBlock(20)]

    class ConvNeXt(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.avgpool = nn.Sequential(*parts), nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(LayerNorm2d(20, eps=1e-6), nn.Flatten(1), nn.Linear(20, CLASSES))

        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)))

    return ConvNeXt()


# See `Network` in networks.py for the columns.
NETWORKS = {
    "mobilenet_v1": (mobilenet_v1, (32, 32), "features", (24, 4, 4), "features.4"),
    "mobilenet_v2": (mobilenet_v2, (48, 48), "features", (40, 6, 6), "features.2"),
    "mobilenet_v3": (mobilenet_v3, (48, 48), "features", (30, 6, 6), "features.2"),
    "efficientnet": (efficientnet, (48, 64), "features", (36, 6, 8), "features.1"),
    "convnext": (convnext, (64, 64), "features", (20, 4, 4), "features.3"),
}
