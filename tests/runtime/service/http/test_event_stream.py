"""Events: maps while an explanation runs, over a real batcher, and over one that does as it is told."""

import asyncio
import base64
import http.client
import json
from dataclasses import replace

import numpy as np
import pytest

from fusioncam.errors import BusyError, NotFiniteError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

STREAM = "/v2/models/m/infer_stream"
NUMBERS = {"FP32": "<f4", "INT64": "<i8"}


def events(text):
    """The events of a body: their kinds and what their JSON says, with tensors of numbers by name."""
    found = []
    for block in text.split("\n\n")[:-1]:
        kind, data = block.split("\n")
        said = json.loads(data.removeprefix("data: "))
        tensors = {o["name"]: tensor(o) for o in said.get("outputs", [])}
        found.append((kind.removeprefix("event: "), said, tensors))
    return found


def tensor(output):
    if output["datatype"] == "BYTES":
        return output["data"]
    return np.frombuffer(base64.b64decode(output["data"]), NUMBERS[output["datatype"]]).reshape(output["shape"])


@pytest.fixture
def showing(told, explainer):
    """Has the batcher show the gradient's map before it explains."""

    async def act(job):
        seen = []
        explainer.explain(job.image, progress_maps=seen.append)
        for preliminary in (seen[0], seen[0], replace(seen[1], flags=("preliminary",))):
            job.progress_maps([preliminary])
            await asyncio.sleep(0.05)

    told.act = act
    return told


class TestEvents:
    def test_maps_come_before_the_answer_and_only_what_changed(self, client, showing, request_of, explainer, x):
        sent = request_of(parameters={"method": "fusion_cam,grad_cam"})
        answer = client.post(STREAM, json=sent)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in answer.headers
        *shown, (kind, said, last) = events(answer.text)
        assert [k for k, *_ in shown] == ["maps"] * len(shown)
        assert len(shown) >= 2
        assert shown[0][1]["parameters"]["flags"].split(",")[-1] == "preliminary"
        assert {*shown[0][2]} == {"grad_cam", "logits", "probabilities", "class_index"}
        assert all({*tensors} <= {"score_cam"} for _, _, tensors in shown[1:])
        wanted = explainer.explain(x)
        np.testing.assert_array_equal(shown[0][2]["grad_cam"][0], wanted.maps["grad_cam"])
        assert kind == "answer"
        assert {*last} == {"fusion_cam"}
        np.testing.assert_array_equal(last["fusion_cam"][0], wanted.maps["fusion_cam"])
        assert said["parameters"]["passes"] == wanted.passes.run
        assert (said["model_name"], said["parameters"]["error"]) == ("m", 0)

    def test_an_answer_that_comes_at_once_is_the_only_event(self, client, told, request_of):
        sent = request_of(outputs=[{"name": "probabilities", "parameters": {"classification": 1}}])
        ((kind, _, tensors),) = events(client.post(STREAM, json=sent).text)
        assert kind == "answer"
        assert {*tensors} == {"probabilities", "grad_cam"}
        assert len(tensors["probabilities"]) == 1

    def test_errors_before_the_first_event_have_a_status(self, client, told, request_of, x):
        async def busy(job):
            raise BusyError("later", 3)

        told.act = busy
        answer = client.post(STREAM, json=request_of())
        assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, {"error": "later"}, "3")
        two = {"name": "image", "shape": [2, 3, 24, 32], "datatype": "FP32", "data": np.zeros(2 * 2304).tolist()}
        answer = client.post(STREAM, json=request_of(inputs=[two]))
        assert answer.status_code == 400
        assert "one picture, not 2" in answer.json()["error"]

    def test_later_errors_are_events(self, client, showing, request_of):
        show = showing.act

        async def fail(job):
            await show(job)
            raise NotFiniteError("no number")

        showing.act = fail
        answer = client.post(STREAM, json=request_of())
        assert answer.status_code == 200
        kind, said, _ = events(answer.text)[-1]
        assert (kind, said) == ("error", {"error": "no number", "status": 400})

    def test_requests_are_counted_until_the_last_event(self, asking, showing, request_of):
        client, show, inside = asking(concurrency=1), showing.act, []

        async def act(job):
            await show(job)
            if not inside:
                inside.append(await asyncio.to_thread(client.post, STREAM, json=request_of()))

        showing.act = act
        assert events(client.post(STREAM, json=request_of()).text)[-1][0] == "answer"
        assert inside[0].status_code == 503
        assert client.post(STREAM, json=request_of()).status_code == 200

    def test_a_token_is_asked_for(self, asking, request_of):
        assert asking(token="open-sesame").post(STREAM, json=request_of()).status_code == 401

    def test_it_is_described(self, client):
        described = client.get("/openapi.json").json()["paths"]["/v2/models/{model}/infer_stream"]["post"]
        assert "text/event-stream" in described["responses"]["200"]["content"]
        assert "503" in described["responses"]


class TestOverABatcher:
    def test_maps_come_while_it_runs(self, serving, explainer, request_of, explained):
        with serving(
            make_app(Service.of({"m": Batcher("m", lambda: explainer.pipeline)}, Settings(page=False)))
        ) as address:
            self.check(address, request_of, explained)

    def check(self, address, request_of, explained):
        connection = http.client.HTTPConnection(address, timeout=60)
        sent = request_of(parameters={"method": "fusion_cam,score_cam", "budget": "auto", "class_index": 2})
        connection.request("POST", STREAM, json.dumps(sent), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Cache-Control")) == (200, "no-store")
        found = events(answer.read().decode())
        connection.close()
        assert found[-1][0] == "answer"
        assert found[-1][1]["parameters"]["channels"] == 12
        everything = {name: values for *_, tensors in found for name, values in tensors.items()}
        np.testing.assert_allclose(everything["score_cam"][0], explained.maps["score_cam"], atol=1e-5)

    def test_who_leaves_is_not_worked_for(self, asking, showing, request_of):
        show, stopped, app, sent = showing.act, [], asking().app, []

        async def act(job):
            try:
                await show(job)
                await asyncio.sleep(60)
            finally:
                stopped.append(True)

        showing.act = act
        first = {"type": "http.request", "body": json.dumps(request_of()).encode()}

        async def receive():
            if first:
                return {key: first.pop(key) for key in [*first]}
            while len(sent) < 2:  # the head, and an event
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": STREAM, "query_string": b"", "headers": [], "client": None}
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
        assert stopped == [True]
        assert sent[0]["status"] == 200
        assert sent[1]["body"].startswith(b"event: maps\n")
        assert all(message.get("more_body", True) for message in sent)  # it has no end
