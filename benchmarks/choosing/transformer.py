"""A small vision transformer, trained on drawn scenes, as no pretrained one is at hand; needs torch."""

from pathlib import Path

import torch
from demo import training
from promise.training import accuracy, pool
from torch import Tensor, nn
from torch.nn import functional

from fusioncam.runtime.demo.scenes import CLASSES

SIZE, WIDTH, HEADS, DEPTH = 64, 96, 4, 4
STEPS, BATCH, SCENES, LEARNING_RATE = 3000, 64, 12_000, 2e-3


class Attention(nn.Module):
    """Attention of all tokens to all, with several heads."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (N, T, C) as they attend to each other."""
        n, tokens, _ = x.shape
        query, key, value = self.inward(x).reshape(n, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.outward(mixed.transpose(1, 2).reshape(n, tokens, WIDTH))


class Block(nn.Module):
    """Attention and two Linears, each after its LayerNorm and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens (N, T, C) after the block."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A ViT with a stem of three convolutions, 8 x 8 tokens, and a class token that alone is read."""

    def __init__(self) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for width, out in ((3, WIDTH // 4), (WIDTH // 4, WIDTH // 2), (WIDTH // 2, WIDTH)):
            stem += [nn.Conv2d(width, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.GELU()]
        self.stem, tokens = nn.Sequential(*stem), (SIZE // 8) ** 2
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens + 1, WIDTH))
        self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(DEPTH))), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes) of preprocessed pictures."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def train(steps: int = STEPS) -> Transformer:
    """Train on turned and mirrored scenes of one object; return the network in evaluation mode."""
    torch.manual_seed(0)
    pixels, present = pool(SIZE, SCENES)
    usable, network = (present.sum(1) == 1).nonzero()[:, 0], Transformer()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    for step in range(steps):
        some = usable[torch.randint(len(usable), (BATCH,))]
        turned = torch.rot90(pixels[some], int(torch.randint(4, ())), (2, 3))
        images = training.spoil(training.preprocess(turned.flip(3) if torch.rand(()) < 0.5 else turned))
        loss = functional.cross_entropy(network(images), present[some].argmax(1), label_smoothing=0.05)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}  loss {loss.item():.3f}", flush=True)
    return network.eval()


def make(path: Path) -> Path:
    """Train the network unless its ONNX file is there, and return the file."""
    if not path.exists():
        network = train()
        print(f"transformer: accuracy on held-out scenes {accuracy(network, SIZE):.3f}", flush=True)
        training.save(training.to_onnx(network, (SIZE, SIZE)), path)
    return path
