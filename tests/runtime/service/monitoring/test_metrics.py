"""What Prometheus is told, by one process and by several together."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from fusioncam.errors import BusyError
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.monitoring.samples import drop_gauges, sum_samples


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
    assert metrics.durations("inference", "m")["success"][0] == 2
    assert metrics.durations("inference", "m")["fail"][0] == 1


def test_the_engine_room_is_watched():
    metrics = Metrics()
    flags = ("cut_short", "flat_fusion_cam:layer_cam+group_cam:15")
    done = SimpleNamespace(passes=Passes(13, 12), flags=flags, timing={"explain": 0.5, "masked_passes": 1.5})
    metrics.queued("m", 4)
    metrics.chunk("m", 6, 8, 0.1)
    metrics.finished("m", done)
    metrics.fallback("m", "one by one")
    found, m = figures(metrics.exposition()), ("model", "m")
    assert found["fusioncam_queue_waiting", m] == 4
    assert found["fusioncam_chunk_fill_sum", m] == 0.75
    assert found["fusioncam_passes_sum", m] == 13
    assert found["fusioncam_stage_seconds_sum", m, ("stage", "masked_passes")] == 1.5
    assert found["fusioncam_fallbacks_total", m, ("reason", "one by one")] == 1
    # There is no end of fused methods: their parts are left out.
    assert found["fusioncam_flags_total", ("flag", "flat_fusion_cam"), m] == 1
    assert metrics.durations("stage", "m") == {"explain": (1, 0.5), "masked_passes": (1, 1.5)}


def counted(waiting, seconds):
    metrics = Metrics()
    metrics.queued("m", waiting)
    metrics.answered("/v2", "m", 200, seconds)
    metrics.inferred("m", "success", seconds)
    return json.loads(json.dumps(metrics.samples()))  # as they come from another process


def test_several_processes_add_up_and_the_dead_wait_for_nothing():
    dead, other = counted(4, 0.25), counted(3, 0.5)
    metrics = Metrics(lambda own: sum_samples([drop_gauges(dead), other, own]))
    metrics.answered("/v2", "m", 200, 0.5)
    found, m, route = figures(metrics.exposition()), ("model", "m"), ("route", "/v2")
    assert found["fusioncam_requests_total", m, route, ("status", "200")] == 3
    assert found["fusioncam_request_seconds_sum", route] == 1.25
    assert found["fusioncam_request_seconds_bucket", ("le", "0.2"), route] == 0
    assert found["fusioncam_request_seconds_bucket", ("le", "0.5"), route] == 3
    assert found["fusioncam_queue_waiting", m] == 3
    assert metrics.durations("inference", "m")["success"] == (2, 0.75)
    assert metrics.last_inference("m") == max(
        f["fusioncam_last_inference_timestamp_seconds"][0][2] for f in (dead, other)
    )


def test_figures_of_all_that_cannot_be_had_are_not_taken_for_zero(asking):
    def fail(own):
        raise BusyError("not now", 1)

    client = asking(Metrics(fail))
    for path in ("/metrics", "/v2/models/m/stats", "/v2/models/stats"):
        answer = client.get(path)
        assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, {"error": "not now"}, "1")


def test_nothing_is_counted_in_files_whatever_the_environment_says(tmp_path):
    code = (
        "from fusioncam.runtime.service import require_extra\nrequire_extra()\n"
        "from fusioncam.runtime.service.monitoring.metrics import Metrics\n"
        "m = Metrics()\nm.begun()\nprint(len(m.exposition()) > 100)"
    )
    names = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
    environment = os.environ | dict.fromkeys(names, str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("True\n", "", [])
