"""Everything after the passes of the channels: their scores become the three maps."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.arithmetic import LOWEST
from fusioncam.export.single.levels import largest
from fusioncam.export.single.network import Network
from fusioncam.export.single.subject import Subject
from fusioncam.kernels import rescoring


def fused(op: Ops, subject: Subject, scores: ir.Value, network: Network) -> dict[str, ir.Value]:
    """Return `fusion_cam`, `grad_cam` and `score_cam` (H, W), by passes of x * 0, x * D and x * R, and then of x * U.

    Args:
        op: Appends to the graph.
        subject: The picture.
        scores: Scores (K,) of the target under the masks of all channels; that of a channel of zeros has no effect.
        network: The network of these passes, and of those that correct int8 scores.
    """
    maps, readout = subject.layer.arithmetic(op), subject.readout

    def confidences(several: Sequence[ir.Value]) -> list[tuple[ir.Value, ir.Value]]:
        """Return p(x * m), and what is left of it, of several maps m, each (1,)."""
        masks = op.Concat(*(op.Reshape(m, op.ints([1, 1, *maps.size])) for m in several), axis=0)
        chance, rest = readout.confidences(op, network.run(op, subject.image, masks, readout.target))
        return [(op.Gather(chance, op.ints([i])), op.Gather(rest, op.ints([i]))) for i in range(len(several))]

    gradient_map = maps.grad_cam(subject.layer.summed, subject.layer.gradients)
    denoised = maps.denoise(gradient_map)
    scores = op.Where(subject.zero, maps.number(LOWEST), scores)
    if subject.manifest.score_precision == "int8":
        scores = _rescored(op, subject, scores, network)
    region = maps.score_cam(subject.layer.summed, scores)
    nothing = op.constant(np.zeros(maps.size, np.float32))
    blank, of_denoised, of_region = confidences([nothing, denoised, region])
    shares = maps.shares(maps.gain(of_denoised, blank), maps.gain(of_region, blank))
    united = maps.unite(denoised, region, shares)
    (of_united,) = confidences([united])
    merged = maps.blend(united, region, maps.shares(maps.gain(of_united, blank), shares[1]))
    made = {"fusion_cam": merged, "grad_cam": gradient_map, "score_cam": region}
    return {name: readout.sound(op, value) for name, value in made.items()}


def _rescored(op: Ops, subject: Subject, scores: ir.Value, network: Network) -> ir.Value:
    """Return the scores (K,) after exact passes of the heaviest channels, as `kernels.rescoring` does it.

    The number of passes is fixed. Where it is more than half of the channels that vary, the rest change nothing.
    """
    maps, readout = subject.layer.arithmetic(op), subject.readout
    most = min(rescoring.MOST, -(-largest(subject.manifest)[0] // 2))
    coarse = op.Where(subject.varies, scores, maps.number(LOWEST))
    heavy = maps.heaviest(coarse, most)
    small = op.Unsqueeze(maps.scaled(op.Gather(subject.activations, heavy)), op.ints([1]))
    exact = readout.scores(op, network.run(op, subject.image, maps.up(small), readout.target))
    alive = op.ReduceSum(op.Cast(subject.varies, to=ir.DataType.FLOAT), op.ints([0]), keepdims=1)
    place = op.constant(np.arange(most), np.float32)
    again = op.Less(place, op.Mul(alive, maps.number(0.5)))  # i < n / 2, for the first (n + 1) // 2 of n
    return maps.corrected(scores, heavy, exact, again)
