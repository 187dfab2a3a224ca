"""Maps only where they matter: conditions on the prediction, in their small language and over a real batcher."""

from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fusioncam.errors import UsageError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.explain_if import parse_condition
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

INFER = "/v2/models/m/infer"
PETS = SimpleNamespace(
    labels=["tabby, tabby cat", "jack-o'-lantern", "cup or bowl", "zebra", "dog"], classes=5, ending="softmax"
)


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("probability < .6", {(0, 0.5), (3, 0.5)}),
        ("probability<=0.5", {(0, 0.5), (3, 0.5)}),
        ("Probability > .6", {(0, 0.9), (3, 0.9)}),
        ("probability >= 0.9", {(0, 0.9), (3, 0.9)}),
        ("class in zebra,2", {(3, 0.5), (3, 0.9)}),
        ("class not in zebra", {(0, 0.5), (0, 0.9)}),
        ("class in Tabby Cat , jack-o'-lantern", {(0, 0.5), (0, 0.9)}),
        ('class in "cup or bowl", 0', {(0, 0.5), (0, 0.9)}),
        ("class in 'zebra'", {(3, 0.5), (3, 0.9)}),
        ("probability < .6 or class in zebra", {(0, 0.5), (3, 0.5), (3, 0.9)}),
        ("probability < .6 AND class in zebra", {(3, 0.5)}),
        ("probability > .6 and class in zebra or probability < .6 and class in tabby", {(0, 0.5), (3, 0.9)}),
        ("always", {(0, 0.5), (0, 0.9), (3, 0.5), (3, 0.9)}),
        ("never", set()),
    ],
)
def test_a_condition_holds_of_some_predictions(text, explained):
    condition = parse_condition(text).bound(PETS)
    assert {(c, p) for c in (0, 3) for p in (0.5, 0.9) if condition.holds(c, p)} == explained


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("probability < .6", "probability"),
        ("class in dog", "class"),
        ("probability < .6 and class in zebra", "probability"),
        ("probability < .6 or class in dog", "class and probability"),
        ("never", "never"),
    ],
)
def test_what_speaks_against_an_explanation_is_one_of_few_words(text, reason):
    assert parse_condition(text).bound(PETS).failing(3, 0.9) == reason


BAD = (
    "", "or", "p < .6", "probability", "probability < x", "probability < 1e-3", "probability = .6",
    "probability < .6 and", "(probability < .6)", "probability < .6, .7", "class", "class in", "class in zebra,,dog",
    "class in zebra,", 'class in "zebra', 'class in ""', "class = zebra", "always or never",
    "__import__('os')", "class in a" + "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_no_condition(text):
    with pytest.raises(UsageError, match=r"^no condition .*; use clauses like probability < 0.6") as caught:
        parse_condition(text).bound(PETS)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class in zebre", "no class is called 'zebre'; did you mean 'zebra'?"),
        ("class in 5", "there is no class 5: the model has 5, 0 to 4"),
        ("class in -1", "there is no class -1"),
        ("probability < 60", "a probability lies between 0 and 1: 60 in explain_if does not"),
    ],
)
def test_a_condition_must_fit_the_model(text, words):
    with pytest.raises(UsageError, match=words):
        parse_condition(text).bound(PETS)


def test_a_regression_has_values():
    ages = SimpleNamespace(labels=None, classes=2, ending="value")
    assert parse_condition("probability > 60").bound(ages).holds(0, 61.0)


class Counted:
    """A session that counts its runs, and the pictures in them."""

    def __init__(self, session):
        self.session, self.pictures = session, 0

    def run(self, outputs, feeds):
        self.pictures += len(next(iter(feeds.values())))
        return self.session.run(outputs, feeds)


@pytest.fixture(scope="module")
def opened(tiny, relayed):
    return relayed(tiny.bundle)


@pytest.fixture
def service(opened, client, monkeypatch):
    """Opens a service over a real batcher; gives its client, and the counters of its explain and score graphs."""
    explainer, relays = opened
    counters = []
    for relay in (relays.explain, relays.score):
        counters.append(Counted(relay.session))
        monkeypatch.setattr(relay, "session", counters[-1])

    def open_service(**settings):
        metrics = Metrics()
        batcher = Batcher("m", lambda: explainer.pipeline, observer=metrics)
        return type(client)(make_app(Service.of({"m": batcher}, Settings(page=False, **settings), metrics))), *counters

    return open_service


def counts(client):
    """The pictures that were explained, and those that were not by reason."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {(s.name, s.labels.get("reason")): s.value for family in families for s in family.samples}
    kept = {"fusioncam_explanations_total": "explained", "fusioncam_not_explained_total": "not explained"}
    return {(kept[name], reason): value for (name, reason), value in found.items() if name in kept}


def test_a_picture_that_does_not_matter_costs_its_forward_pass_only(service, request_of):
    client, forward, masked = service(explain_if="probability > 0.99")
    for verify in (False, True):
        said = client.post(INFER, json=request_of(parameters={"verify": verify})).json()
        assert [o["name"] for o in said["outputs"]] == ["logits", "probabilities", "class_index", "explained"]
        assert said["outputs"][3]["data"] == [0]
        parameters = said["parameters"]
        probability = max(said["outputs"][1]["data"])
        assert parameters["probability"] == pytest.approx(probability, rel=1e-6)
        assert parameters["not_explained"].startswith(
            f"explain_if is probability > 0.99, but the probability is {probability:.4g} and the class class "
        )
        assert parameters["flags"].split(",")[0] == "not_explained"
        assert parameters["passes"] == 0
        assert "verdict" not in parameters
    assert (forward.pictures, masked.pictures) == (2, 0)
    assert counts(client) == {("not explained", "probability"): 2}
    assert client.get("/v2/models/m").json()["parameters"]["explain_if"] == "probability > 0.99"


def test_a_request_has_a_condition_of_its_own(service, request_of):
    client, forward, masked = service(explain_if="never")
    found = []
    for explain_if in ("always", "probability > 0", "class in 3", None):
        parameters = {} if explain_if is None else {"explain_if": explain_if}
        said = client.post(INFER, json=request_of(parameters={"class_index": 1, **parameters})).json()
        found.append((said["outputs"][0]["name"], "not_explained" in said["parameters"], masked.pictures > 0))
        masked.pictures = 0
    assert found == [("fusion_cam", False, True)] * 2 + [("logits", True, False)] * 2
    assert forward.pictures == 4
    assert counts(client) == {("explained", None): 2, ("not explained", "class"): 1, ("not explained", "never"): 1}
    # Whoever asks for no map is told nothing of a condition, unless by the output for it.
    for outputs, told in ((["logits"], False), (["logits", "explained"], True)):
        said = client.post(INFER, json=request_of(outputs=[{"name": n} for n in outputs], parameters={})).json()
        assert [o["name"] for o in said["outputs"]] == outputs
        assert ("not_explained" in said["parameters"]) == told
    assert said["outputs"][1]["data"] == [0]


def test_of_several_pictures_some_are_explained(service, pictures, behind, explainer):
    client, *_ = service(explain_if="class in 4")
    data = np.stack(pictures[:2])
    sent = behind(
        ("image", "FP32", data.shape, data.tobytes()),
        ("class_index", "INT64", (2,), np.array([1, 4]).tobytes()),
        parameters={"method": "grad_cam", "verify": True},
    )
    said = {o["name"]: o for o in client.post(INFER, **sent).json()["outputs"]}
    assert said["explained"]["data"] == [0, 1]
    assert said["verdict"]["data"][0] == "null"
    maps = np.array(said["grad_cam"]["data"], np.float32).reshape(said["grad_cam"]["shape"])
    assert not maps[0].any()
    np.testing.assert_array_equal(maps[1], explainer.explain(pictures[1], 4).maps["grad_cam"])


def test_a_bad_condition_is_told_before_anything_is_run(service, request_of):
    client, forward, _ = service()
    for explain_if, words in (
        ("class in zebra", "has no labels to find 'zebra' in"),
        ("p", "no condition"),
        (1, "text"),
        (None, "text"),
    ):
        answer = client.post(INFER, json=request_of(parameters={"explain_if": explain_if}))
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    assert forward.pictures == 0


def test_events_say_it_too(service, request_of):
    client, _, masked = service(explain_if="never")
    told = client.post(f"{INFER}_stream", json=request_of(parameters={})).text
    assert told.startswith("event: answer")
    assert told.count("event: ") == 1
    assert '"not_explained"' in told
    assert masked.pictures == 0
