"""What workers and the process that started them tell each other, and what becomes of connections."""

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
from fusioncam.runtime.service.workers.channel import Channel, Kind
from fusioncam.runtime.service.workers.connection_ledger import NOTE, ConnectionLedger, ConnectionState
from fusioncam.runtime.service.workers.heartbeat import Heartbeat, Liveness
from fusioncam.runtime.service.workers.orphaned_connections import OrphanedConnections

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files are passed on POSIX systems only")


@pytest.fixture
def ends():
    pair = [Channel(end) for end in socket.socketpair()]
    yield pair
    for channel in pair:
        channel.close()


def test_messages_of_any_size_and_open_files_come_as_they_were_sent(ends):
    one, other = ends
    mine, theirs = socket.socketpair()
    large = bytes(range(256)) * 8192  # more than the system holds
    sender = threading.Thread(target=lambda: (one.send(Kind.BEAT, large), one.send(Kind.NOTE, b"n", theirs.fileno())))
    sender.start()
    assert other.receive() == (Kind.BEAT, large, None)
    kind, data, descriptor = other.receive()
    sender.join()
    theirs.close()
    with mine, socket.socket(fileno=descriptor) as passed:
        passed.send(b"hello")
        assert (kind, data, mine.recv(9)) == (Kind.NOTE, b"n", b"hello")
    one.close()
    with pytest.raises(EOFError):
        other.receive()


def test_offers_to_one_that_does_not_read_are_no_wait(ends):
    one, _ = ends
    with socket.socket() as given:
        start = time.monotonic()
        offers = [one.offer(Kind.TAKE, given.fileno()) for _ in range(10_000)]
        assert time.monotonic() - start < 10
        assert offers[0]
        assert not offers[-1]


def test_a_ledger_keeps_the_latest_state_of_each_connection_only():
    ledger = ConnectionLedger()
    with socket.socket() as connection:
        known, short = ledger.opened(connection.fileno()), ledger.opened(connection.fileno())
        ledger.note(short, ConnectionState.WAITING)
        ledger.note(short, ConnectionState.CLOSED)
        ledger.note(known, ConnectionState.WAITING)
        ((number, (state, copy)),) = ledger.take().items()
        os.close(copy)
        assert (number, state) == (known, ConnectionState.WAITING)
        for last in (ConnectionState.ANSWERING, ConnectionState.IDLE, ConnectionState.CLOSED):
            ledger.note(known, last)
        assert ledger.take() == {known: (ConnectionState.CLOSED, None)}
        assert not ledger.changed.is_set()


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
    (pending,) = batcher.submit([Job(x, -1, ("grad_cam",), "exact", time.monotonic() + 60)])
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
    beating = Heartbeat(theirs, liveness, taken.append, lambda: {"family": [["name", {}, 1.0]]})
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


class Taker:
    def __init__(self, takes=True):
        self.takes, self.given = takes, []

    def give(self, connection):
        self.given.append(connection.fileno())
        return self.takes


@pytest.fixture
def connection():
    client, server = socket.socketpair()
    client.settimeout(10)
    yield client, server
    client.close()
    server.close()


def test_what_nobody_had_read_waits_for_a_worker_that_takes_it(connection):
    _, server = connection
    orphans, deaf, well = OrphanedConnections(), Taker(takes=False), Taker()
    orphans.adopt([(ConnectionState.IDLE, server)])
    for workers in ([], [deaf], [well], [well]):
        orphans.give(workers)
    assert (len(deaf.given), len(well.given)) == (1, 1)
    assert server.fileno() == -1  # only the worker's copy is left


def test_a_request_that_was_read_is_answered_although_more_of_it_comes(connection):
    client, server = connection
    client.send(b"x" * 1000)
    orphans = OrphanedConnections()
    orphans.adopt([(ConnectionState.WAITING, server)])
    orphans.give([])
    client.send(b"x" * 1000)
    orphans.give([])
    head, _, body = client.recv(1 << 16).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 1\r\n" in head + b"\r\n"
    assert int(head.rpartition(b"Content-Length: ")[2]) == len(body)
    assert "ask again" in json.loads(body)["error"]
    assert client.recv(1) == b""
    client.close()
    orphans.give([])
    assert server.fileno() == -1


def test_half_an_answer_is_ended(connection):
    client, server = connection
    OrphanedConnections().adopt([(ConnectionState.ANSWERING, server)])
    assert client.recv(1) == b""
