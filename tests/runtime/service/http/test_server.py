"""The server of a process when it is told to end."""

import signal

import pytest
import uvicorn

from fusioncam.runtime.service.http.server import Server


@pytest.mark.parametrize("hasty", [True, False])
def test_a_second_signal_ends_at_once_unless_it_may_be_the_first_again(monkeypatch, hasty):
    left = []
    monkeypatch.setattr("fusioncam.runtime.service.http.server.exit_now", lambda: left.append(True))
    server = Server(uvicorn.Config(None), hasty)
    for _ in range(2):
        assert left == []
        server.handle_exit(signal.SIGTERM, None)
        assert server.should_exit
    assert bool(left) == hasty
