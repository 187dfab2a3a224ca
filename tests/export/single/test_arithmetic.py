import numpy as np
import onnx_ir as ir
import pytest

from fusioncam.export.gradient import Ops
from fusioncam.export.sessions import session
from fusioncam.export.single.arithmetic import Arithmetic, percentile
from fusioncam.kernels import reference

RNG = np.random.default_rng(5)


@pytest.fixture
def run():
    """Runs what `build(arithmetic, *values)` writes on arrays; the first result, in float64."""

    def run(build, *arrays, grid=(3, 4), size=(9, 13), classes=0, near=0):
        kind = ir.TensorType(ir.DataType.FLOAT)
        inputs = [ir.Value(name=f"x{i}", type=kind, shape=ir.Shape(a.shape)) for i, a in enumerate(arrays)]
        graph = ir.Graph(inputs, [], nodes=[], name="test", opset_imports={"": 18})
        result = build(Arithmetic(Ops(graph, "test"), [grid], size, classes, near), *inputs)
        result.type = kind
        graph.outputs.append(result)
        feeds = {f"x{i}": a.astype(np.float32) for i, a in enumerate(arrays)}
        return session(ir.Model(graph, ir_version=9)).run(None, feeds)[0].astype(np.float64)

    return run


def blob(height, width):
    y, x = np.mgrid[:height, :width]
    return reference.unit(np.exp(-((y - 2.0) ** 2 + (x - 3.0) ** 2) / 9))


MAPS = {
    "noise": RNG.random((9, 13)),
    "blob": blob(9, 13),
    "half zero": np.maximum(RNG.standard_normal((9, 13)), 0) / 5,
    "mostly zero": np.eye(9, 13),
    "zeros": np.zeros((9, 13)),
    "ones": np.ones((9, 13)),
    "two values": (RNG.random((9, 13)) < 0.93).astype(float),
    "tiny values": RNG.random((9, 13)) * 1e-9,
    "one pixel": np.ones((1, 1)),
    "two pixels": np.array([[0.25, 1.0]]),
    "eleven pixels": RNG.random((1, 11)),
    "many": RNG.random((96, 101)),
}


@pytest.mark.parametrize("name", MAPS)
def test_percentile(name, run):
    values = MAPS[name].astype(np.float32).astype(np.float64)
    found = run(percentile, values, size=values.shape)
    assert found == pytest.approx(np.percentile(values, 10), abs=1e-7)


@pytest.mark.parametrize("name", MAPS)
def test_denoise(name, run):
    values = MAPS[name].astype(np.float32).astype(np.float64)
    found = run(lambda m, v: m.denoise(v), values, size=values.shape)
    np.testing.assert_allclose(found, reference.denoise(values), atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [MAPS["noise"], MAPS["zeros"], MAPS["ones"] * 7, 1e4 + MAPS["noise"], 1 + 1e-7 * MAPS["noise"], -MAPS["blob"]],
)
def test_unit(values, run):
    values = values.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(run(lambda m, v: m.unit(v), values), reference.unit(values), atol=1e-6)


SMALL = RNG.standard_normal((5, 3, 4))


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (3, 4), (9, 13), (20, 30)])
def test_masks(grid, run):
    small = RNG.standard_normal((5, *grid))
    small[1], small[2] = 0, 3.5
    small[3] = (1e4 + small[3]).astype(np.float32)
    small = small.astype(np.float32).astype(np.float64)
    found = run(lambda m, v: m.up(m.scaled(v)), small, grid=grid)
    np.testing.assert_allclose(found, reference.unit(reference.upsample(small, (9, 13))), atol=2e-6)


def test_maps(run):
    small, slopes = SMALL.astype(np.float32).astype(np.float64), RNG.standard_normal(SMALL.shape)
    scores = np.array([3.0, -1, 2, 0.5, 4])
    found = run(lambda m, a, g: m.grad_cam(a, g), small, slopes)
    np.testing.assert_allclose(found, reference.grad_cam(small, slopes, (9, 13)), atol=1e-5)
    found = run(lambda m, a, s: m.score_cam(a, s), small, scores)
    np.testing.assert_allclose(found, reference.score_cam(small, scores, (9, 13)), atol=1e-5)


@pytest.mark.parametrize("channels", [5, 384, 2048])
@pytest.mark.parametrize("spread", [2e-4, 0.02, 0.3, 5.0])
@pytest.mark.parametrize("kind", ["cancelling", "positive", "almost flat"])
def test_score_cam_of_scores_near_each_other(channels, spread, kind, run):
    """Activations of a LayerNorm sum to zero over the channels, so nearly equal weights leave little of them."""
    rng = np.random.default_rng(channels)
    small = rng.standard_normal((channels, 3, 4))
    small = (small - small.mean(0)) / small.std(0)
    small = {"cancelling": small, "positive": abs(small), "almost flat": 50 + 0.05 * abs(small)}[kind]
    small, scores = small.astype(np.float32), (0.3 + spread * rng.standard_normal(channels)).astype(np.float32)
    found = run(lambda m, a, s: m.score_cam(a, s), small, scores, near=channels)
    wanted = reference.score_cam(small.astype(np.float64), scores.astype(np.float64), (9, 13))
    assert wanted.max() == 1
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("grid", [(3, 4), (7, 7), (5, 1)])
@pytest.mark.parametrize("live", [0, 1])
def test_grad_cam_without_evidence_is_zero_and_no_rounding(grid, live, run):
    """All that speaks against the class is cut off; in float32, enlarging what is left of it leaves some digits."""
    small, slopes = RNG.random((5, *grid)) + 1, -RNG.random((5, *grid)) * 100
    small[:live] = -1e-3 * RNG.random(grid)
    found = run(lambda m, a, g: m.grad_cam(a, g), small, slopes, grid=grid)
    assert not reference.grad_cam(small, slopes, (9, 13)).any()
    assert not found.any()


@pytest.mark.parametrize("gains", [(0.3, 0.1), (0.3, -0.1), (0.2, -0.2), (0.0, 0.0), (1e-7, 1e-7), (-0.1, 0.4)])
def test_fusion(gains, run):
    one, two = MAPS["noise"], MAPS["blob"]
    shares = reference.contributions(*gains)
    given = [np.array([g]) for g in gains]
    found = run(lambda m, a, b, f, s: m.unite(a, b, m.shares(f, s)), one, two, *given)
    np.testing.assert_allclose(found, reference.unite(one, two, shares), atol=2e-6)
    found = run(lambda m, a, b, f, s: m.blend(a, b, m.shares(f, s)), one, two, *given)
    np.testing.assert_allclose(found, reference.blend(one, two, shares), atol=2e-6)


@pytest.mark.parametrize("ending", ["logits", "softmax", "sigmoid", "value"])
@pytest.mark.parametrize("c", [0, 2])
def test_confidence(c, ending, run):
    logits = np.array([[1.0, -2, 30], [0, 0, 0], [-90, 5, 5]])
    own = {"sigmoid": 1 / (1 + np.exp(-logits)), "value": logits}.get(ending, reference.softmax(logits))[:, c]
    left = {"sigmoid": 1 / (1 + np.exp(logits[:, c])), "value": -own}.get(ending, 1 - own)

    def both(m, v):
        return m.op.Concat(*m.confidence(v, m.op.ints([c]), ending), axis=0)

    found = run(both, logits, classes=3)
    np.testing.assert_allclose(found, [*own, *left], rtol=1e-5, atol=1e-13)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
@pytest.mark.parametrize("logit", [-20.0, -3.0, 0.0, 3.0, 14.0, 20.0])
def test_gain(logit, ending, run):
    """Gains keep their digits where a class is all but sure."""
    logits = np.array([[logit, 0.0], [logit + 0.5, 0.0]])
    zero, own = (v.astype(np.float64) for v in logits.astype(np.float32)[:, 0])
    wanted = np.exp(-zero) * -np.expm1(zero - own) / (1 + np.exp(-own)) / (1 + np.exp(-zero))

    def gain(m, v):
        chance, left = m.confidence(v, m.op.ints([0]), ending)
        blank, mapped = [[m.op.Gather(p, m.op.ints([i])) for p in (chance, left)] for i in (0, 1)]
        return m.gain(mapped, blank)

    assert run(gain, logits, classes=2)[0] == pytest.approx(wanted, rel=1e-5)
