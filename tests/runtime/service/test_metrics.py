"""What Prometheus is told, by one process and by several together."""

import os
import subprocess
import sys
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.service.metrics import SHARED, Metrics, process_ended


def figures(text):
    """Every sample by name and labels."""
    families = text_string_to_metric_families(text.decode() if isinstance(text, bytes) else text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_requests_are_counted_by_route_model_and_status(asking, request_of):
    metrics = Metrics()
    client = asking(metrics)
    for body in (request_of(), request_of(), request_of(inputs=[])):
        client.post("/v2/models/m/infer", json=body)
    client.get("/v2/models/nobody")
    client.get("/nothing")
    found = figures(client.get("/metrics").text)
    infer = ("route", "/v2/models/{model}/infer")
    assert found["fusioncam_requests_total", ("model", "m"), infer, ("status", "200")] == 2
    assert found["fusioncam_requests_total", ("model", "m"), infer, ("status", "400")] == 1
    # What clients make up is no label.
    assert found["fusioncam_requests_total", ("model", ""), ("route", "/v2/models/{model}"), ("status", "404")] == 1
    assert found["fusioncam_requests_total", ("model", ""), ("route", "none"), ("status", "404")] == 1
    assert found["fusioncam_request_seconds_count", infer] == 3
    assert found["fusioncam_stage_seconds_count", ("model", "m"), ("stage", "decode")] == 2
    assert found["fusioncam_requests_answering",] == 1  # this very one
    assert metrics.inferences("m")["success"][0] == 2
    assert metrics.inferences("m")["fail"][0] == 1


def test_the_engine_room_is_watched():
    metrics = Metrics()
    flags = ("cut_short", "flat_fusion_cam:layer_cam+group_cam:15")
    done = SimpleNamespace(passes=Passes(13, 12), flags=flags, timing={"explain": 0.5, "masked_passes": 1.5})
    metrics.queued("m", 4)
    metrics.chunk("m", 6, 8, 0.1)
    metrics.finished("m", done)
    metrics.fallback("m", "one by one")
    found, m = figures(metrics.shown()), ("model", "m")
    assert found["fusioncam_queue_waiting", m] == 4
    assert found["fusioncam_chunk_fill_sum", m] == 0.75
    assert found["fusioncam_passes_sum", m] == 13
    assert found["fusioncam_stage_seconds_sum", m, ("stage", "masked_passes")] == 1.5
    assert found["fusioncam_fallbacks_total", m, ("reason", "one by one")] == 1
    # There is no end of fused methods: their parts are left out.
    assert found["fusioncam_flags_total", ("flag", "flat_fusion_cam"), m] == 1
    assert metrics.stages("m") == {"explain": (1, 0.5), "masked_passes": (1, 1.5)}


CHILD = """
import os, sys
from fusioncam.runtime.service.metrics import Metrics, process_ended
metrics = Metrics()
metrics.queued("m", int(sys.argv[1]))
metrics.answered("/v2", "m", 200, 0.5)
metrics.inferred("m", "success", 0.25)
if sys.argv[2:]:
    process_ended(int(sys.argv[2]))
    print(metrics.shown().decode())
    print("#", metrics.inferences("m"), metrics.last_inference("m") > 0)
else:
    print(os.getpid())
"""


def test_several_processes_add_up_and_the_dead_wait_for_nothing(tmp_path):
    def child(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, arguments)],
            env=os.environ | {SHARED: str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    shown = child(3, int(child(4)))
    found = figures(shown)
    assert found["fusioncam_requests_total", ("model", "m"), ("route", "/v2"), ("status", "200")] == 2
    assert found["fusioncam_queue_waiting", ("model", "m")] == 3
    assert "'success': (2, 0.5)" in shown
    assert shown.rstrip().endswith("True")


def test_a_process_by_itself_shares_nothing(monkeypatch):
    monkeypatch.delenv(SHARED, raising=False)
    process_ended(1)
