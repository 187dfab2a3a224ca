"""Measure a request apart from its explanation: parsing, checks and the answer, for a body of 2.4 MB.

    python benchmarks/service_overhead.py [--rounds 200] [--json FILE]

The service runs here behind uvicorn, over a batcher that has its explanation ready; tritonclient asks from a process of
its own, in turns for the ways to send, so that all see the same machine. Times are the client's, from tensor to array.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import uvicorn

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.engine import Pipeline
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings

SIDE = 448  # 3 x 448 x 448 float32 are 2.4 MB
CLIENT = """
import json, sys, time
import numpy as np
import tritonclient.http as http

address, side, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = http.InferenceServerClient(address)
x = np.random.default_rng(0).uniform(0, 1, (1, 3, side, side)).astype(np.float32)

def infer(binary=True, **options):
    tensor = http.InferInput("image", list(x.shape), "FP32").set_data_from_numpy(x, binary_data=binary)
    output = http.InferRequestedOutput("fusion_cam", binary_data=binary)
    found = client.infer("m", [tensor], outputs=[output], **options).as_numpy("fusion_cam")
    assert found.shape == (1, side, side)

gzip = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}
WAYS = {"live": client.is_server_live, "binary": infer}
RARE = {"gzip": lambda: infer(**gzip), "json": lambda: infer(binary=False)}
found = {way: [] for way in (*WAYS, *RARE)}
for turn in range(-5, rounds):
    for way, ask in (WAYS if turn % 10 else WAYS | RARE).items():
        start = time.perf_counter()
        ask()
        if turn >= 0:
            found[way].append(time.perf_counter() - start)
print(json.dumps(found))
"""


class Ready:
    """A batcher that has its explanation ready."""

    ready = True

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        saliency = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
        logits = np.zeros(pipeline.manifest.classes, np.float32)
        self._found = Explanation({"fusion_cam": saliency}, 0, None, 0.5, (), Passes(1, 1), {}, logits=logits)

    def submit(self, jobs: Sequence[Job]) -> list[Any]:
        """Return the ready explanation for each job."""
        return [SimpleNamespace(wait=self._wait) for _ in jobs]

    async def _wait(self) -> Explanation:
        return self._found

    async def close(self) -> None:
        """Do nothing, as nothing waits."""


def measure(rounds: int) -> dict[str, Any]:
    """Return milliseconds of each way to ask: median, quartiles, 95th percentile."""
    with tempfile.TemporaryDirectory() as folder:
        export_model(MODEL, Path(folder) / "shapes.fcam")
        pipeline = Explainer(Path(folder) / "shapes.fcam").pipeline
    pipeline.manifest = pipeline.manifest.model_copy(update={"preprocessing": Preprocessing(size=(SIDE, SIDE))})
    app = make_app(Service.of({"m": Ready(pipeline)}, Settings(page=False)))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    address = "{}:{}".format(*listening.getsockname())
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, address, str(SIDE), str(rounds)]
    try:
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    finally:
        server.should_exit = True
        thread.join()
    quantiles = {way: np.percentile(np.array(times) * 1e3, (25, 50, 75, 95)) for way, times in told.items()}
    return {way: dict(zip(("q25", "median", "q75", "p95"), map(float, q), strict=True)) for way, q in quantiles.items()}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = measure(asked.rounds)
    if asked.json:
        record = {"milliseconds": found, "machine": describe(), "versions": versions(), "rounds": asked.rounds}
        asked.json.write_text(json.dumps(record, indent=1) + "\n")
    for way, figures in found.items():
        print(f"{way:8}" + "  ".join(f"{name} {value:7.1f} ms" for name, value in figures.items()))


if __name__ == "__main__":
    main()
