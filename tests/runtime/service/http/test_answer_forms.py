"""Pictures and maps in place of JSON, as the header Accept asks: the same pixels as the command line writes."""

import base64
import io
import threading

import cv2
import numpy as np
import pytest

from fusioncam import Explainer, export_model
from fusioncam.errors import FusionCamError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http import answer_forms
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

INFER = "/v2/models/m/infer"
PNG, WEBP, NPZ = "image/png", "image/webp", "application/x-npz"


def decoded(answer):
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def real(explainer):
    """The application over a batcher that works."""
    return make_app(Service.of({"m": Batcher("m", lambda: explainer.pipeline)}, Settings(page=False)))


@pytest.fixture
def ask(client, real, photo):
    """Asks about the photo."""

    def ask(accept=None, **parameters):
        headers = {"Content-Type": "image/png"} | ({} if accept is None else {"Accept": accept})
        return type(client)(real).post(INFER, content=photo, headers=headers, params=parameters)

    return ask


@pytest.mark.parametrize(
    "drawn", [{}, {"style": "contour", "colormap": "jet", "opacity": "0.5"}, {"style": "top", "top": "30"}]
)
def test_pictures_are_those_of_the_command_line(ask, run, tiny, tmp_path, photo, load_maps, drawn):
    (tmp_path / "photo.png").write_bytes(photo)
    options = [f"--{name}={value}" for name, value in {**drawn, "budget": "auto", "class": "3"}.items()]
    status, *_ = run(
        "explain", tiny.bundle, tmp_path / "photo.png", "-o", tmp_path / "out", *options, "--separate", "--verify"
    )
    assert status == 0
    asked = {"class": "3", "verify": "true", **drawn}
    panel = ask(PNG, picture="panel", name="photo.png", **asked)
    assert panel.headers["content-type"] == PNG
    assert panel.content == (tmp_path / "out" / "photo.png").read_bytes()
    for method in ("fusion_cam", "grad_cam", "score_cam"):
        overlay = ask(PNG, method=method, **asked)
        assert overlay.content == (tmp_path / "out" / f"photo.{method}.png").read_bytes()
    smaller = ask(WEBP, **asked)
    assert smaller.headers["content-type"] == WEBP
    wanted = cv2.imread(str(tmp_path / "out" / "photo.fusion_cam.png"))
    assert np.corrcoef(decoded(smaller).ravel(), wanted.ravel())[0, 1] > 0.6  # of a photo of noise
    maps, stored = load_maps(io.BytesIO(ask(NPZ, **{"class": "3"}).content)), load_maps(tmp_path / "out" / "photo.npz")
    assert list(maps) == list(stored)
    for method, array in stored.items():
        np.testing.assert_array_equal(maps[method], array)


def test_letterboxed_photos_are_shown_without_their_padding(client, make_model, tmp_path, photo):
    export_model(make_model(tmp_path / "m.onnx"), tmp_path / "m.fcam", preprocessing="yolo")
    (tmp_path / "photo.png").write_bytes(photo)
    with Explainer(tmp_path / "m.fcam", methods=["grad_cam"]) as explainer:
        app = make_app(Service.of({"m": Batcher("m", lambda: explainer.pipeline)}, Settings(page=False)))
        drawn = type(client)(app).post(
            INFER, content=photo, headers={"Content-Type": "image/png", "Accept": PNG}, params={"methods": "grad_cam"}
        )
        assert drawn.status_code == 200, drawn.text
        expected = explainer.explain(tmp_path / "photo.png").overlay("grad_cam")
    np.testing.assert_array_equal(decoded(drawn)[..., ::-1], expected)


def test_the_prediction_travels_in_headers(ask):
    said = ask().json()["parameters"]
    headers = ask(PNG, verify="true").headers
    assert float(headers["Fusioncam-Probability"]) == said["probability"]
    assert int(headers["Fusioncam-Class-Index"]) == 4
    assert headers["Fusioncam-Verdict"] in ("supported", "weak", "unsupported")
    assert {"fusioncam-label", "fusioncam-flags", "fusioncam-passes", "fusioncam-seconds"} <= set(headers)
    assert not [name for name in headers if name.startswith("fusioncam-seconds-")]
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in headers


def test_labels_that_a_header_cannot_hold_are_percent_encoded():
    found = answer_forms._headers({"label": "Zürich, 50%\n"}, 4)
    assert found == {"Fusioncam-Class-Index": "4", "Fusioncam-Label": "Z%C3%BCrich, 50%25%0A"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/octet-stream", "application/octet-stream"),
        ("image/*", PNG),
        ("IMAGE/PNG", PNG),
        ("image/webp, image/png", PNG),
        ("image/webp, image/png;q=.9", WEBP),
        ("text/html, image/webp;q=0.5, */*;q=0.1", WEBP),
        ("image/png;q=0, image/*", WEBP),
        ("application/json;q=0.5, application/x-npz", NPZ),
    ],
)
def test_the_form_that_a_client_likes_best(ask, accept, kind):
    answer = ask(accept, methods="grad_cam")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind


def test_whoever_describes_a_picture_gets_one(ask):
    assert ask(picture="overlay", methods="grad_cam").headers["content-type"] == PNG
    assert ask("image/webp, */*;q=0.1", opacity="0.2", methods="grad_cam").headers["content-type"] == WEBP
    # The name alone describes none.
    assert ask(name="a.png", methods="grad_cam").headers["content-type"] == "application/json"
    answer = ask("application/json", picture="panel")
    assert answer.status_code == 406
    assert answer.json()["error"] == "Accept is 'application/json'; the answer comes as image/png, image/webp"


@pytest.mark.parametrize(("accept", "status"), [("text/html", 406), ("image/gif, video/*", 406), ("nonsense", 400)])
def test_other_forms_are_refused(refused, told, photo, accept, status):
    error = refused(status, content=photo, headers={"Content-Type": "image/png", "Accept": accept})
    assert repr(accept) in error
    assert not told.jobs


def test_one_picture_with_a_map(refused, request_of, photo):
    png = {"Accept": PNG}
    files = [("image", ("a.png", photo))] * 2
    assert "is about one picture, not 2" in refused(files=files, headers=png)
    assert "shows maps: ask for a method" in refused(
        json=request_of(outputs=[{"name": "logits"}], parameters={}), headers=png
    )


def test_a_preprocessed_picture_is_shown_as_the_model_sees_it(client, real, request_of, explainer, x):
    answer = type(client)(real).post(INFER, json=request_of(), headers={"Accept": PNG})
    assert decoded(answer).shape == (24, 32, 3)


def test_the_photo_is_kept_until_it_is_drawn_and_no_longer(asking, told, photo):
    client, png = asking(max_body=5000, max_held=5000), {"Content-Type": "image/png", "Accept": PNG}
    assert 2500 < len(photo) < 5000

    async def fail(_):
        raise FusionCamError("no run")

    for act, status in ((None, 200), (fail, 500)) * 2:  # the photos would not fit side by side
        told.act = act
        assert client.post(f"{INFER}?methods=grad_cam", content=photo, headers=png).status_code == status


def test_a_photo_in_json_is_drawn_on_too(client, photo):
    in_json = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(photo).decode()]}
    parameters = {"methods": "grad_cam", "style": "contour"}
    drawn = client.post(INFER, json={"inputs": [in_json], "parameters": parameters})
    assert drawn.content == client.post(INFER, content=photo, params=parameters).content
    assert drawn.headers["content-type"] == PNG


def test_time_goes_on_while_a_picture_is_drawn(asking, told, photo, monkeypatch):
    drawn = threading.Event()
    monkeypatch.setattr(answer_forms, "encode_png", lambda _: drawn.wait(20) and b"late")
    headers = {"Content-Type": "image/png", "Accept": PNG}
    answer = asking(timeout=0.5).post(f"{INFER}?methods=grad_cam", content=photo, headers=headers)
    drawn.set()
    assert answer.status_code == 504
    assert "was not done within 0.5 seconds" in answer.json()["error"]


def test_no_map_is_no_content(ask):
    for accept in (PNG, NPZ):
        answer = ask(accept, explain_if="never")
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Fusioncam-Not-Explained"].startswith("explain_if is never, but the probability is ")
        assert answer.headers["Fusioncam-Class-Index"] == "4"


def test_a_stream_has_no_picture(client, photo):
    answer = client.post(f"{INFER}_stream?picture=panel", content=photo, headers={"Content-Type": "image/png"})
    assert answer.status_code == 400
    assert "ask infer for one" in answer.json()["error"]
