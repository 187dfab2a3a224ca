"""The table of small classifiers of the drawn scenes, unlike each other, so that no budget is tuned to a few networks.

One row is one network and its training, by `training.py`. A row is *fitted*, which means that constants of
`fusioncam/runtime/budget/` may be chosen by it, if its number is even; the odd rows are held out. Each kind of network
has rows of both. This rule was written before any result was seen.
"""

from dataclasses import dataclass

BATCH, STEPS = 64, 650

Stages = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Row:
    """A network and its training.

    Attributes:
        block: A key of `BLOCKS`.
        stages: Width and stride of each block, after two 3x3 convolutions of stride 2.
        head: Channels of a last 1x1 convolution; 0 for none.
        activation: A key of `ACTIVATIONS`.
        size: Side of the input, in pixels.
        loss: `softmax` (one class per scene) or `sigmoid` (any classes).
        steps: Batches of `BATCH` scenes.
    """

    block: str
    stages: Stages
    head: int
    activation: str
    size: int
    loss: str = "softmax"
    steps: int = STEPS

    @property
    def channels(self) -> int:
        """Return the channels of the last feature map."""
        return self.head or self.stages[-1][0]

    @property
    def name(self) -> str:
        """Return a name that tells the rows apart."""
        return f"{self.block}-{self.channels}-{self.activation}-{self.size}-{self.loss}"

    @property
    def number(self) -> int:
        """Return the place in the table, which is the seed, too."""
        return [row.name for row in MODELS].index(self.name)

    @property
    def fitted(self) -> bool:
        """Return whether constants may be chosen by this model."""
        return self.number % 2 == 0


MODELS: tuple[Row, ...] = (
    Row("plain", ((48, 2), (64, 1), (64, 1), (64, 1)), 0, "relu", 80, steps=1200),
    Row("plain", ((48, 2), (64, 1), (96, 1), (128, 1)), 0, "silu", 80, steps=1000),
    Row("plain", ((48, 1), (64, 2), (64, 1), (256, 1)), 0, "leaky", 64, "sigmoid", steps=1300),
    Row("plain", ((48, 2), (64, 1), (64, 1)), 512, "relu6", 64, steps=1300),
    Row("residual", ((48, 2), (64, 1), (64, 1)), 0, "gelu", 80, steps=1300),
    Row("residual", ((64, 2), (64, 1), (128, 1)), 0, "relu", 64, "sigmoid"),
    Row("residual", ((48, 2), (64, 1), (64, 1)), 256, "relu", 64, steps=1300),
    Row("residual", ((48, 2), (64, 1), (64, 1)), 192, "hardswish", 64, steps=1300),
    Row("separable", ((64, 1), (96, 2), (128, 1), (128, 1), (256, 1)), 0, "relu6", 96),
    Row("separable", ((64, 1), (96, 2), (128, 1), (128, 1), (512, 1)), 0, "relu", 80),
    Row("separable", ((64, 1), (96, 2), (128, 1), (128, 1), (384, 1)), 0, "silu", 64, "sigmoid"),
    Row("inverted", ((32, 1), (64, 2), (64, 1), (64, 1)), 320, "relu6", 80),
    Row("inverted", ((32, 1), (64, 2), (64, 1), (96, 2), (96, 1)), 512, "relu6", 96),
    Row("inverted", ((32, 1), (64, 2), (64, 1), (64, 1)), 512, "hardswish", 64, "sigmoid"),
)
