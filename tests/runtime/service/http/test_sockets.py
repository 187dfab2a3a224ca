import socket

import pytest

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.runtime.service.http.sockets import OWN_SOCKETS, is_local, open_sockets, url_of


@pytest.fixture
def opened():
    """Opens sockets that are closed when the test is over."""
    kept = []

    def open_some(*arguments):
        kept.extend(found := open_sockets(*arguments))
        return found

    yield open_some
    for each in kept:
        each.close()


def test_one_for_each_worker_at_the_same_port(opened):
    found = opened("127.0.0.1", 0, 3)
    assert len(found) == (3 if OWN_SOCKETS else 1)
    (address,) = {url_of(each) for each in found}
    assert address.startswith("http://127.0.0.1:")
    assert all(is_local(each) for each in found)


@pytest.mark.parametrize("theirs", [1, 2])
@pytest.mark.parametrize("ours", [1, 2])
def test_a_port_in_use_is_one_clear_line(opened, ours, theirs):
    """Also where another service shares its port among workers: ours must not slip in between."""
    taken, *_ = opened("127.0.0.1", 0, theirs)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(FusionCamError, match=rf"^port {port} of 127.0.0.1 is in use; .* another --port$"):
        open_sockets("127.0.0.1", port, ours)


def test_every_address_of_the_machine_is_not_only_here(opened):
    assert not is_local(opened("0.0.0.0", 0)[0])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1.7", "a" * 300, "\udc80"])
def test_a_host_that_is_none(host):
    with pytest.raises(UsageError, match="there is no host"):
        open_sockets(host, 0)


def test_an_address_of_another_machine():
    with pytest.raises(UsageError, match=r"no address 192\.0\.2\.1"):
        open_sockets("192.0.2.1", 0)


def test_ipv6(opened):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    (found,) = opened("::1", 0)
    assert url_of(found).startswith("http://[::1]:")
    assert is_local(found)
