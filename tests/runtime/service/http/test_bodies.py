"""A photo as curl sends it: alone, in a form, with the request's parameters in the address."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fusioncam import Class
from fusioncam.runtime.budget import auto, deadline
from fusioncam.runtime.photos.model_input import as_input

INFER = "/v2/models/m/infer"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", JPEG),
        ("POST", {"Content-Type": "Image/PNG; charset=binary"}),
        ("POST", {"Content-Type": "application/octet-stream"}),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}),  # curl --data-binary @photo.jpg
        ("PUT", {}),  # curl -T photo.jpg
        ("POST", {"Inference-Header-Content-Length": "0"}),  # Triton's raw binary request
    ],
)
def test_the_whole_body_is_the_photo(client, told, explainer, tmp_path, photo, method, headers):
    answer = client.request(method, f"{INFER}?methods=grad_cam", content=photo, headers=headers)
    assert answer.status_code == 200, answer.text
    (tmp_path / "photo.png").write_bytes(photo)
    expected = as_input(tmp_path / "photo.png", explainer.manifest.preprocessing)[1]
    np.testing.assert_array_equal(told.jobs[0].image, expected)


def test_json_is_json_whatever_curl_calls_it(client, told, request_of):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post(INFER, content=json.dumps(request_of(), indent=1), headers=headers).status_code == 200
    assert told.jobs[0].methods == ("grad_cam",)


@pytest.mark.parametrize("form", [False, True])
def test_parameters_are_those_of_the_json(client, told, photo, form):
    texts = {"methods": "layer_cam, score_cam", "budget": "80ms", "class_index": "3", "verify": "true", "timeout": "9"}
    texts |= {"explain_if": "class in 3", "binary_data_output": "1", "timeout": "9000000"}
    sent = {"files": {"image": ("a.png", photo)}, "data": texts} if form else {"content": photo, "params": texts}
    answer = client.post(INFER, **sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    (job,) = told.jobs
    assert (job.methods, job.budget, job.targets) == (("layer_cam", "score_cam"), deadline(0.08), [Class(3)])
    assert (job.verify, job.condition.text) == (True, "class in 3")
    assert job.deadline - job.arrived == pytest.approx(9)


def test_the_address_adds_to_a_request_in_json(client, told, request_of):
    answer = client.post(f"{INFER}?class=2&budget=auto", json=request_of())
    assert answer.status_code == 200
    assert (told.jobs[0].targets, told.jobs[0].budget, told.jobs[0].methods) == ([Class(2)], auto(), ("grad_cam",))


def test_a_stream_of_events_takes_them_too(client, told, photo):
    answer = client.post(f"{INFER}_stream?class_index=2&methods=grad_cam", content=photo, headers=JPEG)
    assert answer.status_code == 200
    assert told.jobs[0].targets == [Class(2)]


def test_a_form_with_several_photos(client, told, photo):
    files = [("image", ("a.png", photo)), ("image_bytes", ("b.png", photo))]
    said = client.post(f"{INFER}?methods=grad_cam", files=files).json()
    assert said["outputs"][0]["shape"] == [2, 24, 32]
    assert len(told.jobs) == 2


def test_a_name_that_is_given_goes_before_that_of_a_forms_file(client, photo):
    def panel(query, **sent):
        answer = client.post(f"{INFER}?picture=panel&methods=grad_cam{query}", **sent)
        assert answer.status_code == 200, answer.text
        return answer.content

    expected = panel("&name=b.png", content=photo)
    mine, other = {"image": ("b.png", photo)}, {"image": ("a.png", photo)}
    assert panel("", files=mine) == panel("&name=b.png", files=other) == expected
    assert panel("", files=other, data={"name": "b.png"}) == expected != panel("", files=other)


BAD = {
    "unknown": ("budgets=auto", "there is no query parameter 'budgets'; there are picture, colormap"),
    "twice": ("budget=auto&budget=exact", "the query parameter 'budget' is given twice"),
    "also in the body": ("method=layer_cam", "method is given twice, in the address and in the body"),
    "two classes": ("class=1&class_index=1", "class and class_index say the same: give one of them"),
    "two lists": ("methods=layer_cam", "methods and method say the same"),
    "no class": ("class=9", "there is no class 9"),
    "no labels": ("class=zebra", "the bundle has no labels to find 'zebra' in"),
    "no number": ("class_index=cat", "the query parameter class_index cannot be 'cat': input should be"),
    "no truth": ("verify=perhaps", "the query parameter verify cannot be 'perhaps'"),
    "no budget": ("budget=much", "no budget 'much'"),
    "no condition": ("explain_if=p", "no condition 'p'"),
    "no picture": ("picture=video", "the query parameter picture cannot be 'video': input should be 'ov"),
    "no colours": ("colormap=grey", "'grey'"),
    "no opacity": ("opacity=2", "opacity"),
    "infinite": ("opacity=inf", "the query parameter opacity cannot be 'inf'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_parameter_is_one_line(client, told, request_of, case):
    query, words = BAD[case]
    answer = client.post(f"{INFER}?{query}", json=request_of())
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert "\n" not in answer.text
    assert not told.jobs


BAD_FORMS = {
    "no photo": ({"data": {"budget": "auto"}, "files": {"other": ("a.png", b"")}}, "file in the field 'other'"),
    "unknown field": ({"data": {"budgets": "auto"}, "files": {"image": ("a", b"x")}}, "there is no field 'budgets'"),
    "no picture": ({"files": {"image": ("a.png", b"x")}}, "not of a supported format"),
    "too many": ({"files": [("image", ("a.png", b"x"))] * 65}, "the form cannot be read: Too many files"),
    "only fields": ({"files": {"budget": (None, "auto")}}, "the form has no photo: send one as a file in the"),
    "no form": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, "Invalid"),
    "cut": (
        {"content": b"--b\r\nContent-Disp", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        "the form",
    ),
    "no end": (
        {
            "content": b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n'
            b'--b\r\nContent-Disposition: form-data; name="methods"\r\n\r\ngrad_cam\r\n',
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        "the form is cut short: its last boundary, which ends in --, is missing",
    ),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, "Missing boundary"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FORMS)
def test_a_bad_form_is_one_line(refused, told, case):
    sent, words = BAD_FORMS[case]
    assert words in refused(**sent)
    assert not told.jobs


def test_a_bad_form_is_said_to_its_sender_not_to_the_log():
    code = (
        "import logging, logging.config\n"
        "from fusioncam.runtime.service.monitoring.logs import log_config\n"
        "from python_multipart.multipart import MultipartParser\n"
        "logging.config.dictConfig(log_config())\n"
        "try: MultipartParser(b'b').write(b'x')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("MultipartParseError\n", "")
