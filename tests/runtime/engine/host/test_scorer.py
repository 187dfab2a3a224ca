import numpy as np
import pytest

from fusioncam.errors import FusionCamError
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.engine.checks import refuse_nan
from fusioncam.runtime.engine.host.scorer import IN_FLIGHT, Scorer
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import PassRequest

SHAPE = (3, 4, 5)


class Model:
    """Logits: the sum of the picture, and minus that. Keeps what it was fed."""

    def __init__(self):
        self.fed = []

    def run(self, outputs, feeds):
        assert list(outputs) == ["logits"]
        self.fed.append(feeds["image"].copy())
        total = feeds["image"].sum((1, 2, 3), dtype=np.float64).astype(np.float32)
        return [np.stack([total, -total], 1)]


class Explain(Model):
    """A stand-in for the explain graph, whose passes are told apart by their sign."""

    def run(self, outputs, feeds, options):
        assert options.only_execute_path_to_fetches
        assert feeds["class_index"].tolist() == [-1] * len(feeds["image"])
        return [-super().run(outputs, {"image": feeds["image"]})[0]]


@pytest.mark.parametrize(("pad", "singly"), [(False, False), (True, False), (True, True)])
def test_exact_passes_go_through_the_explain_graph_and_share_its_runs(pad, singly):
    score, explain = Model(), Explain()

    def work(exact):
        rows = []
        for flag in (exact, not exact):

            def fill(start, stop, out):
                out[:] = 1

            yield PassRequest(3, fill, lambda _, logits: rows.extend(logits[:, 0].tolist()), Clock(), flag)
        return rows

    scorer = Scorer(score, SHAPE, 8, pad, explain=explain, singly=singly)
    of_one, of_other, of_third = scorer.scheduler().run([work(True), work(False), work(True)])
    assert of_one == of_third == [-60] * 3 + [60] * 3
    assert of_other == [60] * 3 + [-60] * 3
    assert [len(batch) for batch in explain.fed] == ([1] * 9 if singly else [6, 3])  # two tasks share the first run
    assert sum(len(batch) for batch in score.fed) == (16 if pad else 9)


def asking(*counts, first=0, log=None):
    """A work that wants so many pictures, then so many more; picture i is i everywhere. Finds the sums of all."""

    def work():
        sums = []
        for count in counts:
            begin = first + len(sums)

            def fill(start, stop, out, begin=begin):
                assert out.shape == (stop - start, *SHAPE)
                out[:] = np.arange(begin + start, begin + stop).reshape(-1, 1, 1, 1)
                if log is not None:
                    log.append(out.base.shape[0])

            yield PassRequest(count, fill, lambda start, logits: sums.extend(logits[:, 0] / 60), Clock())
        return sums

    return work()


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("counts", [(), (1,), (4,), (5,), (8,), (11,), (3, 1, 6)])
def test_every_picture_is_passed_once_and_in_order(counts, pad):
    model = Model()
    (sums,) = Scorer(model, SHAPE, 4, pad).scheduler().run([asking(*counts)])
    assert sums == list(range(sum(counts)))
    chunks = [4 if pad else min(4, count - s) for count in counts for s in range(0, count, 4)]
    assert [len(fed) for fed in model.fed] == chunks


def test_the_buffer_is_no_larger_than_the_chunk_or_the_work():
    seen = []
    list(Scorer(Model(), SHAPE, 1000, False).scheduler().run([asking(3, log=seen)]))
    list(Scorer(Model(), SHAPE, 4, False).scheduler().run([asking(11, log=seen)]))
    assert seen == [3, 4, 4, 4]


def test_one_buffer_serves_all_chunks_of_a_call():
    """A fresh one for every chunk would cost a page fault per 4096 bytes."""
    owners = []

    def work():
        yield PassRequest(10, lambda start, stop, out: owners.append(out.base), lambda start, logits: None, Clock())

    scorer = Scorer(Model(), SHAPE, 4, False)
    list(scorer.scheduler().run([work()]))
    list(scorer.scheduler().run([work()]))
    assert [owner is owners[0] for owner in owners] == [True, True, True, False, False, False]


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 50])
def test_pictures_share_chunks(chunk):
    """Only the last run may be short, as long as there is other work to fill a chunk with."""
    model, works = Model(), [(5, 1, 1), (), (2, 1, 1), (9, 1, 1), (3, 1, 1), (4,), (6, 1, 1)]
    found = list(
        Scorer(model, SHAPE, chunk, False).scheduler().run(asking(*w, first=100 * i) for i, w in enumerate(works))
    )
    assert found == [[100 * i + n for n in range(sum(w))] for i, w in enumerate(works)]
    sizes = [len(fed) for fed in model.fed]
    assert sum(sizes) == sum(map(sum, works))
    if chunk <= 4:
        assert all(size == chunk for size in sizes[:-3])


def test_few_pictures_are_under_way_at_a_time():
    begun = [0]

    def works():
        for _ in range(50):
            begun[0] += 1
            yield asking(1, 1)

    finished = 0
    for _ in Scorer(Model(), SHAPE, 100, False).scheduler().run(works()):
        finished += 1
        assert begun[0] <= finished + IN_FLIGHT
    assert finished == 50


def test_a_work_that_fails_closes_the_others():
    closed = []

    def careful():
        try:
            yield from asking(1, 1)
        finally:
            closed.append(True)

    def failing():
        yield from asking(1)
        raise FusionCamError("no")

    with pytest.raises(FusionCamError, match="no"):
        list(Scorer(Model(), SHAPE, 4, False).scheduler().run([careful(), failing()]))
    assert closed == [True]


def test_nan_logits_are_those_of_one_work():
    """Works that share the run do not see them."""

    class Spoils(Model):
        def run(self, outputs, feeds):
            (logits,) = super().run(outputs, feeds)
            logits[feeds["image"][:, 0, 0, 0] >= 100] = np.nan
            return [logits]

    def surviving(first):
        try:
            return (yield from asking(3, first=first))
        except FusionCamError as error:
            return str(error)

    model = Spoils()
    found = list(Scorer(model, SHAPE, 9, False).scheduler().run(map(surviving, (0, 100, 10))))
    assert [len(fed) for fed in model.fed] == [9]
    assert (found[0], found[2]) == ([0, 1, 2], [10, 11, 12])
    assert found[1].startswith("the model gives NaN or infinite logits for this picture")


def test_a_work_that_cannot_be_filled_leaves_its_place_to_the_next():
    def failing():
        def fill(start, stop, out):
            raise FusionCamError("cannot be made")

        try:
            yield PassRequest(2, fill, lambda *_: None, Clock())
        except FusionCamError as error:
            return str(error)

    model = Model()
    found = list(Scorer(model, SHAPE, 8, False).scheduler().run([asking(2), failing(), asking(3, first=5)]))
    assert found == [[0, 1], "cannot be made", [5, 6, 7]]
    assert list(Scorer(Model(), SHAPE, 8, False).scheduler().run([failing()])) == ["cannot be made"]


def test_two_calls_at_once_do_not_share_anything():
    scorer = Scorer(Model(), SHAPE, 2, False)
    first, second = (scorer.scheduler().run([asking(4, first=n), asking(3, first=n)]) for n in (0, 10))
    assert list(zip(first, second, strict=True)) == [
        ([0, 1, 2, 3], [10, 11, 12, 13]),
        ([0, 1, 2], [10, 11, 12]),
    ]


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("no such kernel", r"^onnxruntime cannot run the model: no such kernel; export the model again$"),
        ("out of memory", r"^out of memory; use a smaller chunk"),
    ],
)
def test_a_failing_session_is_one_clear_error(why, message):
    class Broken:
        def run(self, outputs, feeds):
            raise RuntimeError(f"\n  {why}\nand a long trace")

    with pytest.raises(FusionCamError, match=message):
        list(Scorer(Broken(), SHAPE, 2, False).scheduler().run([asking(1)]))


def test_probabilities_of_a_softmax_and_a_sigmoid():
    logits = np.array([[1.0, 2.0, -1.0]], np.float32)
    powers = np.exp([1.0, 2.0, -1.0])
    for ending in ("logits", "softmax"):
        np.testing.assert_allclose(probabilities(logits, ending)[0], powers / powers.sum())
    np.testing.assert_allclose(probabilities(logits, "sigmoid")[0], powers / (1 + powers))


def test_values_of_a_regression_stay_as_they_are():
    values = np.array([[-37.5, 37.5, 1e6]], np.float32)
    found = probabilities(values, "value")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
def test_probabilities_of_large_logits(ending):
    found = probabilities(np.array([-2000, 2000], np.float32), ending)
    np.testing.assert_array_equal(found, [0, 1])


def test_refuse_nan():
    refuse_nan(np.ones(3, np.float32), "logits")
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(FusionCamError, match="NaN or infinite gradients"):
            refuse_nan(np.array([1, value], np.float32), "gradients")
