"""The states of connections that a worker reports."""

import os
import socket

import pytest

from fusioncam.runtime.service.workers.connection_ledger import ConnectionLedger, ConnectionState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="open files are passed on POSIX systems only")


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
