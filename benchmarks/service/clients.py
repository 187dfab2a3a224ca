"""Clients over plain sockets: as little work as possible, for they share the cores with the service."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.sample_requests import SampleRequest, map_difference

LEAVES_AFTER = 0.3  # seconds
BAD = 0.25  # share of bad requests
# For maps in [0, 1]: other chunks round in another way, and a budget may then choose other channels.
GOOD_ENOUGH = 1e-3
PATIENCE = 120.0  # seconds for an answer


class Ended(NamedTuple):
    """A request that ended.

    Attributes:
        kind: See `SampleRequest`.
        outcome: `right`, `wrong`, `refused` as it should be, `busy`, `unexpected`, `left` or `lost`.
        sent: Time of sending, in seconds of `time.monotonic()`.
        seconds: Seconds until the answer was there.
        port: The client's port.
        detail: Status and body of an unexpected answer; or the difference of the map.
    """

    kind: str
    outcome: str
    sent: float
    seconds: float
    port: int
    detail: str | float = ""


@dataclass
class Crowd:
    """All clients of the service together.

    Attributes:
        port: The port of the service.
        good: Requests to send in turns.
        bad: Requests to send now and then.
        ended: The requests that have ended.
        stop: Time to send no more requests, in seconds of `time.monotonic()`.
    """

    port: int
    good: Sequence[SampleRequest]
    bad: Sequence[SampleRequest]
    stop: float
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.ended: list[Ended] = []
        self.told_to_end = float("inf")

    async def run(self, clients: int) -> None:
        """Have so many clients ask until it is time to stop."""
        await asyncio.gather(*(self._client(random.Random(n), n) for n in range(clients)))

    async def _client(self, chance: random.Random, number: int) -> None:
        turn, connection = number, None
        while time.monotonic() < self.stop:
            sample = chance.choice(self.bad) if chance.random() < BAD else self.good[turn % len(self.good)]
            turn += sample.wanted is not None
            try:
                if connection is None:
                    connection = await self._open()
            except OSError:
                if time.monotonic() >= self.told_to_end:
                    return
                await asyncio.sleep(0.1)  # nothing was asked, nothing is lost
                continue
            keep, wait = await self._ask(sample, *connection)
            if not keep:
                await self._close(connection)
                connection = None
            await asyncio.sleep(wait)
        if connection is not None:
            await self._close(connection)

    async def _open(self) -> Any:
        return await asyncio.open_connection(self.host, self.port, limit=1 << 20)

    async def _close(self, connection: Any) -> None:
        connection[1].close()

    def note(self, sample: SampleRequest, outcome: str, sent: float, detail: str | float = "", port: int = 0) -> None:
        """Enter a request that has ended."""
        self.ended.append(Ended(sample.kind, outcome, sent, time.monotonic() - sent, port, detail))

    def judge(
        self, sample: SampleRequest, sent: float, status: int, body: bytes, off: Callable[[], float], port: int = 0
    ) -> None:
        """Enter a request that was answered, by what it should have got; `off` returns the difference of its map."""
        if status not in sample.statuses:
            self.note(sample, "unexpected", sent, f"{status} {body[:200]!r}", port)
        elif sample.wanted is None:
            self.note(sample, "refused", sent, port=port)
        else:
            difference = off()
            self.note(sample, "right" if difference <= GOOD_ENOUGH else "wrong", sent, difference, port)

    async def _ask(
        self, sample: SampleRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[bool, float]:
        """Send one request; return whether the connection stays open, and the seconds to wait then."""
        port, sent = writer.get_extra_info("sockname")[1], time.monotonic()

        try:
            writer.write(sample.raw)
            if sample.leaves:
                await asyncio.sleep(LEAVES_AFTER)
                self.note(sample, "left", sent, port=port)
                return False, 0.0
            async with asyncio.timeout(PATIENCE):
                status, headers, body = await _answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            self.note(sample, "lost", sent, type(error).__name__, port)
            return False, 0.1
        if status == 503 and "retry-after" in headers:
            self.note(sample, "busy", sent, float(headers["retry-after"]), port)
            return headers.get("connection") != "close", float(headers["retry-after"])
        if status >= 400 and b'"error"' not in body:
            status = 0  # never allowed
        self.judge(sample, sent, status, body, lambda: map_difference(sample, headers, body), port)
        return headers.get("connection") != "close" and not sample.closes, 0.0


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
