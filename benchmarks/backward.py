"""The gradient graphs of three networks: nodes, seconds to write and to run, beside onnx-ad where it is installed.

    python benchmarks/backward.py [--runs N] [--out FOLDER]

ResNet-18 and MobileNetV3-small of torchvision and ViT-tiny of timm, with random weights, are differentiated down to the
image. The gradients must agree, and those of a batch of three must be those of its pictures alone, before anything is
timed. Runs take turns in one process; medians and quartiles. Writes results/backward.json.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from record import write
from zoo.building import declare_operators

from fusioncam.export.canonical import canonicalize
from fusioncam.export.gradient import Ops, backpropagate
from fusioncam.export.model import CanonicalModel
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.bench.machine import describe

HERE = Path(__file__).resolve().parent
NETWORKS = {"resnet18": "torchvision", "mobilenet_v3_small": "torchvision", "vit_tiny_patch16_224": "timm"}
SIZE = (3, 224, 224)
AGREE = 1e-4  # relative to the largest number


def network(name: str) -> torch.nn.Module:
    """Return a network with random weights, of the library that `NETWORKS` names."""
    declare_operators()
    torch.manual_seed(0)
    if NETWORKS[name] == "timm":
        import timm

        timm.layers.set_fused_attn(False)
        made: torch.nn.Module = timm.create_model(name, pretrained=False)
    else:
        import torchvision

        made = torchvision.models.get_model(name, weights=None)
    return made.eval()


def save(name: str, folder: Path) -> Path:
    """Write a network as ONNX, with a free batch."""
    path = folder / f"{name}.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        network(name), (torch.zeros(2, *SIZE),), str(path), dynamo=True, opset_version=18, external_data=False,
        dynamic_shapes=batch, input_names=["x"], output_names=["y"], verbose=False,
    )  # fmt: skip
    return path


def ours(canonical: CanonicalModel) -> tuple[ir.Model, int]:
    """Return the model with an input `seed` and an output `dx`, and how many nodes of the gradient run.

    Nodes of constants alone are not counted: a session computes them once, when it is opened.
    """
    model = canonical.model.clone()
    graph = model.graph
    output, image = graph.outputs[0], graph.inputs[0]
    seed = ir.Value(name="seed", shape=output.shape, type=output.type)
    graph.inputs.append(seed)
    forward = len(graph)
    op = Ops(graph, "gradient")
    gradient = backpropagate(op, output, seed, image)
    gradient.name, gradient.shape, gradient.type = "dx", image.shape, image.type
    graph.outputs.append(gradient)
    varying = {*graph.inputs}
    running = [n for n in graph if not varying.isdisjoint(n.inputs) and varying.update(n.outputs) is None]
    return model, len(running) - forward


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_onnx_ad(canonical: CanonicalModel, x: Array, seed: Array) -> tuple[Callable[[], Array], dict[str, Any]]:
    """Return what runs onnx-ad's gradient of the same model for a picture, and facts about it.

    The batch is set to one: it refuses a free one.
    """
    import onnx_ad

    model = canonical.model.clone()
    image, output = model.graph.inputs[0], model.graph.outputs[0]
    image.shape, output.shape = ir.Shape(x.shape), ir.Shape(seed.shape)
    source = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    start = time.perf_counter()
    both = onnx_ad.reverse(source, inputs=[image.name], outputs=[output.name], layout="onnx")
    seconds = time.perf_counter() - start
    opened = session(both)
    name = next(i.name for i in both.graph.input if i.name.startswith("adj"))
    result = next(o.name for o in both.graph.output if o.name.startswith("adj"))
    feeds = {image.name: x, name: seed[..., None]}
    facts = {"nodes": len(both.graph.node) - len(canonical.model.graph), "seconds_to_write": round(seconds, 3)}
    return lambda: np.asarray(opened.run([result], feeds)[0])[..., 0], facts


def measure(name: str, folder: Path, runs: int) -> dict[str, Any]:
    """Return the facts about one network.

    Raises:
        SystemExit: Gradients do not agree.
    """
    canonical = canonicalize(save(name, folder))
    forward = len(canonical.model.graph)
    written = []
    for _ in range(5):
        start = time.perf_counter()
        model, nodes = ours(canonical)
        written.append(time.perf_counter() - start)
    opened, rng = session(ir.to_proto(model)), np.random.default_rng(0)
    image = str(model.graph.inputs[0].name)
    x = rng.normal(size=(3, *SIZE)).astype(np.float32)
    seed = rng.normal(size=(3, 1000)).astype(np.float32)

    def gradient(rows: slice) -> Array:
        return np.asarray(opened.run(["dx"], {image: x[rows], "seed": seed[rows]})[0])

    alone = np.concatenate([gradient(slice(i, i + 1)) for i in range(3)])
    _agree(f"{name}: a batch of three and its pictures alone", gradient(slice(3)), alone)
    contenders: dict[str, Callable[[], Array]] = {"fusioncam": lambda: gradient(slice(1))}
    facts: dict[str, dict[str, Any]] = {
        "fusioncam": {"nodes": nodes, "seconds_to_write": round(float(np.median(written)), 3), "free_batch": True}
    }
    if find_spec("onnx_ad"):
        contenders["onnx-ad"], facts["onnx-ad"] = by_onnx_ad(canonical, x[:1], seed[:1])
        _agree(f"{name}: onnx-ad and fusioncam", contenders["onnx-ad"](), alone[:1])
    for by, times in in_turns(contenders, runs).items():
        quartiles = [round(1000 * float(q), 1) for q in np.percentile(times, [25, 50, 75])]
        facts[by] |= {"milliseconds": quartiles[1], "quartiles": quartiles[::2]}
    return {"forward_nodes": forward, **facts}


def in_turns(contenders: dict[str, Callable[[], Array]], runs: int) -> dict[str, list[float]]:
    """Return the seconds of each run of each contender, after one to warm up."""
    times: dict[str, list[float]] = {by: [] for by in contenders}
    for turn in range(runs + 1):
        for by, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                times[by].append(time.perf_counter() - start)
    return times


def _agree(what: str, one: Array, other: Array) -> None:
    difference = float(np.abs(one - other).max() / np.abs(other).max())
    if not difference < AGREE:
        raise SystemExit(f"{what} differ by {difference:.1e}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all networks, print and write the figures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="timed runs of each")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(name, Path(folder), asked.runs) for name in NETWORKS}
    for name, facts in found.items():
        print(name, facts)
    report = {
        "benchmark": "backward",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe(),
        "versions": {m.__name__: m.__version__ for m in (onnx, onnxruntime, ir, np, torch)},
        "runs": asked.runs,
        "networks": found,
    }
    write(report, asked.out / "results" / "backward.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
