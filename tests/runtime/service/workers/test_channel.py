"""Messages between workers and their parent."""

import os
import socket
import threading
import time

import pytest

from fusioncam.runtime.service.workers.channel import Kind

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files are passed on POSIX systems only")


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
