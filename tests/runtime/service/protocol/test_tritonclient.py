"""NVIDIA's own client, unchanged, against the service."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tritonclient.http")

# In a process of its own, as gevent would have its way with this one. Prints what it finds as JSON.
CLIENT = """
import json, sys
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

address, folder = sys.argv[1:]
x, photo = np.load(folder + "/x.npy"), open(folder + "/photo.png", "rb").read()
client = http.InferenceServerClient(address, concurrency=4)
found = {
    "live": [client.is_server_live(), client.is_server_ready()],
    "ready": [client.is_model_ready("m"), client.is_model_ready("m", "1"), client.is_model_ready("n")],
    "server": client.get_server_metadata(),
    "model": client.get_model_metadata("m"),
    "config": client.get_model_config("m", "1"),
    "index": client.get_model_repository_index(),
}

def tensor(name, values, datatype, binary):
    made = http.InferInput(name, list(values.shape), datatype)
    return made.set_data_from_numpy(values, binary_data=binary)

NAMES = ("fusion_cam", "logits", "probabilities", "class_index")
tails = []
for sent in (None, "gzip", "deflate"):
    for back in (None, "gzip", "deflate"):
        for binary in (True, False):
            result = client.infer(
                "m",
                [tensor("image", x[None], "FP32", binary), tensor("class_index", np.array([2]), "INT64", binary),
                 tensor("budget", np.array([b"exact"], object), "BYTES", binary)],
                outputs=[http.InferRequestedOutput(n, binary_data=binary) for n in NAMES],
                request_compression_algorithm=sent, response_compression_algorithm=back, request_id="seven",
            )
            tails.append([result.as_numpy(n) for n in NAMES])
            assert result.get_response()["id"] == "seven"
            assert result._result["parameters"]["passes"] > 0
found["equal"] = all(np.array_equal(a, b) for tail in tails for a, b in zip(tail, tails[0]))
np.savez(folder + "/found.npz", **dict(zip(NAMES, tails[0])))

photos = [tensor("image_bytes", np.array([photo, photo], object), "BYTES", True)]
waiting = [client.async_infer("m", photos, parameters={"method": "grad_cam,layer_cam"}) for _ in range(6)]
found["async"] = [{n: list(w.as_numpy(n).shape) for n in ("grad_cam", "layer_cam", "logits")}
                  for w in [w.get_result(timeout=60) for w in waiting]]
best = client.infer("m", photos, outputs=[http.InferRequestedOutput("logits", class_count=2)])
found["best"] = [[text.decode() for text in row] for row in best.as_numpy("logits")]
found["statistics"] = client.get_inference_statistics("m")["model_stats"][0]
found["all"] = len(client.get_inference_statistics()["model_stats"])

errors = []
for bad in ({"model_version": "2"}, {"parameters": {"method": "none"}}, {"timeout": 1}, {"inputs": photos * 2}):
    try:
        client.infer(**{"model_name": "m", "inputs": photos, **bad})
    except InferenceServerException as error:
        errors.append([error.status(), error.message()])
found["errors"] = errors
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(address, pictures, tmp_path_factory):
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("triton")
    np.save(folder / "x.npy", pictures[0])
    cv2.imwrite(str(folder / "photo.png"), np.random.default_rng(5).integers(0, 256, (40, 50, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT, address, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"arrays": dict(np.load(folder / "found.npz"))}


def test_health_and_models(found):
    assert found["live"] == [True, True]
    assert found["ready"] == [True, True, False]
    assert found["server"]["name"] == "fusioncam"
    assert "binary_tensor_data" in found["server"]["extensions"]
    assert found["index"] == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]


def test_metadata_and_configuration_name_the_same_tensors(found):
    info, config = found["model"], found["config"]
    assert info["versions"] == ["1"]
    assert {"name": "image", "datatype": "FP32", "shape": [-1, 3, 24, 32]} in info["inputs"]
    assert {"name": "fusion_cam", "datatype": "FP32", "shape": [-1, 24, 32]} in info["outputs"]
    for kind, key in (("inputs", "input"), ("outputs", "output")):
        assert [t["name"] for t in info[kind]] == [t["name"] for t in config[key]]
    assert config["fusioncam"]["channels"] == 12
    assert config["fusioncam"]["labels"] is None


def test_every_way_to_send_gives_the_same_bits_which_are_the_explainers(found, explained):
    assert found["equal"]
    arrays = found["arrays"]
    np.testing.assert_allclose(arrays["fusion_cam"], explained.maps["fusion_cam"][None], atol=1e-6)
    np.testing.assert_allclose(arrays["logits"], explained.logits[None], atol=1e-5)
    np.testing.assert_allclose(arrays["probabilities"][0, 2], explained.probability, atol=1e-6)
    assert arrays["class_index"].tolist() == [2]


def test_many_at_a_time_and_classifications(found):
    assert found["async"] == [{"grad_cam": [2, 24, 32], "layer_cam": [2, 24, 32], "logits": [2, 5]}] * 6
    first, second = found["best"]
    assert first == second
    assert len(first) == 2
    assert float(first[0].split(":")[0]) >= float(first[1].split(":")[0])


def test_statistics_count_what_was_done(found):
    said = found["statistics"]
    assert said["inference_stats"]["success"]["count"] == 18 + 6 + 1
    assert said["inference_count"] == 18 + 2 * (6 + 1)
    assert said["inference_stats"]["compute_infer"]["ns"] > 0
    assert said["last_inference"] > 0
    assert found["all"] == 1


def test_errors_come_with_their_line(found):
    (version, method, late, twice) = found["errors"]
    assert version == ["404", "model 'm' has version 1, not '2'"]
    assert method[0] == "400"
    assert "there is no output or method 'none'" in method[1]
    assert late[0] == "504"
    assert twice == ["400", "input 'image_bytes' is given twice: give it once"]
