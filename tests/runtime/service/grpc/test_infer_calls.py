"""Explanations over gRPC, by NVIDIA's own client, unchanged, and held against those over HTTP."""

import asyncio
import json
import queue
import threading
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from fusioncam import Explainer
from fusioncam.errors import BusyError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.service import Service

GRAD = {"method": "grad_cam"}
NAMES = ("fusion_cam", "grad_cam", "logits", "probabilities", "class_index", "verdict")
INFER = "/inference.GRPCInferenceService/ModelInfer"
SOON = 20


def arrays(result, names):
    return [result.as_numpy(name) for name in names]


def failure(call):
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


class TestAnswers:
    def test_every_way_to_send_gives_the_bits_of_http(self, triton_client, client, image, as_input, behind, x):
        parameters = {"method": "fusion_cam,grad_cam", "budget": "exact", "verify": True, "class_index": 2}
        outputs = [triton.InferRequestedOutput(name) for name in NAMES]
        found = [
            triton_client.infer("m", [image], outputs=outputs, parameters=parameters, compression_algorithm=packed)
            for packed in (None, "gzip", "deflate")
        ]
        inputs = [
            image,
            as_input("class_index", np.array([2]), "INT64"),
            as_input("method", np.array([b"fusion_cam", b"grad_cam"], object), "BYTES"),
            as_input("budget", np.array([b"exact"], object), "BYTES"),
        ]
        found.append(triton_client.infer("m", inputs, outputs=outputs, model_version="1"))
        sent = behind(
            ("image", "FP32", (1, *x.shape), x.tobytes()),
            outputs=[{"name": name} for name in NAMES],
            parameters={**parameters, "binary_data_output": True},
        )
        answer = client.post("/v2/models/m/infer", **sent)
        length = int(answer.headers["Inference-Header-Content-Length"])
        head = json.loads(answer.content[:length])
        sizes = [o["parameters"]["binary_data_size"] for o in head["outputs"]]
        parts = np.split(np.frombuffer(answer.content[length:], np.uint8), np.cumsum(sizes)[:-1])
        for result in found:
            message = result.get_response()
            assert [o.name for o in message.outputs] == [o["name"] for o in head["outputs"]] == list(NAMES)
            assert [bytes(part) for part in parts] == list(message.raw_output_contents)
            assert [list(o.shape) for o in message.outputs] == [o["shape"] for o in head["outputs"]]
            assert (message.model_name, message.model_version) == ("m", "1")
            said = {n: getattr(p, p.WhichOneof("parameter_choice")) for n, p in message.parameters.items()}
            timeless = {n for n in head["parameters"] if not n.startswith("seconds")}
            assert {n: said[n] for n in timeless} == {n: head["parameters"][n] for n in timeless}

    def test_typed_contents_and_photos(self, channel, triton_client, image, x, as_input, photo):
        """tritonclient sends raw contents only; other clients send typed ones."""
        request = pb.ModelInferRequest(model_name="m", id="typed")
        request.parameters["method"].string_param = "grad_cam"
        sent = request.inputs.add(name="image", datatype="FP32", shape=[1, *x.shape])
        sent.contents.fp32_contents.extend(x.ravel().tolist())
        request.inputs.add(name="class_index", datatype="INT64", shape=[1]).contents.int64_contents.append(2)
        answer = pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(request.SerializeToString()))
        assert answer.id == "typed"
        wanted = triton_client.infer("m", [image], parameters={**GRAD, "class_index": 2})
        assert list(answer.raw_output_contents) == list(wanted.get_response().raw_output_contents)
        request = pb.ModelInferRequest(model_name="m")
        request.inputs.add(name="image_bytes", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([photo] * 2)
        request.outputs.add(name="logits")
        answer = pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(request.SerializeToString()))
        photos = as_input("image_bytes", np.array([photo, photo], object), "BYTES")
        wanted = triton_client.infer("m", [photos], outputs=[triton.InferRequestedOutput("logits")])
        assert list(answer.raw_output_contents) == list(wanted.get_response().raw_output_contents)

    def test_many_at_a_time_and_classifications(self, triton_client, image):
        answers = queue.Queue()
        for n in range(6):
            triton_client.async_infer(
                "m", [image], lambda result, error: answers.put((result, error)), request_id=str(n), parameters=GRAD
            )
        found = [answers.get(timeout=SOON) for _ in range(6)]
        assert {r.get_response().id for r, e in found if e is None} == set("012345")
        best = triton_client.infer("m", [image], outputs=[triton.InferRequestedOutput("logits", class_count=2)])
        first, second = (float(text.decode().split(":")[0]) for text in best.as_numpy("logits")[0])
        assert first >= second

    def test_a_client_may_leave_out_maps_by_a_condition(self, triton_client, image):
        message = triton_client.infer("m", [image], parameters={**GRAD, "explain_if": "never"}).get_response()
        assert "grad_cam" not in [o.name for o in message.outputs]
        assert message.parameters["not_explained"].string_param.startswith("explain_if is never, but")


BAD = {
    "model": ({"model_name": "n"}, "NOT_FOUND", "there is no model 'n'; there are m"),
    "version": ({"model_version": "2"}, "NOT_FOUND", "model 'm' has version 1, not '2'"),
    "method": ({"parameters": {"method": "none"}}, "INVALID_ARGUMENT", "there is no output or method 'none'"),
    "parameter": ({"parameters": {"colour": True}}, "INVALID_ARGUMENT", "there is no parameter 'colour'"),
    "id": ({"request_id": "x" * 300}, "INVALID_ARGUMENT", "id: String should have at most 256 characters"),
    "time": ({"timeout": 1}, "DEADLINE_EXCEEDED", "0 of 1 pictures were prepared within 1e-06 seconds"),
}


class TestErrors:
    @pytest.mark.parametrize("case", BAD)
    def test_bad_requests(self, triton_client, image, case):
        changed, code, message = BAD[case]
        status, line = failure(lambda: triton_client.infer(**{"model_name": "m", "inputs": [image], **changed}))
        assert status == f"StatusCode.{code}"
        assert message in line

    def test_bad_messages(self, channel, x):
        def call(change):
            request = pb.ModelInferRequest(model_name="m")
            sent = request.inputs.add(name="image", datatype="FP32", shape=[1, *x.shape])
            change(request, sent)
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(INFER)(request.SerializeToString())
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            return caught.value.details()

        raw = x.tobytes()
        assert "has 0 fp32_contents, not 2304" in call(lambda *_: None)
        assert "has 9216 bytes, not 9212" in call(lambda r, _: r.raw_input_contents.append(raw[4:]))
        assert "2 raw_input_contents for 1 inputs" in call(lambda r, _: r.raw_input_contents.extend([raw, raw]))
        assert "values twice" in call(
            lambda r, s: (s.contents.fp32_contents.append(1), r.raw_input_contents.append(raw))
        )
        assert "go into fp32_contents, not bytes_contents" in call(lambda _, s: s.contents.bytes_contents.append(raw))
        assert "is of datatype FP32, not BYTES" in call(lambda _, s: s.MergeFrom(type(s)(datatype="BYTES")))
        region = pb.InferParameter(string_param="r")
        assert "shared memory, which this service does not use" in call(
            lambda r, s: (s.parameters["shared_memory_region"].CopyFrom(region), r.raw_input_contents.append(raw))
        )
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(b"\xff\xff")
        assert "the message is no ModelInferRequest" in caught.value.details()

    def test_a_full_queue_says_when_to_ask_again(self, told, channel, image, triton_client, usual_address):
        async def act(_):
            raise BusyError("the queue of model 'm' is full", 7)

        told.act = act
        assert failure(lambda: triton_client.infer("m", [image]))[0] == "StatusCode.UNAVAILABLE"
        request = pb.ModelInferRequest(model_name="m", inputs=[image._get_tensor()])
        request.raw_input_contents.append(image._get_content())
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(INFER)(request.SerializeToString())
        trailing = dict(caught.value.trailing_metadata())
        assert trailing["retry-after"] == "7"

    def test_what_nobody_foresaw_is_hidden_and_logged(self, told, triton_client, image, logged):
        async def act(_):
            raise ZeroDivisionError("secret")

        told.act = act
        status, line = failure(lambda: triton_client.infer("m", [image], headers={"x-request-id": "r-1"}))
        assert (status, "secret" in line) == ("StatusCode.INTERNAL", False)
        assert line.endswith("its log has more under request id r-1")
        assert any("ZeroDivisionError: secret" in each.get("traceback", "") for each in logged)


class TestLeaving:
    @pytest.mark.parametrize("how", ["cancel", "deadline"])
    def test_who_leaves_is_not_worked_for(self, told, triton_client, image, how):
        begun, stopped = threading.Event(), threading.Event()

        async def act(_):
            begun.set()
            try:
                await asyncio.sleep(SOON)
            finally:
                stopped.set()

        told.act = act
        answers = queue.Queue()
        given = {"client_timeout": 2.0} if how == "deadline" else {}
        call = triton_client.async_infer("m", [image], lambda result, error: answers.put(error), **given)
        assert begun.wait(SOON)
        if how == "cancel":
            call.cancel()
        assert stopped.wait(SOON)
        status = answers.get(timeout=SOON).status()
        assert status == ("StatusCode.CANCELLED" if how == "cancel" else "StatusCode.DEADLINE_EXCEEDED")

    def test_a_cancelled_explanation_costs_no_further_run(self, running, tiny, image, until):
        """The batcher stands still between two of ten runs while the client cancels."""
        stands, go_on, steps = threading.Event(), threading.Event(), []

        @contextmanager
        def step():
            steps.append(None)
            if len(steps) == 2:
                stands.set()
                assert go_on.wait(SOON)
            yield

        metrics = Metrics()
        batcher = Batcher("m", lambda: Explainer(tiny.bundle, chunk=1).pipeline, step=step, observer=metrics)
        with (
            running(Service.of({"m": batcher}, metrics=metrics)) as (address, _),
            triton.InferenceServerClient(address) as client,
        ):
            exact = {"method": "score_cam", "budget": "exact"}
            call = client.async_infer("m", [image], lambda result, error: None, parameters=exact)
            assert stands.wait(SOON)
            call.cancel()
            until(batcher._running[0].pending.future.cancelled)
            go_on.set()
            client.infer("m", [image], parameters=GRAD)
            assert b'fusioncam_chunk_fill_count{model="m"} 1.0' in metrics.exposition()
            client.infer("m", [image], parameters=exact)
            assert b'fusioncam_chunk_fill_count{model="m"} 11.0' in metrics.exposition()


class TestStreams:
    @pytest.fixture
    def showing(self, told, explainer):
        """Has the batcher show the gradient's map before it explains."""

        async def act(job):
            seen = []
            explainer.explain(job.image, progress_maps=seen.append)
            for preliminary in (seen[0], seen[0], replace(seen[1], flags=("preliminary",))):
                job.progress_maps([preliminary])
                await asyncio.sleep(0.05)

        told.act = act
        return told

    def ask(self, client, *requests):
        """All answers to the requests of a stream, in order."""
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for request in requests:
            client.async_stream_infer("m", **request)
        client.stop_stream()
        return list(answers.queue)

    def test_maps_come_before_the_answer_which_is_whole(self, triton_client, showing, image, explainer, x):
        asked = {"inputs": [image], "parameters": {"method": "fusion_cam,grad_cam"}, "request_id": "a"}
        *shown, (last, error) = self.ask(triton_client, {**asked, "enable_empty_final_response": True})
        assert error is None
        assert len(shown) >= 2
        for result, _ in shown:
            message = result.get_response()
            assert (message.id, message.parameters["triton_final_response"].bool_param) == ("a", False)
            assert "preliminary" in message.parameters["flags"].string_param
        first = shown[0][0]
        np.testing.assert_array_equal(first.as_numpy("grad_cam")[0], explainer.explain(x).maps["grad_cam"])
        assert shown[1][0].as_numpy("grad_cam") is None  # it did not change
        assert last.get_response().parameters["triton_final_response"].bool_param
        showing.act = None
        whole = triton_client.infer("m", [image], parameters=asked["parameters"]).get_response()
        assert list(last.get_response().raw_output_contents) == list(whole.raw_output_contents)

    def test_requests_are_answered_in_order_and_one_that_fails_ends_nothing(self, triton_client, image, as_input, x):
        both = as_input("image", np.stack([x, x]), "FP32")
        found = self.ask(
            triton_client,
            {"inputs": [image], "parameters": GRAD, "request_id": "one"},
            {"inputs": [image], "parameters": {"method": "none"}, "request_id": "bad"},
            {"inputs": [both], "parameters": GRAD, "request_id": "two"},
        )
        assert [error is None for _, error in found] == [True, False, True]
        assert "there is no output or method 'none'" in found[1][1].message()
        assert [r.get_response().id for r, _ in found if r] == ["one", "two"]
        assert found[2][0].as_numpy("grad_cam").shape == (2, 24, 32)

    def test_an_error_says_which_request_and_its_status(self, channel, told, image):
        async def act(_):
            raise BusyError("full", 3)

        told.act = act
        request = pb.ModelInferRequest(model_name="m", id="mine", inputs=[image._get_tensor()])
        request.raw_input_contents.append(image._get_content())
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        (data,) = call(iter([request.SerializeToString()]))
        answer = pb.ModelStreamInferResponse.FromString(data)
        said = answer.infer_response
        assert (answer.error_message, said.id) == ("full", "mine")
        assert (said.parameters["status"].string_param, said.parameters["retry_after"].int64_param) == (
            "UNAVAILABLE",
            3,
        )
        assert said.parameters["triton_final_response"].bool_param

    def test_who_leaves_is_not_worked_for(self, triton_client, told, image):
        begun, stopped = threading.Event(), threading.Event()

        async def act(_):
            begun.set()
            try:
                await asyncio.sleep(SOON)
            finally:
                stopped.set()

        told.act = act
        triton_client.start_stream(lambda result, error: None)
        triton_client.async_stream_infer("m", [image])
        assert begun.wait(SOON)
        triton_client.stop_stream(cancel_requests=True)
        assert stopped.wait(SOON)
