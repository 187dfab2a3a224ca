"""Connections of lost workers."""

import json
import os
import socket

import pytest

from fusioncam.runtime.service.workers.connection_ledger import ConnectionState
from fusioncam.runtime.service.workers.orphaned_connections import OrphanedConnections

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files are passed on POSIX systems only")


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
