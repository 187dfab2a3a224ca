"""The head, place by place, against what is left of the activations in onnxruntime's hands."""

import numpy as np
import pytest

from fusioncam.errors import FusionCamError
from fusioncam.manifest import HEAD_GRAPH
from fusioncam.runtime.engine.host import head as heads
from fusioncam.runtime.engine.host.head import Head
from fusioncam.runtime.sessions.open import open_session


class Watched:
    """A session that keeps what it is fed, and may give something else."""

    def __init__(self, session, spoil=None):
        self.session, self._spoil, self.fed = session, spoil, []
        self.get_inputs = session.get_inputs

    def run(self, outputs, feeds):
        self.fed.append(feeds["masks"])
        (logits,) = self.session.run(outputs, feeds)
        if self._spoil is not None:
            logits[0, 0] = self._spoil
        return [logits]


@pytest.fixture
def session(tiny):
    return open_session(tiny.bundle / HEAD_GRAPH, ["cpu"])


def test_every_place_alone(session, tiny, pictures):
    x, w = pictures[0], {k: v.astype(np.float64) for k, v in tiny.network.weights.items()}
    scores = Head(session).answers(x)
    assert scores.shape == (48, 5)
    assert scores.dtype == np.float32
    activations, _ = tiny.network.evidence(x, 0)
    for place, found in enumerate(scores):
        kept = activations[:, place // 8, place % 8] / 48  # all that the mean over the layer sees
        wanted = np.maximum(kept @ w["w3"].T + w["b3"], 0) @ w["w4"].T + w["b4"]
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert scores.std(axis=0).min() > 0


@pytest.mark.parametrize(
    ("most", "chunk", "runs"), [(64, 48, 1), (48, 48, 1), (47, 24, 2), (13, 12, 4), (7, 7, 7), (1, 1, 48)]
)
def test_places_are_dealt_out_evenly(most, chunk, runs, session, pictures, monkeypatch):
    whole = Head(session).answers(pictures[0])
    monkeypatch.setattr(heads, "MASKS", most)
    watched = Watched(session)
    head = Head(watched)
    found = head.answers(pictures[0])
    assert (head.grid, head.chunk) == ((6, 8), chunk)
    assert [m.shape for m in watched.fed] == [(chunk, 1, 6, 8)] * runs
    masks = np.concatenate(watched.fed)
    assert np.array_equal(masks[:48].reshape(48, 48), np.eye(48))
    assert not masks[48:].any()
    assert np.allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("spoil", [np.nan, np.inf])
def test_nan_is_refused(spoil, session, pictures):
    with pytest.raises(FusionCamError, match="NaN or infinite logits"):
        Head(Watched(session, spoil)).answers(pictures[0])


def test_a_session_that_fails(session):
    with pytest.raises(FusionCamError, match="onnxruntime cannot run the model"):
        Head(session).answers(np.zeros((3, 5, 5), np.float32))
