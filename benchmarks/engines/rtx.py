"""TensorRT-RTX's parser and builder, called by their places in the virtual tables of one version.

TensorRT-RTX builds engines ahead of time, without a device; its libraries come in the wheel of onnxruntime's provider.
`builder.py` runs this file in a process of its own: a wrong graph may end that process, and the libraries want a driver
when they are unloaded. Questions are read from stdin, answers go to stdout, a line of JSON each. Only the standard
library is imported.
"""

import ctypes as c
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 10701  # TensorRT-RTX 1.7.1; every number below is this version's
PARSER_VERSION = 100  # that its interface has since then; the parser itself says 200
RANKS = 8  # axes that a Dims holds
ERRORS = 1  # severities up to this one

# Places in the virtual tables; all but DESTROY, PARSER and ERROR are those of `inner`, the object that does the work.
DESTROY = 1
BUILDER = {"config": 5, "network": 6, "profile": 7, "build": 11}
NETWORK = {"layers": 12, "inputs": 14, "input": 15}
TENSOR = {"name": 3, "dims": 5}
PROFILE = {"set": 2}
CONFIG = {"add_profile": 23}
MEMORY = {"size": 3}
PARSER = {"parse": 1, "knows": 2, "count": 3, "error": 4}
ERROR = {"text": 1, "node": 6, "operator": 7}
NO_DRIVER = re.compile(
    r"\[checkMacros\.cpp::catchCudaError::\d+\] Error Code 1: Cuda Runtime \(.*?\(cudaError 35: .*?\)\)"
)


class Dims(c.Structure):
    """Dimensions of a tensor, as TensorRT's C structure holds them."""

    _fields_ = [("rank", c.c_int32), ("sizes", c.c_int64 * RANKS)]


class RefusedError(Exception):
    """A graph that the parser or the builder does not take, with their words."""


def call(this: Any, slot: int, result: Any, *arguments: Any) -> Any:
    """Call the method in a slot of an object's table; arguments are values of ctypes."""
    table = c.cast(this, c.POINTER(c.POINTER(c.c_void_p))).contents
    return c.CFUNCTYPE(result, c.c_void_p, *map(type, arguments))(table[slot])(this, *arguments)


def inner(this: Any) -> Any:
    """Return the object that does the work of a public one."""
    return c.cast(this, c.POINTER(c.c_void_p))[1]


def text(found: bytes | None) -> str:
    """Return a C string as a line, without what is said of a machine that has no driver."""
    return NO_DRIVER.sub("", " ".join((found or b"").decode(errors="replace").split())).strip()


class Logger:
    """An ILogger that keeps errors: its table is language, interface, two destructors, log(severity, text)."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        nothing = c.CFUNCTYPE(c.c_void_p, c.c_void_p)(lambda _: 0)
        log = c.CFUNCTYPE(None, c.c_void_p, c.c_int32, c.c_char_p)(self._log)
        self._kept = (nothing, log)
        places = [c.cast(f, c.c_void_p).value for f in (*[nothing] * 4, log)]
        self._table = (c.c_void_p * len(places))(*places)
        self._object = (c.c_void_p * 1)(c.addressof(self._table))
        self.pointer = c.c_void_p(c.addressof(self._object))

    def _log(self, _: int, severity: int, said: bytes) -> None:
        if severity <= ERRORS and (line := text(said)):
            self.errors.append(line)


class Rtx:
    """The two libraries of a folder.

    Raises:
        RefusedError: The folder does not hold version 1.7.1.
    """

    def __init__(self, folder: Path) -> None:
        names = ("tensorrt_rtx", "tensorrt_onnxparser_rtx")
        paths = [path for n in names for path in folder.glob(f"lib{n}.so.*.*")]
        if len(paths) != len(names):
            raise RefusedError(f"{folder} does not hold one version of TensorRT-RTX; install its wheel again")
        self._library, self._parsers = (c.CDLL(str(path), mode=c.RTLD_GLOBAL) for path in paths)
        found = int(self._library.getInferLibVersion())
        if found != VERSION:
            raise RefusedError(f"version {_dotted(found)} has tables of its own, not those of {_dotted(VERSION)}")
        self._library.createInferBuilder_INTERNAL.restype = c.c_void_p
        self._parsers.createNvOnnxParser_INTERNAL.restype = c.c_void_p

    def knows(self, operators: list[str]) -> list[str]:
        """Return those of ONNX's operators that the parser has an importer for, whatever that asks of a node."""
        with self._opened() as opened:
            return [o for o in operators if call(opened.parser, PARSER["knows"], c.c_bool, c.c_char_p(o.encode()))]

    def build(self, path: str, batch: list[int], parse_only: bool) -> dict[str, Any]:
        """Return layers, bytes and seconds of the engine of an ONNX file; of the parsed network only layers.

        Args:
            path: The file; its weights may lie beside it.
            batch: Least, best and most of a free first axis.
            parse_only: Whether to stop before the builder, which takes nearly all of the time.

        Raises:
            RefusedError: The parser or the builder does not take the graph.
        """
        with self._opened() as opened:
            if not call(opened.parser, PARSER["parse"], c.c_bool, c.c_char_p(os.fsencode(path)), c.c_int32(ERRORS)):
                raise RefusedError("parser: " + "; ".join([*_errors(opened.parser)] or opened.logger.errors))
            layers = call(inner(opened.network), NETWORK["layers"], c.c_int32)
            if parse_only:
                return {"layers": layers}
            start, begun = time.perf_counter(), time.process_time()
            size = opened.engine_bytes(batch)
            took = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - begun}
            return {"layers": layers, "bytes": size, **took}

    @contextmanager
    def _opened(self) -> "Iterator[Opened]":
        """Open a builder, a network and its parser; destroy what was made, the last first."""
        logger = Logger()
        with ExitStack() as made:
            builder = self._library.createInferBuilder_INTERNAL(logger.pointer, VERSION)
            if not builder:
                raise RefusedError("; ".join(["TensorRT-RTX gives no builder", *logger.errors]))
            made.callback(call, builder, DESTROY, None)
            network = call(inner(builder), BUILDER["network"], c.c_void_p, c.c_uint32(0))
            made.callback(call, network, DESTROY, None)
            parser = self._parsers.createNvOnnxParser_INTERNAL(c.c_void_p(network), logger.pointer, PARSER_VERSION)
            made.callback(call, parser, DESTROY, None)
            yield Opened(builder, network, parser, logger, made)


@dataclass(frozen=True)
class Opened:
    """A builder, a network, its parser, what they say, and what is destroyed after them."""

    builder: Any
    network: Any
    parser: Any
    logger: Logger
    made: ExitStack

    def engine_bytes(self, batch: list[int]) -> int:
        """Build the network and return the size of its engine."""
        config, profile = (call(inner(self.builder), BUILDER[what], c.c_void_p) for what in ("config", "profile"))
        self.made.callback(call, config, DESTROY, None)
        if self._fill(profile, batch):
            call(inner(config), CONFIG["add_profile"], c.c_int32, c.c_void_p(profile))
        given = c.c_void_p(self.network), c.c_void_p(config)
        engine = call(inner(self.builder), BUILDER["build"], c.c_void_p, *given)
        if not engine:
            raise RefusedError("builder: " + ("; ".join(self.logger.errors) or "no engine, and no reason"))
        self.made.callback(call, engine, DESTROY, None)
        return int(call(inner(engine), MEMORY["size"], c.c_size_t))

    def _fill(self, profile: Any, batch: list[int]) -> bool:
        """Give every input its least, best and largest shape, and return whether any of them is free."""
        free = False
        for i in range(call(inner(self.network), NETWORK["inputs"], c.c_int32)):
            tensor = inner(call(inner(self.network), NETWORK["input"], c.c_void_p, c.c_int32(i)))
            name, dims = call(tensor, TENSOR["name"], c.c_char_p), call(tensor, TENSOR["dims"], Dims)
            open_axes = [k for k in range(dims.rank) if dims.sizes[k] < 0]
            if open_axes not in ([], [0]):
                raise RefusedError(f"input {text(name)}: only the first axis may be free, these are: {open_axes}")
            free = free or bool(open_axes)
            for end, size in enumerate(batch):
                if open_axes:
                    dims.sizes[0] = size
                where = c.c_char_p(name), c.c_int32(end), c.pointer(dims)
                if not call(inner(profile), PROFILE["set"], c.c_bool, *where):
                    raise RefusedError(f"input {text(name)}: no batch of {size}")
        return free


def _errors(parser: Any) -> Iterator[str]:
    """Yield the parser's errors, each with the operator and the node that it is about."""
    for i in range(call(parser, PARSER["count"], c.c_int32)):
        error = call(parser, PARSER["error"], c.c_void_p, c.c_int32(i))
        operator, node, why = (text(call(error, ERROR[what], c.c_char_p)) for what in ("operator", "node", "text"))
        yield f"{operator} {node}: {why}"


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def answer(rtx: Rtx, question: dict[str, Any]) -> dict[str, Any]:
    """Return what the libraries say of one question."""
    if "operators" in question:
        return {"knows": rtx.knows(question["operators"])}
    try:
        return {**rtx.build(**question), "refusal": None}
    except RefusedError as refusal:
        return {"refusal": str(refusal)}


def main(folder: str) -> None:
    """Answer questions until stdin ends; the first line says whether the libraries could be loaded."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer
    try:
        rtx = Rtx(Path(folder))
    except (RefusedError, OSError) as error:
        print(json.dumps({"missing": text(str(error).encode())}), file=answers)
    else:
        print(json.dumps({"missing": None}), file=answers)
        for line in sys.stdin:
            print(json.dumps(answer(rtx, json.loads(line))), file=answers)
    os._exit(0)  # unloaded, the libraries would ask for a driver


if __name__ == "__main__":
    main(sys.argv[1])
