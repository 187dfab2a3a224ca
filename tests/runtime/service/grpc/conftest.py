"""The gRPC side of the service, run in a thread, and NVIDIA's client of it."""

import asyncio
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")

import grpc
import tritonclient.grpc as triton

from fusioncam.runtime.service.grpc.server import GrpcServer
from fusioncam.runtime.service.http.sockets import reserved_port
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings


@contextmanager
def run_server(service, loading=False):
    """Serve in a thread; gives the address, and the server."""
    with reserved_port("127.0.0.1", 0, 1) as address:
        server = GrpcServer(address, service.settings, service.metrics, service.repository.names, 100, 5.0)
        started, loop = threading.Event(), asyncio.new_event_loop()
        ending = asyncio.Event()

        async def main():
            if not loading:
                server.open(service)
            await server.start()
            started.set()
            await ending.wait()
            await server.stop()
            await service.close()

        def run():
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert started.wait(20)
            yield address, server
        finally:
            loop.call_soon_threadsafe(ending.set)
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def running():
    """Runs the gRPC server of a service."""
    return run_server


@pytest.fixture
def calling(told):
    """Opens a client of the service over `told`, as it is set."""

    @contextmanager
    def open_client(metrics=None, **given):
        service = Service.of({"m": told}, Settings(**given), metrics)
        with run_server(service) as (address, _), triton.InferenceServerClient(address) as client:
            yield client

    return open_client


@pytest.fixture(scope="session")
def usual_address(only_told):
    with run_server(Service.of({"m": only_told})) as (address, _):
        yield address


@pytest.fixture
def triton_client(told, usual_address):
    """A client of the service as it is without any setting."""
    with triton.InferenceServerClient(usual_address) as client:
        yield client


@pytest.fixture
def channel(usual_address):
    """To the same service, for calls that tritonclient does not make."""
    with grpc.insecure_channel(usual_address) as channel:
        yield channel


@pytest.fixture
def image(x):
    """The input of a request for a preprocessed picture."""
    return tensor("image", x[None], "FP32")


@pytest.fixture(scope="session")
def as_input():
    return tensor


def tensor(name, values, datatype):
    return triton.InferInput(name, list(values.shape), datatype).set_data_from_numpy(np.asarray(values))


@pytest.fixture(scope="session")
def until():
    """Waits until something is true."""

    def wait(true, seconds=20.0):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "waited for too long"
            time.sleep(0.01)

    return wait
