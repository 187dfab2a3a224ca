"""The comparison of metrics with other packages and with plain torch: same network, same pictures, same maps.

    python benchmarks/agreement/metrics.py [--model FILE --photos FOLDER] [--count N] [-o FILE]

drop: Average Drop and Increase in Confidence beside torch-cam's. curves: insertion and deletion beside torch-cam's, and
beside a loop in torch. road: ROAD without noise beside pytorch-grad-cam's. fusioncam runs the bundle on onnxruntime,
the others the network in torch. Without --model: a MobileNetV2 with random weights, and drawn pictures. Writes JSON;
exit status 1 if anything differs by more than 1e-4. Takes about a minute for two pictures.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

LIMIT = 1e-4
NETWORK = "mobilenetv2"
STEPS = 16
ROAD_PICTURES, PERCENTILES = 1, (10, 50, 90)  # pytorch-grad-cam takes seconds for every percentile
Figures = dict[str, Any]


class Bench:
    """A network twice, as a bundle and in torch, with pictures and maps of them.

    Args:
        subject: The bundle and its pictures.
    """

    def __init__(self, subject: Any) -> None:
        from cpu.subjects import in_torch

        from fusioncam.manifest import SCORE_GRAPH
        from fusioncam.runtime.engine.host.scorer import Scorer
        from fusioncam.runtime.sessions.open import open_session

        self.subject = subject
        self.net = in_torch(subject.name, subject.bundle, subject.pictures[0].x)
        shape = subject.pictures[0].x.shape
        self._scorer = Scorer(open_session(subject.bundle / SCORE_GRAPH, linger=False), shape, 8, pad=False)

    def ours(self, picture: Any, maps: dict[str, np.ndarray], metrics: Sequence[str], **settings: Any) -> Figures:
        """Return the figures of maps (H, W) by fusioncam."""
        from fusioncam.kernels.reference import probabilities
        from fusioncam.runtime.engine.host.passes import MaskedPasses
        from fusioncam.runtime.engine.progress import Clock
        from fusioncam.runtime.evaluation.metrics.faithfulness import Settings, faithfulness

        def confidence(logits: np.ndarray) -> np.ndarray:
            return probabilities(logits, "softmax")[:, picture.class_index]

        passes = MaskedPasses(picture.x, Clock()).of_pictures
        work = faithfulness(picture.x, maps, confidence, passes, Settings(tuple(metrics), **settings))
        (found,) = self._scorer.scheduler().run([work])
        return dict(found)

    def theirs(self, pictures: torch.Tensor, class_index: int) -> torch.Tensor:
        """Return p_c (N,) of pictures (N, 3, H, W), in torch."""
        with torch.no_grad():
            return self.net.network(pictures).softmax(-1)[:, class_index]

    def positive_map(self, picture: Any) -> np.ndarray:
        """Return a map of the activations without many equal pixels, as ROAD needs it."""
        from peers import definitions

        map_: np.ndarray = definitions.finished(definitions.activations(self.net, picture.x).mean(0), picture.x)
        return map_


def extractor(bench: Bench) -> Any:
    """Return a Grad-CAM of torch-cam."""
    from torchcam.methods import GradCAM

    return GradCAM(bench.net.network, bench.net.layer)


def map_of(cam: Any, picture: Any) -> np.ndarray:
    """Return its map (H, W) as torch-cam's metrics make it: of the gradient of the probability, and enlarged."""
    scores = cam.model(torch.from_numpy(picture.x)[None].requires_grad_()).softmax(-1)
    small = cam.fuse_cams(cam(picture.class_index, scores))
    size = picture.x.shape[1:]
    return torch.nn.functional.interpolate(small[None], size, mode="bilinear", align_corners=False)[0, 0].numpy()


def measure_with(metric: Any, picture: Any) -> dict[str, float]:
    """Return the figure of a picture by a metric of torch-cam."""
    metric.reset()
    metric.update(torch.from_numpy(picture.x)[None].requires_grad_(), picture.class_index)
    found: dict[str, float] = metric.summary()
    return found


def compare_drop(record: Any, bench: Bench) -> None:
    """Compare Average Drop and Increase in Confidence with torch-cam's."""
    from torchcam.metrics import ClassificationMetric

    cam = extractor(bench)
    metric = ClassificationMetric(cam, partial(torch.softmax, dim=-1))
    for picture in bench.subject.pictures:
        theirs = measure_with(metric, picture)
        ours = bench.ours(picture, {"map": map_of(cam, picture)}, ("drop",))["map"].values
        for name, other in (("drop", "avg_drop"), ("increase", "conf_increase")):
            record.figures.append({"picture": picture.name, "what": name, "ours": ours[name], "theirs": theirs[other]})
            record.check(f"{name} of {picture.name} as torch-cam's", abs(ours[name] - theirs[other]), LIMIT)
    cam.remove_hooks()


def compare_curves(record: Any, bench: Bench) -> None:
    """Compare insertion and deletion with torch-cam's, and with a loop in torch."""
    from torchcam.metrics import DeletionInsertionMetric

    cam = extractor(bench)
    logits_fn = partial(torch.softmax, dim=-1)
    # Theirs starts insertion from what deletion ends with; ours blurs the one and has zeros for the other.
    from_blur = DeletionInsertionMetric(cam, logits_fn, steps=STEPS, baseline=rise_blur)
    from_zeros = DeletionInsertionMetric(cam, logits_fn, steps=STEPS)
    for picture in bench.subject.pictures:
        map_ = map_of(cam, picture)
        ours = bench.ours(picture, {"map": map_}, ("insertion", "deletion"), steps=STEPS)["map"].values
        for name, metric in (("insertion", from_blur), ("deletion", from_zeros)):
            theirs = next(v for k, v in measure_with(metric, picture).items() if name in k)
            plainly = plain_area(bench, picture, map_, name)
            figures = {"ours": ours[name], "theirs": theirs, "plainly": plainly}
            record.figures.append({"picture": picture.name, "what": name, **figures})
            record.check(f"{name} of {picture.name} as torch-cam's", abs(ours[name] - theirs), LIMIT)
            record.check(f"{name} of {picture.name} as in plain torch", abs(ours[name] - plainly), LIMIT)
    cam.remove_hooks()


def plain_area(bench: Bench, picture: Any, map_: np.ndarray, name: str) -> float:
    """Return insertion or deletion: pixels change in the order of the map, and the model is asked after every step."""
    x = torch.from_numpy(picture.x)
    blur = rise_blur(x[None])[0]
    now, end = (blur.clone(), x) if name == "insertion" else (x.clone(), torch.zeros_like(x))
    order = torch.from_numpy(map_).flatten().sort(descending=True, stable=True).indices
    seen = [now.clone()]
    for some in order.chunk(STEPS):
        now.flatten(1)[:, some] = end.flatten(1)[:, some]
        seen.append(now.clone())
    return float(torch.trapezoid(bench.theirs(torch.stack(seen), picture.class_index), dx=1 / STEPS))


def rise_blur(pictures: torch.Tensor) -> torch.Tensor:
    """Return RISE's own blur of pictures (N, 3, 224, 224): a convolution with scipy's Gaussian filter of a delta."""
    from scipy.ndimage import gaussian_filter

    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).to(pictures)
    weight = torch.zeros(3, 3, 11, 11).to(pictures)
    for channel in range(3):
        weight[channel, channel] = kernel
    return torch.nn.functional.conv2d(pictures.detach(), weight, padding=5)


def compare_road(record: Any, bench: Bench) -> None:
    """Compare ROAD without noise with pytorch-grad-cam's, with p_c as its target."""
    from peers import torchvision_without_operators

    torchvision_without_operators()
    from pytorch_grad_cam.metrics.perturbation_confidence import (
        PerturbationConfidenceMetric,
        RemoveLeastRelevantFirst,
        RemoveMostRelevantFirst,
    )
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    kinds = {"road_morf": RemoveMostRelevantFirst, "road_lerf": RemoveLeastRelevantFirst}
    for picture in bench.subject.pictures[:ROAD_PICTURES]:
        map_ = bench.positive_map(picture)
        ours = bench.ours(picture, {"map": map_}, ("road",), percentiles=PERCENTILES, noise=0.0)["map"].values
        given = torch.from_numpy(picture.x)[None], map_[None], [ClassifierOutputSoftmaxTarget(picture.class_index)]
        theirs = {}
        for name, kind in kinds.items():
            metrics = [PerturbationConfidenceMetric(kind(p, NoisyLinearImputer(noise=0))) for p in PERCENTILES]
            theirs[name] = float(np.mean([metric(*given, bench.net.network)[0] for metric in metrics]))
        theirs["road"] = (theirs["road_lerf"] - theirs["road_morf"]) / 2
        for name, value in theirs.items():
            record.figures.append({"picture": picture.name, "what": name, "ours": ours[name], "theirs": value})
            record.check(f"{name} of {picture.name} as pytorch-grad-cam's", abs(ours[name] - value), LIMIT)


COMPARISONS: dict[str, Callable[[Any, Bench], None]] = {
    "drop": compare_drop,
    "curves": compare_curves,
    "road": compare_road,
}


def agreement(subject: Any, keep: Callable[[Figures], None] = lambda found: None) -> Figures:
    """Run all comparisons on a network with its pictures, and return stages as `record.guarded` gives them."""
    from record import guarded

    bench, stages = Bench(subject), {}
    for name, compare in COMPARISONS.items():
        stages[name] = guarded(lambda record, compare=compare: compare(record, bench))  # type: ignore[misc]
        keep(stages)
    return stages


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX file of a pretrained ImageNet network")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="what to explain with it")
    parser.add_argument("--count", type=int, default=2, metavar="N", help="pictures")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", default=Path("build/bench/metrics.json"))
    asked = parser.parse_args(arguments)
    if (asked.model is None) != (asked.photos is None):
        parser.error("--model and --photos go together")
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all metrics, and return the exit status."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from cpu.subjects import folder_of_photos, from_file, made_up
    from record import passed, write

    asked = options(arguments)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        if asked.model is None:
            subject = made_up(NETWORK, folder, asked.count)
        else:
            subject = from_file(asked.model, folder, folder_of_photos(asked.photos, asked.count))
        stages = agreement(subject)
    write({"network": subject.name, "weights": subject.weights, "passed": passed(stages), "stages": stages}, asked.out)
    for name, stage in stages.items():
        worst = max((c["found"] for c in stage["checks"]), default=float("nan"))
        told = stage.get("reason", f"{len(stage['checks'])} comparisons, largest difference {worst:.2g}")
        print(f"{name}: {stage['status']} in {stage['seconds']} s; {told}")
    print(f"{'passed' if passed(stages) else 'FAILED'}; everything is in {asked.out}")
    return 0 if passed(stages) else 1


if __name__ == "__main__":
    sys.exit(main())
