"""Training of the demo model on scenes that are drawn meanwhile, and its ONNX file: only this module needs torch.

The loss has two parts. The first asks whether each class is in the scene. The second, possible because the scenes know
their masks, asks for the source of the logit of each class in the scene: a softmax over the places of its evidence
should fall on its object. Without the second part, such a network uses evidence beside the object (the hole of a ring,
the ground next to a corner), and a map that shows that evidence looks wrong. The last layer has no bias, so that a
logit is the mean of its evidence over the map and nothing else.

`python benchmarks/demo_model.py` makes `shapes.onnx` anew in a few minutes on two CPU cores. The same seed
on the same machine with the same torch gives the same file, to the byte; on other machines rounding may differ.
"""

import argparse
import json
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fusioncam.output import write_atomically
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, SIZE, draw_scene

STEPS, BATCH, LEARNING_RATE = 1300, 64, 4e-3
PLACE_WEIGHT, TEMPERATURE = 0.3, 4.0
EVALUATED = 2000
MEAN, STD = 0.5, 0.25
PREPROCESSING = {"channel_order": "rgb", "rescale": 1 / 255, "mean": [MEAN] * 3, "std": [STD] * 3, "resize": "squash"}

# Numbers of objects, scene by scene. The empty scene teaches the model that bare ground and blobs, like an explainer's
# blank image, are none of the classes.
OBJECTS = (1, 2, 1, 3, 1, 2, 0, 1)

# Output channels and stride of each 3x3 convolution. The stride ends at 8, a 12x12 map for 96x96 pixels, and the
# last units see 71 pixels, so that the largest object fits their view.
LAYERS = ((16, 2), (32, 2), (48, 1), (64, 2), (64, 1), (64, 1), (64, 1))
GRID = (SIZE[0] // 8, SIZE[1] // 8)


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Drawn scenes by number: pixels (3, H, W) uint8 and shares (classes, h, w) of each cell that a class covers."""

    def __init__(self, first_seed: int, count: int, objects: tuple[int, ...] = OBJECTS) -> None:
        """Hold `count` scenes from `first_seed` on, their numbers of objects going round `objects`."""
        self.seeds = range(first_seed, first_seed + count)
        self.objects = objects

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.seeds)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Draw the scene of an index."""
        scene = draw_scene(self.seeds[index], SIZE, self.objects[index % len(self.objects)])
        shares = torch.zeros(len(CLASSES), *GRID)
        for class_index, mask in scene.masks.items():
            shares[class_index] = functional.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], GRID)[0]
        return torch.from_numpy(scene.image.transpose(2, 0, 1).copy()), shares


def build_model() -> nn.Sequential:
    """Build the network: 3x3 convolutions, each with batch norm and ReLU, then the mean over positions and a Linear.

    The logits are linear in the last feature map, so that class weights times activations are their evidence.
    """
    blocks: list[nn.Module] = []
    width = 3
    for channels, stride in LAYERS:
        blocks += [nn.Conv2d(width, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        width = channels
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, len(CLASSES), bias=False))


def preprocess(pixels: Tensor) -> Tensor:
    """Map pixels (N, 3, H, W) uint8 to the model's input, as `PREPROCESSING` says."""
    return (pixels * (1 / 255) - MEAN) / STD


def spoil(images: Tensor) -> Tensor:
    """Fade images (N, 3, H, W) unevenly towards grey, as an explainer's soft masks do, and add noise."""
    fade = functional.interpolate(torch.rand(len(images), 1, 4, 4), images.shape[-2:], mode="bilinear")
    return images * (0.4 + 0.6 * fade) + 0.05 * torch.randn_like(images)


def loss_of(model: nn.Sequential, images: Tensor, shares: Tensor, place_weight: float = PLACE_WEIGHT) -> Tensor:
    """Compute the loss (see the head of this file).

    Args:
        model: The result of `build_model`.
        images: (N, 3, H, W), preprocessed.
        shares: (N, classes, h, w), the share of each cell of the last feature map that each class covers.
        place_weight: Weight of the second part.

    Returns:
        A scalar.
    """
    activations = model[:-3](images)
    present = (shares.amax(dim=(2, 3)) > 0).float()
    presence = functional.binary_cross_entropy_with_logits(model[-3:](activations), present)

    evidence = torch.einsum("nkhw,ck->nchw", activations, model.get_parameter(f"{len(model) - 1}.weight"))
    places = (evidence / TEMPERATURE).flatten(2).softmax(dim=2)
    on_object = (places * shares.flatten(2)).sum(dim=2)
    misplaced = -(on_object + 1e-6).log() * present
    return presence + place_weight * misplaced.sum() / present.sum().clamp(min=1)


def train(steps: int = STEPS, seed: int = 0, workers: int = 0, place_weight: float = PLACE_WEIGHT) -> nn.Sequential:
    """Train the model on `steps` batches of new scenes.

    Args:
        steps: Batches of `BATCH` scenes.
        seed: Chooses the initial weights and the scenes, none of which has a seed in `HELD_OUT`.
        workers: Processes that draw scenes in advance; 0 draws between the steps. The result is the same.
        place_weight: Weight of the loss that places evidence on the object; 0 trains without that loss.

    Returns:
        The model in evaluation mode.
    """
    torch.manual_seed(seed)
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.2)
    scenes = Scenes(HELD_OUT.stop * (1 + seed), steps * BATCH)
    for step, (pixels, shares) in enumerate(DataLoader(scenes, BATCH, num_workers=workers), start=1):
        loss = loss_of(model, spoil(preprocess(pixels)), shares, place_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step:5d} of {steps}  loss {loss.item():.4f}", flush=True)
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, objects: int, count: int) -> float:
    """Return the share of `count` held-out scenes whose `objects` highest logits are the classes in the scene."""
    right = 0
    for pixels, shares in DataLoader(Scenes(HELD_OUT.start, count, (objects,)), batch_size=200):
        present = shares.amax(dim=(2, 3)) > 0
        top = model(preprocess(pixels)).topk(objects).indices
        right += int(present.gather(1, top).all(dim=1).sum())
    return right / count


def to_onnx(model: nn.Module, size: tuple[int, int] = SIZE) -> onnx.ModelProto:
    """Convert the model, batch norms folded, with class names and preprocessing as metadata; `size` is (H, W)."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 3, *size),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # None comes only from the older exporter
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # notes of the exporter, with stack traces and file names
    onnx.helper.set_model_props(
        proto, {"names": json.dumps(CLASSES), "fusioncam.preprocessing": json.dumps(PREPROCESSING)}
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write the model to `path` whole, or leave the old file."""
    write_atomically(path, proto.SerializeToString(deterministic=True))


def main(arguments: list[str] | None = None) -> None:
    """Train the model, print its accuracy on held-out scenes, and write its file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=MODEL, help="where to write the model (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of {BATCH} scenes (default: %(default)s)")
    parser.add_argument(
        "--place-weight", type=float, default=PLACE_WEIGHT, help="of the loss on where it looks (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and scenes (default: %(default)s)")
    options = parser.parse_args(arguments)

    # Two runs add up in the same order only with the same number of threads.
    torch.set_num_threads(2)
    model = train(options.steps, options.seed, workers=1, place_weight=options.place_weight)
    for objects in (1, 2, 3):
        print(f"held-out accuracy, scenes of {objects}: {accuracy(model, objects, EVALUATED):.4f}")
    save(to_onnx(model), options.output)


if __name__ == "__main__":
    main()
