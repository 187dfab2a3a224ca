"""All other calls over gRPC: the server, models, the repository; and what surrounds every call."""

import asyncio
import json
import queue
import random
import threading

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from fusioncam.errors import FusionCamError
from fusioncam.runtime.service.grpc import health
from fusioncam.runtime.service.grpc.messages import parsed, read_message
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol import metadata
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

GRAD = {"method": "grad_cam"}
TOKEN = {"authorization": "Bearer s3cret"}
SOON = 20


def status(call):
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def check_health(channel, service=""):
    call = channel.unary_unary("/grpc.health.v1.Health/Check")
    return health.Response.FromString(call(health.Request(service=service).SerializeToString())).status


class TestDescriptions:
    def test_health_and_models(self, triton_client):
        assert (triton_client.is_server_live(), triton_client.is_server_ready()) == (True, True)
        assert [triton_client.is_model_ready(*m) for m in (("m",), ("m", "1"), ("m", "2"), ("n",))] == [
            True, True, False, False,
        ]  # fmt: skip
        said = triton_client.get_server_metadata(as_json=True)
        assert (said["name"], set(metadata.EXTENSIONS) <= set(said["extensions"])) == ("fusioncam", True)
        index = triton_client.get_model_repository_index(as_json=True)
        assert index == {"models": [{"name": "m", "version": "1", "state": "READY"}]}

    def test_metadata_and_configuration_are_those_of_http(self, triton_client, client):
        said, wanted = triton_client.get_model_metadata("m"), client.get("/v2/models/m").json()
        for kind in ("inputs", "outputs"):
            found = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(said, kind)]
            assert found == wanted[kind]
        assert (said.name, list(said.versions), said.platform) == ("m", ["1"], "fusioncam")
        config, wanted = triton_client.get_model_config("m").config, client.get("/v2/models/m/config").json()
        assert json.loads(config.parameters["fusioncam"].string_value) == wanted["fusioncam"]
        assert config.parameters["budget"].string_value == wanted["parameters"]["budget"]["string_value"]
        assert [(t.name, list(t.dims), t.optional) for t in config.input] == [
            (t["name"], t["dims"], True) for t in wanted["input"]
        ]

    def test_statistics_and_metrics_count_what_was_done(self, calling, told, image):
        metrics = Metrics()
        with calling(metrics) as client:
            for _ in range(3):
                client.infer("m", [image], parameters=GRAD)
            status(lambda: client.infer("m", [image], parameters={"method": "none"}))
            (said,) = client.get_inference_statistics("m").model_stats
        assert (said.name, said.version) == ("m", "1")
        assert (said.inference_stats.success.count, said.inference_stats.fail.count) == (3, 1)
        assert said.last_inference > 0
        shown, infer = metrics.exposition().decode(), "/inference.GRPCInferenceService/ModelInfer"
        for name, count in (("OK", 3), ("INVALID_ARGUMENT", 1)):
            assert f'requests_total{{model="m",route="{infer}",status="{name}"}} {count}.0' in shown
        assert "fusioncam_requests_answering 0.0" in shown

    def test_what_there_is_not(self, triton_client):
        assert status(triton_client.get_trace_settings)[0] == "UNIMPLEMENTED"
        assert status(lambda: triton_client.get_model_config("n"))[0] == "NOT_FOUND"

    def test_grpcs_own_health_checks(self, channel, told):
        assert (check_health(channel), check_health(channel, "inference.GRPCInferenceService")) == (1, 1)
        told.ready = False
        assert check_health(channel) == 2
        with pytest.raises(grpc.RpcError) as caught:
            check_health(channel, "nobody" * 9999)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    def test_while_the_models_are_loaded(self, told, running, image):
        service = Service.of({"m": told})
        with running(service, loading=True) as (address, server), triton.InferenceServerClient(address) as client:
            assert (client.is_server_live(), client.is_server_ready()) == (True, False)
            assert status(lambda: client.infer("m", [image])) == (
                "UNAVAILABLE",
                "the models are being loaded; ask again soon",
            )
            server.open(service)
            assert client.is_server_ready()
            client.infer("m", [image], parameters=GRAD)


class TestAccess:
    def test_a_token_is_asked_for_except_by_probes(self, calling, told, image):
        with calling(token="s3cret") as client:
            assert (client.is_server_live(), client.is_server_ready()) == (True, True)
            assert check_health(client._channel) == 1
            for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "s3cret"}):
                for call in (
                    lambda h=headers: client.infer("m", [image], headers=h),
                    lambda h=headers: client.get_model_metadata("m", headers=h),
                    lambda h=headers: client.load_model("m", headers=h),
                ):
                    assert status(call)[0] == "UNAUTHENTICATED"
            assert told.jobs == []
            client.infer("m", [image], headers=TOKEN, parameters=GRAD)
            assert len(told.jobs) == 1

    def test_models_are_changed_with_a_token_only(self, calling, triton_client, image, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code, line = status(lambda: triton_client.load_model("m"))
        assert (code, "start the service with --token-file" in line) == ("PERMISSION_DENIED", True)
        with calling(token="s3cret") as client:
            code, line = status(lambda: client.load_model("m", headers=TOKEN, config="{}"))
            assert (code, "a client cannot give 'config'" in line) == ("INVALID_ARGUMENT", True)
            code, line = status(lambda: client.load_model("m", headers=TOKEN))
            assert (code, line.startswith("model 'm' stays as it was: . is no bundle")) == ("FAILED_PRECONDITION", True)
            client.unload_model("m", headers=TOKEN)
            (entry,) = client.get_model_repository_index(headers=TOKEN).models
            assert (entry.name, entry.state, entry.reason) == ("m", "UNAVAILABLE", "it was unloaded")
            code, line = status(lambda: client.infer("m", [image], headers=TOKEN))
            assert (code, "it was unloaded; load it" in line) == ("NOT_FOUND", True)

    def test_ids_are_in_the_log_and_in_the_answer(self, channel, logged):
        request = pb.ModelMetadataRequest(name="n").SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata")(
                request, metadata=(("x-request-id", "mine"),)
            )
        assert dict(caught.value.trailing_metadata())["x-request-id"] == "mine"
        (line,) = (line for line in logged if line.get("request_id") == "mine")
        assert (line["method"], line["status"], line["error"]) == (
            "gRPC",
            "NOT_FOUND",
            "there is no model 'n'; there are m",
        )


class TestLimits:
    @pytest.mark.parametrize("packed", [None, "gzip"])
    def test_messages_plain_and_packed(self, calling, image, packed, logged, until):
        with calling(max_body=9000) as client:  # the picture alone is 9216 bytes
            code, line = status(lambda: client.infer("m", [image], compression_algorithm=packed))
            assert (code, "larger than max" in line) == ("RESOURCE_EXHAUSTED", True)
            until(lambda: any(line.get("status") == "RESOURCE_EXHAUSTED" for line in logged))
            assert client.is_model_ready("m")

    def test_requests_and_streams_at_a_time(self, calling, told, image):
        begun, go_on = threading.Event(), threading.Event()

        async def act(_):
            begun.set()
            await asyncio.to_thread(go_on.wait, SOON)

        told.act = act
        with calling(concurrency=1) as client, triton.InferenceServerClient(client._channel._channel.target()) as other:
            answers = queue.Queue()
            client.start_stream(lambda result, error: answers.put(error))
            client.async_stream_infer("m", [image], parameters=GRAD)
            assert begun.wait(SOON)
            code, line = status(lambda: other.infer("m", [image], parameters=GRAD))
            assert (code, line) == ("UNAVAILABLE", "1 requests are being worked on; ask again later")
            other.start_stream(lambda result, error: answers.put(error))
            assert "1 streams are open; close some" in answers.get(timeout=SOON).message()
            go_on.set()
            assert answers.get(timeout=SOON) is None
            client.stop_stream()
            other.infer("m", [image], parameters=GRAD)  # the request has left

    def test_an_answer_that_is_not_read_is_given_up(self, calling, told, image, x, logged, until):
        """Its maps are more than the window of a stream, which opens as the client reads."""
        request = pb.ModelInferRequest(model_name="m")
        request.parameters["method"].string_param = ",".join(("grad_cam", "layer_cam", "hires_cam", "xgrad_cam"))
        request.inputs.add(name="image", datatype="FP32", shape=[16, *x.shape])
        request.raw_input_contents.append(x.tobytes() * 16)
        with calling(timeout=3.0) as client:
            call = client._channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers = call(iter([request.SerializeToString()] * 40))
            until(
                lambda: any("the answer was not read within 3 seconds" in line.get("error", "") for line in logged), 60
            )
            answers.cancel()


def test_mutated_messages_end_in_a_clear_line(image, photo):
    """Whatever the bytes are, the message is read or refused in one line; nothing else is raised."""
    settings, chance, lines = Settings(), random.Random(0), []
    request = pb.ModelInferRequest(model_name="m", inputs=[image._get_tensor()])
    request.parameters["budget"].string_param = "exact"
    request.raw_input_contents.append(bytes(64))
    request.inputs[0].shape[:] = [1, 3, 2, 2]
    typed = pb.ModelInferRequest(id="x")
    typed.inputs.add(name="image_bytes", datatype="BYTES", shape=[1]).contents.bytes_contents.append(photo[:40])
    typed.inputs.add(name="class_index", datatype="INT64", shape=[2]).contents.int64_contents.extend([1, 2])
    typed.outputs.add(name="logits").parameters["classification"].int64_param = 2
    for n in range(4000):
        data = bytearray((request, typed)[n % 2].SerializeToString())
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        try:
            read_message(parsed(pb.ModelInferRequest, bytes(data)), settings, 1.0)
        except FusionCamError as error:
            lines.append(str(error))
    assert 1000 < len(lines) < 4000
    assert not any("\n" in line for line in lines)
