import numpy as np
import onnxruntime
import pytest

from fusioncam.export import single_graph, unrolled_graphs

MAPS = ("fusion_cam", "grad_cam", "score_cam")


def open_graph(data):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def fed(session, values):
    """Runs a session with those of the values that it takes: its outputs, by name."""
    feeds = {i.name: values[i.name] for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def rows(x, target):
    """A picture and its target, one row each."""
    return {name: np.asarray(value)[None] for name, value in {"image": x, **target}.items()}


def of_class(class_index):
    return {"class_index": np.int64(class_index)}


@pytest.fixture(scope="session")
def run_single():
    """Runs the single graph of a bundle on a preprocessed picture and a target: its outputs, by name."""

    def run_single(bundle, **options):
        session = open_graph(single_graph(bundle, **options))
        return lambda x, target: fed(session, rows(x, target))

    return run_single


@pytest.fixture(scope="session")
def run_unrolled():
    """The same by the graphs without a Loop, as a program would run them."""

    def run_unrolled(bundle, masks=8):
        chunk, fuse = (open_graph(data) for data in unrolled_graphs(bundle, masks).values())
        explain = onnxruntime.InferenceSession(bundle / "explain.onnx", providers=["CPUExecutionProvider"])

        def run(x, target):
            subject = rows(x, target)
            subject |= fed(explain, subject)
            (channels,) = next(i.shape for i in fuse.get_inputs() if i.name == "scores")
            scores = np.empty(channels, np.float32)
            for start in range(0, channels, masks):
                some = np.minimum(np.arange(start, start + masks), channels - 1)
                scores[some] = fed(chunk, {**subject, "channels": some})["scores"]
            return fed(fuse, {**subject, "scores": scores})

        return run

    return run_unrolled


@pytest.fixture(scope="session")
def single_of(run_single):
    """`run_single` for a class of a classifier."""

    def single_of(bundle, **options):
        run = run_single(bundle, **options)
        return lambda x, class_index=-1: run(x, of_class(class_index))

    return single_of


@pytest.fixture(scope="session")
def unrolled_of(run_unrolled):
    """`run_unrolled` for a class of a classifier."""

    def unrolled_of(bundle, masks=8):
        run = run_unrolled(bundle, masks)
        return lambda x, class_index=-1: run(x, of_class(class_index))

    return unrolled_of


@pytest.fixture(scope="session")
def farthest():
    """The largest difference between maps of a graph and those of an Explanation."""
    return lambda found, explanation: max(float(np.abs(found[m][0] - explanation.maps[m]).max()) for m in MAPS)


@pytest.fixture(scope="session")
def usual(make_tiny):
    """The bundle of a small network; channels 1 and 5 are zero, channel 3 is 0.7 everywhere."""
    return make_tiny(zero=(1, 5), constant=(3,)).bundle
