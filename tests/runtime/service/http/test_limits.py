"""What the service does not take, what it says when it cannot, and what it stops."""

import asyncio
import gzip
import json
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fusioncam import Class
from fusioncam.errors import (
    BusyError,
    DeadlineError,
    DeadlineTooShortError,
    DeviceError,
    FusionCamError,
    ImageError,
    NotFiniteError,
    UsageError,
)

INFER = "/v2/models/m/infer"
LENGTH = "Inference-Header-Content-Length"


class TestLimits:
    def test_bodies_before_and_after_they_are_unpacked(self, asking, refused):
        client = asking(max_body=10_000)
        assert "10,000 bytes" in refused(413, client, content=bytes(10_001))

        async def pieces():
            for _ in range(11):
                yield bytes(1000)

        assert "10,000 bytes" in refused(413, client, content=pieces())
        bomb = gzip.compress(bytes(1_000_000))
        assert len(bomb) < 10_000
        error = refused(413, client, headers={"Content-Encoding": "gzip"}, content=bomb)
        assert "unpacks to more than 10,000" in error

    def test_bodies_of_all_requests_together(self, asking, refused, request_of):
        client, answers = asking(max_body=100_000, max_held=100_000), []

        async def pieces():
            yield bytes(60_000)
            answers.append(await asyncio.to_thread(client.post, INFER, content=bytes(60_000)))
            yield b""

        assert "not of a supported format" in refused(400, client, content=pieces())
        assert answers[0].status_code == 503
        assert "fill the memory" in answers[0].json()["error"]
        assert client.post(INFER, json=request_of()).status_code == 200

    def test_pixels_are_counted_before_they_are_decoded(self, asking, refused, monkeypatch, photo):
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        error = refused(400, asking(max_pixels=1000), content=photo, headers={LENGTH: "0"})
        assert "1,200 pixels, the limit is 1,000" in error

    def test_formats_that_do_not_say_their_size_are_not_decoded(self, refused, monkeypatch):
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        grey = np.zeros((4, 4), np.uint8)
        for ending in (".ppm", ".ras"):
            data = cv2.imencode(ending, grey if ending == ".ras" else np.dstack([grey] * 3))[1].tobytes()
            assert "not of a supported format" in refused(content=data, headers={LENGTH: "0"})

    def test_time_is_looked_at_before_each_picture(self, refused, told, monkeypatch, photo, element, behind):
        module, now = "fusioncam.runtime.service.protocol.pictures", [time.monotonic()]

        def decode(*_, **__):
            now[0] += 1000
            return np.zeros((9, 9, 3), np.uint8)

        monkeypatch.setattr("fusioncam.runtime.service.protocol.request_parser.picture_of", decode)
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter))
        sent = behind(("image_bytes", "BYTES", (3,), element(photo) * 3))
        assert "1 of 3 pictures were prepared within" in refused(504, **sent)
        assert told.jobs == []
        assert now[0] - time.monotonic() < 1500

    def test_types_and_encodings(self, refused, request_of):
        forms = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
        of_a_browser = {"Origin": "http://service"}, {"Sec-Fetch-Site": "same-origin"}, {"Referer": "http://service/"}
        for kind, others in (("text/plain", {}), *((form, browser) for form in forms for browser in of_a_browser)):
            headers = {"Content-Type": kind, **others}
            assert "Content-Type: application/json" in refused(415, content=b"{}", headers=headers)
        assert "gzip or deflate" in refused(415, content=b"{}", headers={"Content-Encoding": "br"})
        assert "is not gzip" in refused(400, content=b"{}", headers={"Content-Encoding": "gzip"})

    def test_requests_at_a_time(self, asking, told, request_of):
        client, waiting = asking(concurrency=1), []

        async def act(_):
            waiting.append(None)
            if len(waiting) == 1:
                answers.append(await asyncio.to_thread(client.post, INFER, json=request_of()))

        answers, told.act = [], act
        assert client.post(INFER, json=request_of()).status_code == 200
        assert answers[0].status_code == 503
        assert answers[0].headers["retry-after"] == "1"
        assert client.post(INFER, json=request_of()).status_code == 200

    def test_numbers_of_an_answer_in_json(self, asking, refused, request_of, monkeypatch):
        monkeypatch.setattr("fusioncam.runtime.service.http.answer_forms.MOST_NUMBERS", 24 * 32)
        client, two = asking(), {"method": "grad_cam,layer_cam"}
        assert "1,536 numbers in JSON, the limit is 768: set the parameter binary_data_output" in refused(
            400, client, json=request_of(parameters=two)
        )
        assert client.post(INFER, json=request_of()).status_code == 200
        binary = request_of(parameters={**two, "binary_data_output": True})
        assert client.post(INFER, json=binary).status_code == 200

    def test_an_answer_that_is_not_read(self, asking, request_of, monkeypatch):
        """It is sent piece by piece, counts as a request until its time is over, and then stays unfinished."""
        monkeypatch.setattr("fusioncam.runtime.service.http.timed_response.PIECE", 1000)
        client, sent, answers = asking(concurrency=1, timeout=0.5), [], []
        parts = [{"type": "http.request", "body": json.dumps(request_of()).encode()}]

        async def receive():
            return parts.pop() if parts else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)
            if len(sent) == 3:
                answers.append(await asyncio.to_thread(client.post, INFER, json=request_of()))
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "POST", "path": INFER, "query_string": b"", "headers": [], "client": None}
        asyncio.run(asyncio.wait_for(client.app(scope, receive, send), 20))
        assert answers[0].status_code == 503
        assert [len(m["body"]) for m in sent[1:]] == [1000, 1000]
        assert all(m["more_body"] for m in sent[1:])
        assert client.post(INFER, json=request_of()).status_code == 200


class TestStatuses:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (BusyError("as much as it takes", 7), 503),
            (DeadlineError("too late"), 504),
            (DeadlineTooShortError("it takes at least 88 ms"), 503),
            (ImageError("no picture"), 400),
            (UsageError("no such thing"), 400),
            (NotFiniteError("the model gives NaN"), 400),
            (FusionCamError("onnxruntime cannot run the model: no memory"), 500),
            (DeviceError("no memory on the GPU"), 500),
        ],
    )
    def test_what_the_batcher_raises(self, refused, told, request_of, error, status):
        async def act(_):
            raise error

        told.act = act
        assert refused(status, json=request_of()) == str(error)

    @pytest.mark.parametrize(
        ("error", "seconds"), [(BusyError("as much as it takes", 7), "7"), (DeadlineTooShortError("88 ms"), "1")]
    )
    def test_what_may_pass_says_when_to_ask_again(self, client, told, request_of, error, seconds):
        async def act(_):
            raise error

        told.act = act
        assert client.post(INFER, json=request_of()).headers["retry-after"] == seconds

    def test_a_photo_the_model_cannot_digest_is_not_the_clients_fault(self, refused, told, photo):
        async def act(_):
            raise NotFiniteError("the model gives NaN")

        told.act = act
        assert refused(500, content=photo, headers={LENGTH: "0"}) == "the model gives NaN"

    def test_what_nobody_foresaw_is_one_line_and_in_the_log(self, refused, told, request_of, logged):
        async def act(_):
            raise ZeroDivisionError("secret")

        told.act = act
        error = refused(500, json=request_of(), headers={"X-Request-Id": "r-1"})
        assert "request id r-1" in error
        assert "secret" not in error
        assert any("ZeroDivisionError: secret" in line.get("traceback", "") for line in logged)

    def test_a_batcher_that_is_late_is_stopped(self, asking, refused, told, request_of, monkeypatch):
        monkeypatch.setattr("fusioncam.runtime.service.request_runner.GRACE", 0.0)
        stopped = []

        async def act(_):
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(True)

        told.act = act
        assert "within 0.2 seconds" in refused(504, asking(timeout=0.2), json=request_of())
        assert stopped == [True]

    def test_one_of_several_fails_and_the_others_are_given_up(self, refused, told, pictures, behind):
        stopped = []

        async def act(job):
            if job.targets == [Class(1)]:
                raise BusyError("full", 1)
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(job.targets)

        told.act = act
        data = np.stack(pictures[:2])
        sent = behind(
            ("image", "FP32", data.shape, data.tobytes()), ("class_index", "INT64", (2,), np.array([0, 1]).tobytes())
        )
        assert refused(503, **sent) == "full"
        assert stopped == [[Class(0)]]

    def test_a_body_that_does_not_arrive(self, asking, refused):
        async def pieces():
            yield b"{"
            await asyncio.sleep(60)

        assert "did not arrive within 0.2 seconds" in refused(408, asking(timeout=0.2), content=pieces())

    def test_who_leaves_is_not_worked_for(self, asking, told, request_of):
        stopped, app = [], asking().app

        async def act(_):
            try:
                await asyncio.sleep(60)
            finally:
                stopped.append(True)

        told.act = act
        parts = [{"type": "http.request", "body": json.dumps(request_of()).encode()}, {"type": "http.disconnect"}]
        answered = []

        async def receive():
            return parts.pop(0)

        async def send(message):
            answered.append(message)

        scope = {"type": "http", "method": "POST", "path": INFER, "query_string": b"", "headers": [], "client": None}
        asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
        assert stopped == [True]
        assert answered[0]["status"] == 499

    def test_who_leaves_a_repository_is_no_bug(self, asking, caplog):
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/v2/repository/index", "query_string": b"", "headers": []}
        asyncio.run(asking().app({**scope, "client": None}, receive, send))
        assert not caplog.records


@pytest.mark.parametrize("where", ["decode", "explain"])
def test_lack_of_memory_is_not_the_pictures_fault(client, told, behind, photo, element, monkeypatch, where):
    async def fail(job):
        raise MemoryError("std::bad_alloc")

    def fail_to_decode(*_, **__):
        raise MemoryError

    told.act = fail if where == "explain" else None
    if where == "decode":
        monkeypatch.setattr("fusioncam.runtime.service.protocol.request_parser.picture_of", fail_to_decode)
    answer = client.post("/v2/models/m/infer", **behind(("image_bytes", "BYTES", [1], element(photo))))
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("out of memory")
    assert int(answer.headers["Retry-After"]) > 0


def test_lack_of_memory_anywhere_else(asking, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("fusioncam.runtime.service.repository.model_repository.ModelRepository.index", fail)
    answer = asking().post("/v2/repository/index")
    assert (answer.status_code, answer.json()["error"][:13]) == (503, "out of memory")
