"""The load test's own accounts: a service that answers wrongly, not at all or too late must not pass."""

import asyncio
import importlib.util
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

WANTED = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def sample_requests(part):
    return part("service.sample_requests")


@pytest.fixture(scope="module")
def clients(part):
    return part("service.clients")


@pytest.fixture(scope="module")
def command(part):
    path = part("record").__spec__.origin.replace("record.py", "service.py")
    spec = importlib.util.spec_from_file_location("benchmarks_service_command", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(m=WANTED, c=2, status=200, **headers):
    """What the service would send."""
    rest = np.asarray(m, np.float32).tobytes() + np.int64(c).tobytes()
    outputs = [("fusion_cam", len(rest) - 8), ("class_index", 8)]
    described = [{"name": name, "parameters": {"binary_data_size": size}} for name, size in outputs]
    head = json.dumps({"outputs": described}).encode()
    told = {"Content-Length": len(head) + len(rest), "Inference-Header-Content-Length": len(head), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode() + head + rest


def error(status, **headers):
    body = b'{"error":"no"}'
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": len(body), **headers}.items())
    return f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode() + body


CASES = {
    "right": (answer(), "right"),
    "nearly": (answer(WANTED + 5e-4), "right"),
    "another map": (answer(WANTED[::-1]), "wrong"),
    "another class": (answer(c=1), "wrong"),
    "a map of another size": (answer(WANTED[1:]), "wrong"),
    "not a number": (answer(WANTED * np.nan), "wrong"),
    "an error": (error(500), "unexpected"),
    "busy without saying for how long": (error(503), "unexpected"),
    "busy": (error(503, **{"Retry-After": 0}), "busy"),
    "closed": (b"", "lost"),
    "closed in the middle": (answer()[:-1], "lost"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_request_is_accounted_for(sample_requests, clients, case):
    sent, outcome = CASES[case]

    async def meet():
        async def serve(reader, writer):
            await reader.readexactly(4)
            writer.write(sent)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        crowd = clients.Crowd(
            port, [sample_requests.SampleRequest("good", b"ask!", wanted=(WANTED, 2))], [], time.monotonic() + 60
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await crowd._ask(crowd.good[0], reader, writer)
        writer.close()
        server.close()
        return crowd.ended

    (ended,) = asyncio.run(meet())
    assert ended.outcome == outcome


@pytest.mark.parametrize("case", ["right", "wrong", "busy", "lost", "unexpected"])
def test_every_call_over_grpc_is_accounted_for(sample_requests, part, case):
    grpc, pb = pytest.importorskip("grpc"), pytest.importorskip("tritonclient.grpc.service_pb2")
    grpc_clients, unavailable = part("service.grpc_clients"), grpc.StatusCode.UNAVAILABLE
    ends = {"busy": (unavailable, (("retry-after", "0"),)), "lost": (unavailable, ())}
    ends["unexpected"] = grpc.StatusCode.INTERNAL, ()

    async def infer(_, context):
        if case in ends:
            await context.abort(ends[case][0], "no", ends[case][1])
        shown = WANTED if case == "right" else WANTED[::-1]
        said = pb.ModelInferResponse(raw_output_contents=[np.ascontiguousarray(shown).tobytes(), np.int64(2).tobytes()])
        for name in ("fusion_cam", "class_index"):
            said.outputs.add(name=name)
        return said.SerializeToString()

    async def meet():
        server = grpc.aio.server()
        handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
        service = "inference.GRPCInferenceService"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        crowd = grpc_clients.GrpcCrowd(
            port, [sample_requests.SampleRequest("good", b"ask!", wanted=(WANTED, 2))], [], time.monotonic() + 60
        )
        connection = await crowd._open()
        await crowd._ask(crowd.good[0], *connection)
        await crowd._close(connection)
        await server.stop(0)
        return crowd.ended

    (ended,) = asyncio.run(meet())
    assert ended.outcome == case


def test_memory_that_grows_is_seen(part, command):
    record = part("record").Record()
    memory = [(float(t), {1: 100_000_000, 2: 100_000_000 + 1_000_000 * t, 3: 1}) for t in range(60)]
    command.weights(record, SimpleNamespace(memory=memory), {"told": 60.0, "pid": 3})
    assert [check["ok"] for check in record.checks] == [True, False]


@pytest.mark.parametrize(("sent", "lost"), [(10.0, 1), (59.9, 0)])
def test_a_request_that_was_begun_must_not_be_lost_at_the_end(part, clients, command, monkeypatch, sent, lost):
    ended = [clients.Ended("file", "right", 5.0, 1.0, 7, 0.0), clients.Ended("file", "lost", sent, 0.3, 8, "OSError")]
    happened = {"start": 0.0, "told": 60.0, "ended": 61.0, "status": 0, "stderr": "", "metrics": {}}
    happened |= {"burnt": 1.0, "cpu": 0.0}

    async def crowded(*_):
        return SimpleNamespace(ended=ended), happened

    monkeypatch.setattr(command, "crowded", crowded)
    service = SimpleNamespace(process=SimpleNamespace(poll=lambda: 0), memory=[])
    test = SimpleNamespace(
        offline=lambda: (2.0, 0.5), service=lambda workers: service, chunk=4, passes=10, cases=[1], asked=None
    )
    record = part("record").Record()
    command.judge(test, record, 1, False)
    checks = {check["what"]: check for check in record.checks}
    assert checks["requests lost that were begun"]["found"] == lost
    assert checks["requests lost that were begun"]["ok"] == (not lost)
    assert all(check["ok"] for what, check in checks.items() if "lost" not in what)
