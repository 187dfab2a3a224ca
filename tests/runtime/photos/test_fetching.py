"""Pictures from the web: what is fetched, and what is refused."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.fetching import fetch_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
PNG = cv2.imencode(".png", PIXELS[..., ::-1])[1].tobytes()
ASKED = []


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        ASKED.append(self.path)
        body = {"/photo.png": PNG, "/page": b"<html>"}.get(self.path.partition("?")[0])
        places = {"/here": "/photo.png", "/file": "file:///etc/passwd", "/ftp": "ftp://localhost/photo.png"}
        self.send_response(302 if self.path in places else 404 if body is None else 200)
        if self.path in places:
            self.send_header("Location", places[self.path])
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site():
    with HTTPServer(("127.0.0.1", 0), Site) as server:
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


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/none", "status 404, Not Found: check the address"),
        ("/page", "is not of a supported format"),
        ("/file", "Redirection to url 'file:///etc/passwd' is not allowed: check"),
        ("/ftp", "unknown url type: ftp: check the address"),
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
    before = len(ASKED)
    with pytest.raises(ImageError, match="cannot fetch"):
        fetch_picture(f"{site}/photo.png", timeout=0)
    assert len(ASKED) <= before + 1
