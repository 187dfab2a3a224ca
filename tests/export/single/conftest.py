import numpy as np
import onnxruntime
import pytest

from fusioncam.export import single_graph, unrolled_graphs

MAPS = ("fusion_cam", "grad_cam", "score_cam")


def open_graph(data):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def single_of():
    """Runs the single graph of a bundle on a preprocessed picture: its outputs, by name."""

    def single_of(bundle, **options):
        session = open_graph(single_graph(bundle, **options))
        names = [o.name for o in session.get_outputs()]

        def run(x, class_index=-1):
            feeds = {"image": x[None], "class_index": np.array([class_index], np.int64)}
            return dict(zip(names, session.run(None, feeds), strict=True))

        return run

    return single_of


@pytest.fixture(scope="session")
def unrolled_of():
    """The same by the graphs without a Loop, as a program would run them."""

    def unrolled_of(bundle, masks=8):
        chunk, fuse = (open_graph(data) for data in unrolled_graphs(bundle, masks).values())
        explain = onnxruntime.InferenceSession(bundle / "explain.onnx", providers=["CPUExecutionProvider"])

        def run(x, class_index=-1):
            subject = {"image": x[None], "class_index": np.array([class_index], np.int64)}
            seen = dict(zip(("logits", "activations", "gradients"), explain.run(None, subject), strict=True))
            given = {**subject, "logits": seen["logits"], "activations": seen["activations"]}
            channels = seen["activations"].shape[1]
            scores = np.empty(channels, np.float32)
            for start in range(0, channels, masks):
                some = np.minimum(np.arange(start, start + masks), channels - 1)
                scores[some] = chunk.run(None, {**given, "channels": some})[0]
            return dict(zip(MAPS, fuse.run(MAPS, {**subject, **seen, "scores": scores}), strict=True))

        return run

    return unrolled_of


@pytest.fixture(scope="session")
def farthest():
    """The largest difference between maps of a graph and those of an Explanation."""
    return lambda found, explanation: max(float(np.abs(found[m][0] - explanation.maps[m]).max()) for m in MAPS)


@pytest.fixture(scope="session")
def usual(make_tiny):
    """The bundle of a small network; channels 1 and 5 are zero, channel 3 is 0.7 everywhere."""
    return make_tiny(zero=(1, 5), constant=(3,)).bundle
