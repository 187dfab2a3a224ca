"""The method written a second time, straight from the paper."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F  # noqa: N812


class Oracle:
    """The method as its description says it: channel by channel, picture by picture, in float64."""

    def __init__(self, bundle, ending="softmax"):
        self.session = onnxruntime.InferenceSession(
            str(Path(bundle) / "score.onnx"), providers=["CPUExecutionProvider"]
        )
        self.sigmoid = ending == "sigmoid"

    def logits(self, x):
        return self.session.run(None, {"image": x[None].astype(np.float32)})[0][0].astype(np.float64)

    def confidence(self, x, c):
        logits = torch.from_numpy(self.logits(x))
        return float((logits.sigmoid() if self.sigmoid else logits.softmax(0))[c])

    @staticmethod
    def up(m, size):
        maps = torch.from_numpy(np.asarray(m, np.float64))[None, None]
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        return F.interpolate(maps, size, mode=mode, align_corners=False)[0, 0].numpy()

    @staticmethod
    def unit(m):
        low, high = m.min(), m.max()
        if high - low <= 1e-6 * max(abs(low), abs(high)) + 1e-12:
            return np.zeros_like(m)
        return (m - low) / (high - low)

    def scores(self, x, c, activations):
        """s_k, the pass of every channel run by itself, none left out."""
        size = x.shape[1:]
        return np.array([self.logits(x * self.unit(self.up(a, size)))[c] for a in activations])

    def rise(self, x, c, masks):
        """The mean of masks (H, W) by their scores, less what is owed to the masks' own mean, which is 1/2 at best."""
        masks = [m.astype(np.float64) for m in masks]
        scores = [self.confidence(x * m, c) for m in masks]
        weighted = sum(s * m for s, m in zip(scores, masks, strict=True)) / (0.5 * len(masks))
        return self.unit(weighted - np.mean(scores) * sum(masks) / (0.5 * len(masks)))

    def maps(self, x, c, activations, gradients):
        size = x.shape[1:]
        weighted = sum(g.mean() * a for g, a in zip(gradients, activations, strict=True))
        grad = self.unit(self.up(np.maximum(weighted, 0), size))
        threshold = np.percentile(grad, 10)
        denoised = self.unit(np.where(grad >= threshold, grad, 0))

        w = torch.from_numpy(self.scores(x, c, activations)).softmax(0).numpy()
        summed = sum(wk * self.up(a, size) for wk, a in zip(w, activations, strict=True))
        region = self.unit(np.maximum(summed, 0))

        b0 = self.confidence(x * 0, c)
        b_d, b_r = self.confidence(x * denoised, c) - b0, self.confidence(x * region, c) - b0
        total = b_d + b_r
        b_d, b_r = (b_d / (total + 1e-8), b_r / (total + 1e-8)) if abs(total) >= 1e-6 else (0.5, 0.5)
        union = self.unit(b_d * denoised + b_r * region)
        b_u = self.confidence(x * union, c) - b0
        total = b_u + b_r
        b_u, b_r = (b_u / (total + 1e-8), b_r / (total + 1e-8)) if abs(total) >= 1e-6 else (0.5, 0.5)

        one, two = b_u * union, b_r * region
        sim = np.clip(1 - abs(one - two), 0, 1)
        fused = self.unit(sim * np.maximum(one, two) + (1 - sim) * (one + two) / 2)
        return {"grad_cam": grad, "score_cam": region, "fusion_cam": fused}
