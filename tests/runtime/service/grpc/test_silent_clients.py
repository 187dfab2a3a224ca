"""Clients that open a call and send nothing: they keep neither others nor the end of the service waiting."""

import queue
import threading

import grpc
import pytest
import tritonclient.grpc as triton

from fusioncam.runtime.service.grpc import infer_calls
from fusioncam.runtime.service.service import Service

GRAD = {"method": "grad_cam"}
INFER = "/inference.GRPCInferenceService/ModelInfer"
SOON = 20


def test_messages_that_do_not_arrive_leave_their_place_to_others(calling, image, monkeypatch):
    monkeypatch.setattr(infer_calls, "PATIENCE", 0.1)
    with calling(max_body=1 << 20, max_held=1 << 20) as client:  # one place
        never = threading.Event()
        slow = client._channel.stream_stream(INFER)(iter(never.wait, True))
        assert client.infer("m", [image], parameters=GRAD, client_timeout=SOON).as_numpy("grad_cam") is not None
        with pytest.raises(grpc.RpcError) as caught:
            next(slow)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the message is slow, and others wait" in caught.value.details()
        never.set()


def test_a_service_that_ends_waits_for_no_further_request(running, told, image):
    answers = queue.Queue()
    with running(Service.of({"m": told})) as (address, _):
        client = triton.InferenceServerClient(address)
        client.start_stream(lambda result, error: answers.put(error))
        client.async_stream_infer("m", [image], parameters=GRAD)
        assert answers.get(timeout=SOON) is None
    error = answers.get(timeout=SOON)
    assert error.status() == "StatusCode.UNAVAILABLE"
    assert "the service is shutting down; open another stream" in error.message()
    client.close()
