"""Clients over plain sockets: as little work as possible, for they share the cores with the service."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.asked import Asked, difference

LEAVES_AFTER = 0.3  # seconds
BAD = 0.25  # share of bad requests
GOOD_ENOUGH = (
    1e-3  # maps of [0, 1]; chunks shared in another way round otherwise, and a budget may then guess otherwise
)
PATIENCE = 120.0  # seconds for an answer


class Ended(NamedTuple):
    """A request that ended.

    Attributes:
        kind: See `Asked`.
        outcome: `right`, `wrong`, `refused` as it should be, `busy`, `unexpected`, `left` or `lost`.
        sent: When, in seconds of `time.monotonic()`.
        seconds: Until the answer was there.
        port: The client's.
        detail: The status and what it said, where that is of interest; or the difference of the map.
    """

    kind: str
    outcome: str
    sent: float
    seconds: float
    port: int
    detail: str | float = ""


@dataclass
class Crowd:
    """All clients.

    Attributes:
        port: The service's.
        good: What they ask, in turns,
        bad: and now and then.
        ended: The requests that have ended.
        under_way: When those that have not were sent, by the client's port.
        stop: When to ask no more, in seconds of `time.monotonic()`.
    """

    port: int
    good: Sequence[Asked]
    bad: Sequence[Asked]
    stop: float
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.ended: list[Ended] = []
        self.under_way: dict[int, float] = {}
        self.told_to_end = float("inf")

    async def run(self, clients: int) -> None:
        """Have so many clients ask until it is time to stop."""
        await asyncio.gather(*(self._client(random.Random(n), n) for n in range(clients)))

    async def _client(self, chance: random.Random, number: int) -> None:
        turn, connection = number, None
        while time.monotonic() < self.stop:
            asked = chance.choice(self.bad) if chance.random() < BAD else self.good[turn % len(self.good)]
            turn += asked.wanted is not None
            try:
                if connection is None:
                    connection = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
            except OSError:
                if time.monotonic() >= self.told_to_end:
                    return
                await asyncio.sleep(0.1)  # nothing was asked, nothing is lost
                continue
            keep, wait = await self._ask(asked, *connection)
            if not keep:
                connection[1].close()
                connection = None
            await asyncio.sleep(wait)
        if connection is not None:
            connection[1].close()

    async def _ask(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[bool, float]:
        """One request; says whether the connection can be used again, and how long to wait before the next."""
        port, sent = writer.get_extra_info("sockname")[1], time.monotonic()

        def note(outcome: str, detail: str | float = "") -> None:
            self.under_way.pop(port, None)
            self.ended.append(Ended(asked.kind, outcome, sent, time.monotonic() - sent, port, detail))

        self.under_way[port] = sent
        try:
            writer.write(asked.raw)
            if asked.leaves:
                await asyncio.sleep(LEAVES_AFTER)
                note("left")
                return False, 0.0
            async with asyncio.timeout(PATIENCE):
                status, headers, body = await _answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            note("lost", type(error).__name__)
            return False, 0.1
        if status == 503 and "retry-after" in headers:
            note("busy", float(headers["retry-after"]))
            return headers.get("connection") != "close", float(headers["retry-after"])
        if status not in asked.statuses:
            note("unexpected", f"{status} {body[:200]!r}")
        elif asked.wanted is None:
            note("refused" if b'"error"' in body else "unexpected")
        else:
            off = difference(asked, headers, body)
            note("right" if off <= GOOD_ENOUGH else "wrong", off)
        return headers.get("connection") != "close" and not asked.closes, 0.0


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
