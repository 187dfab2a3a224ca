"""Targets over gRPC: the tensors that name them, and rows of answers."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as triton

from fusioncam import Box, Explainer, Region
from fusioncam.output import encode_png
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.service import Service


@pytest.fixture(scope="module")
def segmenter(target_bundle):
    return Explainer(target_bundle("segment").bundle)


def test_points_are_rows_once_and_in_a_stream(segmenter, running, as_input, photo):
    batcher = Batcher("s", lambda: segmenter.pipeline)
    points = np.array([[3, 4], [30, 20]], np.float32)
    inputs = [
        as_input("image_bytes", np.array([photo], object), "BYTES"),
        as_input("point", points, "FP32"),
    ]
    names = ("fusion_cam", "title", "score", "region")
    outputs = [triton.InferRequestedOutput(name) for name in names]
    expected = [segmenter.explain(photo, target=Region(point=point)) for point in points.tolist()]
    with running(Service.of({"s": batcher})) as (address, _), triton.InferenceServerClient(address) as client:
        once = client.infer("s", inputs, outputs=outputs, parameters={"budget": "exact", "peak": False})
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("s", inputs, outputs=outputs, parameters={"budget": "exact"})
        while True:
            result, error = answers.get(timeout=20)
            assert error is None
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
        client.stop_stream()
    for found in (once, result):
        np.testing.assert_allclose(found.as_numpy("fusion_cam"), [e.maps["fusion_cam"] for e in expected], atol=1e-6)
        np.testing.assert_allclose(found.as_numpy("region"), [e.region_share for e in expected], atol=1e-6)
        np.testing.assert_allclose(found.as_numpy("score"), [e.score for e in expected], rtol=1e-6)
        assert [title.decode() for title in found.as_numpy("title").ravel()] == [e.title for e in expected]


def test_detections_are_rows(detector, running, as_input):
    explainer = Explainer(detector, methods=["grad_cam"])
    photo = draw_scene(6, (192, 256), 3).image
    found = explainer.detections(photo)
    batcher = Batcher("d", lambda: explainer.pipeline)
    inputs = [
        as_input("image_bytes", np.array([encode_png(photo)], object), "BYTES"),
        as_input("detection", np.array([2, 0]), "INT64"),
    ]
    with running(Service.of({"d": batcher})) as (address, _), triton.InferenceServerClient(address) as client:
        answer = client.infer("d", inputs, parameters={"methods": "grad_cam", "by": "box", "conf": 0.3})
    expected = [explainer.explain(photo, target=Box(box=found[n].box, by="box")) for n in (2, 0)]
    np.testing.assert_allclose(answer.as_numpy("grad_cam"), [e.maps["grad_cam"] for e in expected], atol=1e-6)
    np.testing.assert_allclose(answer.as_numpy("box"), [e.box for e in expected], rtol=1e-5)
    assert answer.as_numpy("label").ravel().tolist() == [e.label.encode() for e in expected]
