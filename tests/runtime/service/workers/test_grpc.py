"""gRPC from several processes at one port: calls are answered by all, survive their end, and end with them."""

import signal
from contextlib import ExitStack

import numpy as np
import pytest

from fusioncam.runtime.service.http.sockets import OWN_SOCKETS

grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")
pytestmark = pytest.mark.skipif(not OWN_SOCKETS, reason="several processes share a gRPC port on Linux only")

INFER = "/inference.GRPCInferenceService/ModelInfer"
OWN = [("grpc.use_local_subchannel_pool", 1)]  # or channels to one address share a connection


def request(photo, pictures=1, method="fusion_cam"):
    message = pb.ModelInferRequest(model_name="shapes")
    message.parameters["budget"].string_param = "exact"
    message.parameters["method"].string_param = method
    message.inputs.add(name="image", datatype="FP32", shape=[pictures, *photo.shape])
    message.raw_input_contents.append(np.stack([photo] * pictures).tobytes())
    return message.SerializeToString()


def check(data, wanted):
    answer = pb.ModelInferResponse.FromString(data)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def worker_of(running, port):
    """The worker that has the connection of a client's channel, once there is one."""
    connections = [
        (w, c) for w in running.workers for c in w.net_connections("tcp") if c.raddr and c.laddr.port == port
    ]
    return {c.raddr.port: w for w, c in connections}


def test_all_workers_answer_and_a_client_survives_the_end_of_one(bundle, photo, wanted, until, service):
    with service(bundle, "--workers", "2", "--grpc-port", "0") as running, ExitStack() as stack:
        until(lambda: len(running.workers) == 2 and running.ready())
        address = running.said["grpc_address"]
        port, calls = int(address.rpartition(":")[2]), []
        until(
            lambda: all(
                any(c.status == "LISTEN" and c.laddr.port == port for c in w.net_connections("tcp"))
                for w in running.workers
            )
        )
        for _ in range(16):
            channel = stack.enter_context(grpc.insecure_channel(address, OWN))
            calls.append(channel.unary_unary(INFER))
            check(calls[-1](request(photo), timeout=60), wanted)
        having = set(worker_of(running, port).values())
        assert len(having) == 2
        running.workers[0].kill()
        codes = []
        for call in calls:
            try:
                check(call(request(photo), timeout=60), wanted)
            except grpc.RpcError as error:
                codes.append(error.code())
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE}
        assert len(codes) < len(calls)
        until(lambda: len(running.workers) == 2 and running.ready())
        for call in calls:  # on the same channels
            check(call(request(photo), timeout=60, wait_for_ready=True), wanted)
        assert "was killed by SIGKILL; another takes its place" in running.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_that_were_begun_are_finished(bundle, photo, wanted, until, service, number):
    with service(bundle, "--grpc-port", "0") as running:
        address = running.said["grpc_address"]
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(INFER).future(request(photo, 16), timeout=60)
            until(lambda: b'fusioncam_chunk_seconds_count{model="shapes"}' in running.ask("GET", "/metrics")[1])
            running.process.send_signal(number)
            check(call.result(), np.stack([wanted] * 16))
            assert running.end() == ""
            assert running.process.returncode == 0
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(INFER)(request(photo), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
