"""Pictures from the web: what is fetched, and what is refused."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError, UsageError
from fusioncam.runtime.photos.fetching import fetch_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
PNG = cv2.imencode(".png", PIXELS[..., ::-1])[1].tobytes()
ASKED, LOGINS = [], []


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        ASKED.append(self.path)
        LOGINS.append(self.headers["Authorization"])
        if self.path in DRAWN_OUT:
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + DRAWN_OUT[self.path])
                while True:
                    self.wfile.write(b"0")
                    time.sleep(0.02)
            return
        body = {"/photo.png": PNG, "/page": b"<html>", "/cut": PNG[:-100]}.get(self.path.partition("?")[0])
        places = {"/here": "/photo.png", "/file": "file:///etc/passwd", "/ftp": "ftp://localhost/photo.png"}
        places |= {"/user": f"http://you:secret@127.0.0.1:{self.server.server_port}/none", "/round": "/round"}
        self.send_response(302 if self.path in places else 404 if body is None else 200)
        if self.path in places:
            self.send_header("Location", places[self.path])
        if self.path == "/cut":
            self.send_header("Content-Length", str(len(PNG)))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments):
        pass


DRAWN_OUT = {"/head": b"X: ", "/body": b"\r\n", "/chunks": b"Transfer-Encoding: chunked\r\n\r\n"}


@pytest.fixture(scope="module")
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_picture_comes_with_its_address_but_without_its_secrets(site):
    for address in ("/photo.png", "/photo.png?token=secret#part", "/here"):
        photo = fetch_picture(site + address)
        np.testing.assert_array_equal(photo.pixels, PIXELS)
        assert photo.name == site + address.partition("?")[0]


def test_a_user_is_told_to_the_host_alone(site):
    LOGINS.clear()
    own = site.replace("//", "//me:pass%20word@")
    np.testing.assert_array_equal(fetch_picture(f"{own}/photo.png").pixels, PIXELS)
    np.testing.assert_array_equal(fetch_picture(f"{own}/here").pixels, PIXELS)
    with pytest.raises(ImageError, match=r"/user': status 404, Not Found: check the address$"):
        fetch_picture(f"{own}/user")
    mine, yours = "Basic bWU6cGFzcyB3b3Jk", "Basic eW91OnNlY3JldA=="
    assert LOGINS.copy() == [mine, mine, None, mine, yours]
    for wrong in (f"{own}/none", "http://me:secret@nohost.invalid/", "ftp://me:secret@host/", "http://me:secret@[::1"):
        with pytest.raises(ImageError) as caught:
            fetch_picture(wrong)
        assert "secret" not in str(caught.value)
        assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/none", "status 404, Not Found: check the address"),
        ("/page", "is not of a supported format"),
        ("/file", "Redirection to url 'file:///etc/passwd' is not allowed: check"),
        ("/ftp", "unknown url type: ftp: check the address"),
        ("/round", "would lead to an infinite loop"),
        ("/cut", "more expected"),
        ("/a space ü.png", "status 404, Not Found"),
        ("file:///etc/passwd", "is no address of the web: it must begin with http:// or https://"),
        ("data:image/png;base64,AAAA", "is no address of the web"),
        ("http://", "is no address of the web"),
        ("http://127.0.0.1:x/", "is no address of the web"),
        (7, "is no address of the web"),
    ],
)
def test_what_is_refused(site, address, words):
    with pytest.raises(ImageError) as caught:
        fetch_picture(site + address if str(address).startswith("/") else address)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits(site):
    with pytest.raises(ImageError, match=r"has more than 100 bytes: allow more with max_bytes"):
        fetch_picture(f"{site}/photo.png", max_bytes=100)
    for timeout in (0, -1, float("nan"), float("inf"), None, "5"):
        with pytest.raises(UsageError, match="timeout must be a number of seconds above 0"):
            fetch_picture(f"{site}/photo.png", timeout=timeout)
    for drawn_out in DRAWN_OUT:
        with pytest.raises(ImageError, match=r"the time is up: allow more with timeout"):
            fetch_picture(site + drawn_out, timeout=0.3)
