"""Signs of life of a worker."""

import asyncio
import json
import os
import socket
import threading
import time

import pytest

from fusioncam.errors import BusyError
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.workers import heartbeat
from fusioncam.runtime.service.workers.channel import Kind
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionState
from fusioncam.runtime.service.workers.heartbeat import Heartbeat, Liveness

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files are passed on POSIX systems only")


def test_a_process_is_alive_while_steps_end_and_the_loop_goes_round(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    liveness = Liveness(limit=30)
    with liveness.step():
        now[0] = 29
        assert liveness.alive  # a long explanation is no illness
        now[0] = 31
        assert not liveness.alive
    assert liveness.alive
    liveness.tick()
    now[0] += heartbeat.SILENCE + 1
    assert not liveness.alive
    liveness.tick()
    assert liveness.alive


def test_a_run_of_the_model_that_does_not_end_is_seen(explainer, x, monkeypatch):
    liveness, ended = Liveness(limit=0.05), threading.Event()
    batcher = Batcher("m", lambda: explainer.pipeline, step=liveness.step)
    monkeypatch.setattr(batcher, "_run_once", lambda: ended.wait(60) and batcher._give_up())
    (pending,) = batcher.submit([Job(x, [-1], ("grad_cam",), "exact", time.monotonic() + 60)])
    until = time.monotonic() + 10
    while liveness.alive:
        assert time.monotonic() < until
    ended.set()
    assert pending.future.exception(10)
    while not liveness.alive:
        assert time.monotonic() < until
    asyncio.run(batcher.close())


def test_a_heartbeat_goes_on_as_long_as_there_is_life_and_asks_for_all_figures(ends, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    ours, theirs = ends
    liveness, taken = Liveness(limit=0.0), []
    beating = Heartbeat(theirs, liveness, taken.append, lambda: {"family": [["name", {}, 1.0]]}, lambda *_: None)
    beating.start()
    kind, data, _ = ours.receive()
    assert (kind, json.loads(data)) == (Kind.BEAT, {"family": [["name", {}, 1.0]]})
    with socket.socket() as connection:
        ours.send(Kind.TAKE, b"", connection.fileno())
        number = beating.ledger.opened(connection.fileno())
    kind, data = Kind.BEAT, b""
    while kind is Kind.BEAT:
        kind, data, descriptor = ours.receive()
    os.close(descriptor)
    assert (kind, NOTE.unpack(data)) == (Kind.NOTE, (number, ConnectionState.IDLE.value))

    def answer():
        while True:
            if ours.receive().kind is Kind.ASK:
                ours.send(Kind.SAMPLES, b'{"all": []}')
                return

    answering = threading.Thread(target=answer)
    answering.start()
    assert beating.share({}) == {"all": []}
    answering.join()
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.05)
    with pytest.raises(BusyError, match="are unavailable now; ask again soon"):
        beating.share({})
    assert len(taken) == 1
    taken[0].close()
    with liveness.step():
        time.sleep(0.2)
        ours.send(Kind.SAMPLES, b"{}")
        before = time.monotonic()
        threading.Timer(0.5, lambda: theirs.send(Kind.READY)).start()
        while ours.receive().kind is not Kind.READY:
            assert time.monotonic() - before < 0.45  # what was sent before; then there is none
