"""Requests to the service: sound ones, and ways to spoil them."""

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH

PATH = "/v2/models/m/infer"
FORMATS = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".jp2", ".avif", ".ppm", ".hdr", ".ras")
NASTY: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**40, 0.5, -0.0, 1e39, 1e308, "", "a",
    "\0", "image", "image_bytes", "class_index", "method", "budget", "logits", "grad_cam", "FP32", "FP16", "INT64",
    "BYTES", "exact", "auto", "0.0001", "1e-300", "x" * 5000, "fusion_cam:layer_cam+group_cam:15", "\u202e\n", [], {},
    [[]], [None], [1, "a"], [[1], [2, 3]], {"binary_data_size": 0}, {"binary_data_size": -4}, {"a": {"b": []}},
    {"shared_memory_region": "r"}, {"classification": 3}, {"binary_data": True}, [1, 3, 1 << 20, 1 << 20],
)  # fmt: skip


@dataclass
class Sent:
    """A request, which mutations change in place.

    Attributes:
        head: Its JSON.
        binary: What follows the JSON.
        text: The JSON as bytes, once it is no longer `head`'s.
    """

    head: dict[str, Any]
    binary: bytearray = field(default_factory=bytearray)
    method: str = "POST"
    path: str = PATH
    headers: dict[str, str] = field(default_factory=dict)
    text: bytes | None = None
    pack: Callable[[bytes], bytes] = bytes

    def body(self) -> bytes:
        """The body as it is sent, and the header that says how long its JSON is, where that is not set already."""
        text = json.dumps(self.head).encode() if self.text is None else self.text
        if self.binary:
            self.headers.setdefault(HEADER_LENGTH, str(len(text)))
        return self.pack(text + bytes(self.binary))


def sound(rng: random.Random, size: tuple[int, int]) -> Sent:
    """A request that a client may send."""
    noise = np.random.default_rng(rng.randrange(1 << 32))
    count = rng.choice((1, 1, 1, 2))
    sent = Sent({"inputs": [], "parameters": {"method": rng.choice(("grad_cam", "layer_cam", "fusion_cam,grad_cam"))}})
    if rng.random() < 0.5:
        x = noise.uniform(-2, 2, (count, 3, *size)).astype(np.float32)
        add(sent, "image", "FP32", x.shape, x.tobytes() if rng.random() < 0.8 else x.reshape(-1).tolist())
    else:
        files = [_file(rng, noise) for _ in range(count)]
        texts = [base64.b64encode(file).decode() for file in files]
        add(sent, "image_bytes", "BYTES", (count,), _elements(files) if rng.random() < 0.8 else texts)
    if rng.random() < 0.5:
        c = rng.randrange(-1, 3)
        add(sent, "class_index", "INT64", (1,), np.int64(c).tobytes() if rng.random() < 0.5 else [c])
    if rng.random() < 0.3:
        add(sent, "budget", "BYTES", (1,), rng.choice((_elements([b"8"]), ["0.2"], ["auto"])))
    if rng.random() < 0.5:
        outputs = rng.sample(("logits", "probabilities", "class_index", "grad_cam"), 2)
        sent.head["outputs"] = [{"name": name, "parameters": {"binary_data": rng.random() < 0.5}} for name in outputs]
    packed = rng.choice((None, None, None, ("gzip", gzip.compress), ("deflate", zlib.compress)))
    if packed is not None:
        sent.headers["Content-Encoding"], sent.pack = packed
    if rng.random() < 0.3:
        sent.headers["Accept-Encoding"] = rng.choice(("gzip", "deflate", "br;q=1, gzip;q=0.5", "*"))
    return sent


def add(sent: Sent, name: str, datatype: str, shape: Sequence[int], data: bytes | list[Any]) -> None:
    """Add an input: behind the JSON where its data are bytes."""
    tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
    if isinstance(data, bytes):
        tensor["parameters"] = {"binary_data_size": len(data)}
        sent.binary += data
    else:
        tensor["data"] = data
    sent.head["inputs"].append(tensor)


def _elements(files: Sequence[bytes]) -> bytes:
    return b"".join(len(file).to_bytes(4, "little") + file for file in files)


def _file(rng: random.Random, noise: np.random.Generator) -> bytes:
    pixels = noise.integers(0, 256, (rng.randrange(33, 64), rng.randrange(33, 64), 3), np.uint8)
    ending = rng.choice(FORMATS)
    return cv2.imencode(ending, pixels.astype(np.float32) if ending == ".hdr" else pixels)[1].tobytes()


def flip_bytes(rng: random.Random, sent: Sent) -> None:
    """Some bytes behind the JSON are others: a damaged picture, NaN, a length that lies."""
    for _ in range(rng.choice((1, 1, 4, 64))):
        if sent.binary:
            sent.binary[rng.randrange(len(sent.binary))] = rng.randrange(256)


def flip_picture_head(rng: random.Random, sent: Sent) -> None:
    """The first bytes behind the JSON, where lengths and sizes stand, are others."""
    for _ in range(rng.choice((1, 2, 8))):
        if sent.binary:
            sent.binary[rng.randrange(min(len(sent.binary), 64))] = rng.choice(
                (0, 1, 127, 128, 255, rng.randrange(256))
            )


def cut_or_grow(rng: random.Random, sent: Sent) -> None:
    """The bytes behind the JSON are fewer, or more."""
    if rng.random() < 0.5:
        del sent.binary[rng.randrange(len(sent.binary) + 1) :]
    else:
        sent.binary += rng.randbytes(rng.choice((1, 4, 1000)))


def flip_json(rng: random.Random, sent: Sent) -> None:
    """Some bytes of the JSON are others."""
    text = bytearray(json.dumps(sent.head).encode() if sent.text is None else sent.text)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(text) + 1)
        text[at : at + rng.choice((0, 1, 1))] = rng.choice(
            (b"[", b"}", b'"', b",", b"NaN", b"\xff", b"1e999", b"-", b"0")
        )
    sent.text = bytes(text)


def cut_json(rng: random.Random, sent: Sent) -> None:
    """The JSON ends early, or is nested without end."""
    text = json.dumps(sent.head).encode()
    deep = b"[" * rng.choice((10, 300, 100_000))
    sent.text = rng.choice((text[: rng.randrange(len(text))], deep, b'{"inputs":' + deep, b"", text + text))


def change_value(rng: random.Random, sent: Sent) -> None:
    """A value somewhere in the JSON is another, is gone, or stands there twice."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        holder: Any = sent.head
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(min(len(holder), 50)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list) and rng.random() < 0.8:
                holder = holder[key]
                continue
            way = rng.random()
            if way < 0.7:
                holder[key] = deepcopy(rng.choice(NASTY))
            elif way < 0.85:
                del holder[key]
            elif isinstance(holder, list):
                holder.append(holder[key])
            else:
                holder[rng.choice(("extra", "data", "parameters", "outputs"))] = deepcopy(rng.choice(NASTY))
            break


def change_header(rng: random.Random, sent: Sent) -> None:
    """Let a header say what the body does not hold."""
    length = rng.choice(("-1", "0", "1", "99999999999", "9" * 40, "1e3", "", " 7", "٣", str(rng.randrange(2000))))
    name, value = rng.choice((
        (HEADER_LENGTH, length), (HEADER_LENGTH, length), ("Content-Length", length),
        ("Content-Encoding", rng.choice(("gzip", "deflate", "br", "identity", "gzip, gzip", "\x01"))),
        ("Content-Type", rng.choice(("application/json", "text/plain", "", "multipart/form-data; boundary=x", "a/b"))),
        ("Accept-Encoding", rng.choice(("gzip;q=nan", ";;;,,,", "gzip;q=9", "identity;q=0", "x" * 3000))),
        ("X-Request-Id", rng.choice(("a b", "é", "x" * 500, "ok-1", "{}\t"))),
    ))  # fmt: skip
    sent.headers[name] = value


def change_route(rng: random.Random, sent: Sent) -> None:
    """Another path or method."""
    sent.method = rng.choice(("POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"))
    sent.path = rng.choice((
        PATH, "/v2/models/x/infer", "/v2/models/m/versions/2/infer", "/v2/models//infer",
        "/v2/models/m/config", "/v2/models/m/stats", "/v2/models/stats", "/v2/repository/index", "/metrics", "/v2",
        "/v2/models/../../etc/passwd", "/v2/models/" + "m" * 5000, "/\0", "/openapi.json", "/v2/models/m/infer/",
    ))  # fmt: skip


def pack_badly(rng: random.Random, sent: Sent) -> None:
    """The body is packed twice, in part, damaged, or a bomb."""
    bomb = gzip.compress(bytes(8 << 20), 9)
    sent.headers["Content-Encoding"] = "gzip"
    sent.pack = rng.choice((
        lambda body: gzip.compress(gzip.compress(body)), lambda body: gzip.compress(body)[:-5],
        lambda body: gzip.compress(body) + b"more", lambda body: bomb, lambda body: body,
        lambda body: gzip.compress(body)[:20] + b"\0\1\2" + gzip.compress(body)[23:],
    ))  # fmt: skip


MUTATIONS = (
    flip_bytes, flip_bytes, flip_picture_head, flip_picture_head, cut_or_grow, flip_json, cut_json, change_value,
    change_value, change_value, change_header, change_header, change_route, pack_badly,
)  # fmt: skip
