"""The processes of the service under test: started, observed, killed, ended."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil


class Service:
    """A running `fusioncam serve`.

    Args:
        bundle: The bundle to serve.
        workers: The number of processes.
        options: Further options of the command.
    """

    def __init__(self, bundle: Path, workers: int, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "fusioncam", "serve", str(bundle), "--port", "0", "--json", "--quiet"]
        command += ["--workers", str(workers), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = ""
        while not said.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(self.end())
            said += line
        addresses = json.loads(said)
        self.port = int(addresses["address"].rpartition(":")[2])
        self.grpc_port = int(addresses.get("grpc_address", ":0").rpartition(":")[2])
        self.count = workers
        while not self.ready():
            time.sleep(0.1)
        self.memory: list[tuple[float, dict[int, int]]] = []

    @property
    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer."""
        main = psutil.Process(self.process.pid)
        return main.children() if self.count > 1 else [main]

    def ready(self) -> bool:
        """Return whether all workers take connections, and answer."""
        with suppress(OSError, psutil.Error):
            listening = [any(c.status == "LISTEN" for c in w.net_connections("tcp")) for w in self.workers]
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=30):
                return len(listening) == self.count and all(listening)
        return False

    def cpu(self) -> float:
        """Return the CPU seconds of the current workers."""
        return float(sum(sum(w.cpu_times()[:2]) for w in self.workers))

    async def weigh(self, every: float = 1.0) -> None:
        """Record the resident bytes of the workers, by process, until cancelled."""
        while True:
            with suppress(psutil.Error):
                self.memory.append((time.monotonic(), {w.pid: w.memory_info().rss for w in self.workers}))
            await asyncio.sleep(every)

    def ports_of(self, worker: psutil.Process) -> set[int]:
        """Return the clients' ports of the connections of a worker."""
        return {c.raddr.port for c in worker.net_connections("tcp") if c.raddr}

    def metrics(self) -> dict[str, float]:
        """Return the metrics, summed over labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]
        sums: dict[str, float] = {}
        for line in lines:
            name, value = line.partition("{")[0].split()[0], float(line.rpartition(" ")[2])
            sums[name] = sums.get(name, 0.0) + value
        return sums

    def end(self) -> str:
        """Wait for the end of the service; return its standard error."""
        _, err = self.process.communicate(timeout=120)
        return err
