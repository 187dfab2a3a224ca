"""Requests for explanations over a batcher that does as it is told: what is understood, and what is answered."""

import base64
import gzip
import json
import threading
import time
import zlib

import numpy as np
import pytest

from fusioncam import Class, Explainer
from fusioncam.runtime.budget import auto, deadline
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.service.protocol import request_parser as module

INFER = "/v2/models/m/infer"
LENGTH = "Inference-Header-Content-Length"


class TestUnderstood:
    def test_a_preprocessed_picture_in_json_is_what_is_explained(self, client, told, x, explainer, request_of):
        answer = client.post(INFER, json=request_of(id="mine"))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        said = answer.json()
        assert (said["model_name"], said["model_version"], said["id"]) == ("m", "1", "mine")
        assert [o["name"] for o in said["outputs"]] == ["grad_cam", "logits", "probabilities", "class_index"]
        np.testing.assert_array_equal(told.jobs[0].image, x)
        made = np.array(said["outputs"][0]["data"], np.float32).reshape(said["outputs"][0]["shape"])
        np.testing.assert_array_equal(made[0], explainer.explain(x).maps["grad_cam"])
        assert said["parameters"]["passes"] == 0
        assert said["parameters"]["channels"] == 12
        assert {"label", "probability", "flags", "seconds", "seconds_decode", "seconds_explain"} <= set(
            said["parameters"]
        )

    @pytest.mark.parametrize("binary", [True, False])
    def test_a_photo_is_decoded_and_prepared_before_it_waits(
        self, client, told, explainer, tmp_path, binary, behind, element, photo
    ):
        (tmp_path / "photo.png").write_bytes(photo)
        in_json = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(photo).decode()]}
        in_binary = behind(("image_bytes", "BYTES", (1,), element(photo)))
        sent = in_binary if binary else {"json": {"inputs": [in_json]}}
        assert client.post(INFER, **sent).status_code == 200
        expected = as_input(tmp_path / "photo.png", explainer.manifest.preprocessing)[1]
        np.testing.assert_array_equal(told.jobs[0].image, expected)
        assert told.jobs[0].methods == ("fusion_cam",)
        assert told.jobs[0].budget == auto()

    def test_a_verdict_is_given_where_it_is_asked_for(self, client, told, x, tiny, request_of):
        for asked in (
            {"parameters": {"method": "grad_cam", "verify": True}},
            {"parameters": {"method": "grad_cam"}, "outputs": [{"name": "logits"}, {"name": "verdict"}]},
        ):
            said = client.post(INFER, json=request_of(**asked)).json()
            (verdict,) = (o for o in said["outputs"] if o["name"] == "verdict")
            assert (verdict["datatype"], verdict["shape"]) == ("BYTES", [1, 1])
            (text,) = verdict["data"]
            wanted = Explainer(tiny.bundle, methods=["grad_cam"]).explain(x, verify=True).verdict
            assert json.loads(text)["reasons"] == list(wanted.reasons)
            assert said["parameters"]["verdict"] == wanted.name
            assert said["parameters"]["passes"] == 23
            assert told.jobs[-1].verify

    @pytest.mark.parametrize("verify", [False, None])
    def test_no_verdict_unless_asked(self, client, told, request_of, verify):
        parameters = {"method": "grad_cam"} | ({} if verify is None else {"verify": verify})
        said = client.post(INFER, json=request_of(parameters=parameters)).json()
        assert "verdict" not in [o["name"] for o in said["outputs"]]
        assert "verdict" not in said["parameters"]
        assert not told.jobs[-1].verify

    def test_a_body_that_is_a_photo_needs_no_json(self, client, told, photo):
        answer = client.post(INFER, content=photo, headers={LENGTH: "0"})
        assert answer.status_code == 200
        assert len(told.jobs) == 1

    def test_decoding_keeps_off_the_event_loop(self, client, monkeypatch, photo):
        seen, true = [], module.picture_of
        monkeypatch.setattr(
            module, "picture_of", lambda *a, **k: seen.append(threading.current_thread()) or true(*a, **k)
        )
        client.post(INFER, content=photo, headers={LENGTH: "0"})
        assert [t.name.startswith("fusioncam-decode") for t in seen] == [True]

    @pytest.mark.parametrize("as_tensors", [True, False])
    def test_class_method_and_budget_are_inputs_or_parameters(self, client, told, x, as_tensors, behind, element):
        image = ("image", "FP32", (3, 24, 32), x.tobytes())
        if as_tensors:
            sent = behind(
                image,
                ("class_index", "INT64", (1,), np.int64(3).tobytes()),
                ("method", "BYTES", (2,), element(b"layer_cam") + element(b"score_cam")),
                ("budget", "BYTES", (1,), element(b"0.25")),
            )
        else:
            sent = behind(image, parameters={"class_index": 3, "method": "layer_cam, score_cam", "budget": 0.25})
        answer = client.post(INFER, **sent)
        assert answer.status_code == 200, answer.text
        job = told.jobs[0]
        assert (job.targets, job.methods, job.budget) == ([Class(3)], ("layer_cam", "score_cam"), 0.25)

    def test_the_service_has_a_budget_for_requests_that_name_none(self, asking, told, request_of):
        client = asking(budget="80ms")
        for parameters in ({}, {"budget": "exact"}, {"method": "score_cam_probability"}):
            assert client.post(INFER, json=request_of(parameters=parameters)).status_code == 200
        # The last one cannot be guessed: a default must not refuse it.
        assert [job.budget for job in told.jobs] == [deadline(0.08), "exact", "exact"]
        assert client.get("/v2/models/m").json()["parameters"] == {"budget": "80ms"}
        assert client.get("/v2/models/m/config").json()["parameters"] == {"budget": {"string_value": "80ms"}}

    def test_outputs_come_as_they_are_asked_for(self, client, told, x, behind):
        outputs = [
            {"name": "logits"},
            {"name": "layer_cam", "parameters": {"binary_data": True}},
            {"name": "class_index", "parameters": {"binary_data": True}},
            {"name": "probabilities", "parameters": {"classification": 2}},
        ]
        answer = client.post(INFER, **behind(("image", "FP32", (1, 3, 24, 32), x.tobytes()), outputs=outputs))
        assert answer.headers["content-type"] == "application/octet-stream"
        length = int(answer.headers[LENGTH])
        said = json.loads(answer.content[:length])["outputs"]
        assert [o["name"] for o in said] == ["logits", "layer_cam", "class_index", "probabilities"]
        logits = np.array(said[0]["data"], np.float32)
        tail = answer.content[length:]
        assert len(tail) == 24 * 32 * 4 + 8
        assert np.frombuffer(tail[-8:], np.int64)[0] == logits.argmax()
        first = said[3]["data"][0].split(":")
        assert int(first[1]) == logits.argmax()
        assert (said[3]["datatype"], said[3]["shape"]) == ("BYTES", [1, 2])

    def test_only_figures_cost_no_masked_pass(self, client, told, x, behind):
        sent = behind(("image", "FP32", (1, 3, 24, 32), x.tobytes()), outputs=[{"name": "logits"}])
        assert client.post(INFER, **sent).json()["parameters"]["passes"] == 0

    def test_several_pictures_have_a_row_each(self, client, told, pictures, behind):
        data = np.stack(pictures[:2])
        sent = behind(
            ("image", "FP32", data.shape, data.tobytes()),
            ("class_index", "INT64", (2, 1), np.array([1, 4]).tobytes()),
            parameters={"method": "grad_cam"},
        )
        said = client.post(INFER, **sent).json()["outputs"]
        assert [o["shape"] for o in said] == [[2, 24, 32], [2, 5], [2, 5], [2]]
        assert said[3]["data"] == [1, 4]
        assert [job.targets for job in told.jobs] == [[Class(1)], [Class(4)]]

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_packed_both_ways(self, client, x, encoding, pack, request_of):
        content = pack(json.dumps(request_of()).encode())
        plain = client.post(INFER, json=request_of(), headers={"Accept-Encoding": "identity"})
        answer = client.post(
            INFER, content=content, headers={"Content-Encoding": encoding, "Accept-Encoding": encoding}
        )
        assert answer.headers["content-encoding"] == encoding
        assert answer.json()["outputs"] == plain.json()["outputs"]

    def test_a_request_may_give_itself_less_time(self, client, told, request_of):
        parameters = {"method": "grad_cam", "timeout": 5_000_000, "priority": 1, "sequence_id": 0}
        begun = time.monotonic()
        client.post(INFER, json=request_of(parameters=parameters))
        client.post(INFER, json=request_of())
        assert told.jobs[0].deadline - begun < 20 < told.jobs[1].deadline - begun
