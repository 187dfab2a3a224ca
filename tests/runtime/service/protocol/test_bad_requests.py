"""What is wrong with a request is told in one line, before anything is explained."""

import base64
import json
import struct

import cv2
import numpy as np
import pytest

LENGTH = "Inference-Header-Content-Length"
PHOTO = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
IN_BASE64 = base64.b64encode(PHOTO).decode()


def photos(*data, shape=None):
    return {"name": "image_bytes", "shape": shape or [len(data)], "datatype": "BYTES", "data": list(data)}


def element(data):
    return struct.pack("<I", len(data)) + data


def output(name, **parameters):
    return [{"name": name, "parameters": parameters}]


IMAGE = {"name": "image", "shape": [1, 3, 24, 32], "datatype": "FP32"}
ZEROS = {**IMAGE, "data": [0] * 2304}
CLASS = {"name": "class_index", "shape": [1], "datatype": "INT64", "data": [1]}
MANY = [{"name": f"fusion_cam:layer_cam+group_cam:{n}"} for n in range(40)]
BAD_JSON = {
    "no inputs": ({"inputs": []}, "inputs"),
    "unknown member": ({"inputs": [ZEROS], "more": 1}, "more"),
    "unknown input": ({"inputs": [{**ZEROS, "name": "picture"}]}, "there is no input 'picture'"),
    "no picture": ({"inputs": [CLASS]}, "give the picture once"),
    "two pictures": ({"inputs": [ZEROS, photos(IN_BASE64)]}, "give the picture once"),
    "twice": ({"inputs": [ZEROS, ZEROS]}, "given twice"),
    "datatype": ({"inputs": [{**ZEROS, "datatype": "INT64"}]}, "of datatype FP32, not INT64"),
    "no such datatype": ({"inputs": [{**ZEROS, "datatype": "FP64"}]}, "inputs.0.datatype"),
    "shape": ({"inputs": [{**ZEROS, "shape": [1, 3, 32, 24]}]}, "(1, 3, 24, 32)"),
    "negative": ({"inputs": [{**ZEROS, "shape": [-1, 3, 24, 32]}]}, "inputs.0.shape.0"),
    "huge": ({"inputs": [{**ZEROS, "shape": [1 << 40, 1 << 40, 1 << 40]}]}, "values, not 2304"),
    "beyond": ({"inputs": [{**ZEROS, "shape": [1 << 70]}]}, "inputs.0.shape.0"),
    "no values": ({"inputs": [IMAGE]}, "needs its values once"),
    "values twice": ({"inputs": [{**ZEROS, "parameters": {"binary_data_size": 0}}]}, "needs its values once"),
    "no list": ({"inputs": [{**IMAGE, "data": {"a": 1}}]}, "must be a list of FP32 numbers"),
    "texts": ({"inputs": [{**IMAGE, "data": ["0"] * 2304}]}, "must be a list of FP32 numbers"),
    "null": ({"inputs": [{**IMAGE, "data": [None] * 2304}]}, "must be a list of FP32 numbers"),
    "ragged": ({"inputs": [{**IMAGE, "data": [[1, 2], [3]]}]}, "must be a list of FP32 numbers"),
    "nested otherwise": ({"inputs": [{**IMAGE, "data": [[0] * 2304]}]}, "its shape (1, 3, 24, 32)"),
    "too few": ({"inputs": [{**IMAGE, "data": [0] * 2303}]}, "2304 values, not 2303"),
    "too large": ({"inputs": [{**IMAGE, "data": [1e300] * 2304}]}, "NaN or infinity"),
    "far": ({"inputs": [{**IMAGE, "data": [1e30] * 2304}]}, "from 1e+30 to 1e+30, but pictures lie between -2 and 2"),
    "too large for any": ({"inputs": [{**IMAGE, "data": [10**400] * 2304}]}, "must be a list of FP32 numbers"),
    "too many pictures": ({"inputs": [photos(*[IN_BASE64] * 17)]}, "1 to 16 pictures, not 17"),
    "no pictures": ({"inputs": [{**photos(IN_BASE64), "shape": [0], "data": []}]}, "must be a list of texts"),
    "not base64": ({"inputs": [photos("?" * 8)]}, "the picture is not base64"),
    "number for text": ({"inputs": [photos(1)]}, "must be a list of texts"),
    "no photo": ({"inputs": [photos(IN_BASE64, "AAAA")]}, "picture 1 is not of a supported format"),
    "empty photo": ({"inputs": [photos("")]}, "the picture is empty"),
    "photos in rows": ({"inputs": [photos(IN_BASE64, shape=[1, 1, 1])]}, "'image_bytes' must be of shape (1,)"),
    "shared memory": ({"inputs": [{**IMAGE, "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
    "tensor parameter": ({"inputs": [{**ZEROS, "parameters": {"binary": 1}}]}, "unknown parameter 'binary'"),
    "parameter": ({"inputs": [ZEROS], "parameters": {"clas_index": 1}}, "there is no parameter 'clas_index'"),
    "class": ({"inputs": [ZEROS], "parameters": {"class_index": 5}}, "there is no class 5: the model has 5, 0 to 4"),
    "class below": ({"inputs": [ZEROS], "parameters": {"class_index": -2}}, "there is no class -2"),
    "class text": ({"inputs": [ZEROS], "parameters": {"class_index": "cat"}}, "must be a whole number, not 'cat'"),
    "class truth": ({"inputs": [ZEROS], "parameters": {"class_index": True}}, "must be a whole number, not True"),
    "method": ({"inputs": [ZEROS], "parameters": {"method": "camera"}}, "no output or method 'camera'"),
    "figure": ({"inputs": [ZEROS], "parameters": {"method": "explained"}}, "'explained' is no method: ask for it"),
    "class name": ({"inputs": [ZEROS], "parameters": {"class": "x" * 99999}}, "xxx... in; give the class's number"),
    "method number": ({"inputs": [ZEROS], "parameters": {"method": 1}}, "names of methods"),
    "recipe": ({"inputs": [ZEROS], "parameters": {"method": "fusion_cam:a+b"}}, "no output or method"),
    "budget": ({"inputs": [ZEROS], "parameters": {"budget": "much"}}, "no budget 'much'"),
    "budget zero": ({"inputs": [ZEROS], "parameters": {"budget": 0}}, "no budget 0"),
    "timeout": ({"inputs": [ZEROS], "parameters": {"timeout": -1}}, "microseconds"),
    "binary": ({"inputs": [ZEROS], "parameters": {"binary_data_output": "yes"}}, "true or false"),
    "output": ({"inputs": [ZEROS], "outputs": [{"name": "saliency"}]}, "no output or method 'saliency'"),
    "output twice": ({"inputs": [ZEROS], "outputs": [{"name": "logits"}] * 2}, "'logits' is asked for twice"),
    "outputs without end": ({"inputs": [ZEROS], "outputs": MANY}, "40 methods"),
    "classification": ({"inputs": [ZEROS], "outputs": output("logits", classification=6)}, "at most 5"),
    "classified map": ({"inputs": [ZEROS], "outputs": output("grad_cam", classification=1)}, "as a classification"),
    "verify": ({"inputs": [ZEROS], "parameters": {"verify": "yes"}}, "verify must be true or false, not 'yes'"),
    "output elsewhere": ({"inputs": [ZEROS], "outputs": output("logits", shared_memory_region="r")}, "shared memory"),
    "output parameter": ({"inputs": [ZEROS], "outputs": output("logits", binary=True)}, "unknown parameter 'binary'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_is_told_what_is_wrong(refused, told, case):
    sent, words = BAD_JSON[case]
    assert words in refused(json=sent)
    assert not told.jobs


JSON = {"Content-Type": "application/json"}
BAD_BODIES = {
    "empty": (b"", {}, "the body is empty: send JSON, JSON and binary tensors, or a photo"),
    "no json": (b"picture", JSON, "JSON cannot be read"),
    "a photo": (PHOTO, JSON, "for a photo as the whole body send Content-Type: image/jpeg"),
    "nan": (b'{"inputs":[NaN]}', {}, "JSON cannot be read"),
    "deep": (b"[" * 100_000, {}, "recursion limit"),
    "number": (b"1" * 10_000, JSON, "number out of range"),
    "list": (b"[]", {}, "the request"),
    "not utf-8": (b'{"id":"\xff"}', {}, "JSON cannot be read"),
    "many values": (b'{"inputs":[' + b"0," * 150_000 + b"0]}", {}, "more than 36,864 values"),
    "length": (b"{}", {LENGTH: "3"}, "is 3, but the body has 2 bytes"),
    "no length": (b"{}", {LENGTH: "-1"}, "must be a number of bytes, not '-1'"),
    "half": (b'{"inputs":[]}', {LENGTH: "4"}, "JSON cannot be read"),
    "not a photo": (b"picture", {LENGTH: "0"}, "not of a supported format"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_bodies_are_told_what_is_wrong(refused, case):
    content, headers, words = BAD_BODIES[case]
    assert words in refused(content=content, headers=headers)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (("image", "FP32", (1, 3, 24, 32), bytes(9215)), "has 9216 bytes, not 9215"),
        (("image", "FP32", (1, 3, 24, 32), np.full(2304, np.nan, np.float32).tobytes()), "NaN or infinity"),
        (("image_bytes", "BYTES", (1,), b"\xff\xff\xff\xff" + PHOTO), "is cut short"),
        (("image_bytes", "BYTES", (1,), b"\0\0"), "is cut short"),
        (("image_bytes", "BYTES", (2,), element(PHOTO)), "has 2 values, not 1"),
        (("image_bytes", "BYTES", (1,), element(PHOTO) * 2 + b"which nobody reads"), "has 1 values, not more"),
        (("image_bytes", "BYTES", (1025,), bytes(4 * 1025)), "has more than 1,024 values"),
        (("class_index", "INT64", (1025,), bytes(8 * 1025)), "has more than 1,024 values"),
        (("image_bytes", "BYTES", (1,), element(PHOTO[:-9])), "damaged or cut short"),
        (("method", "BYTES", (1,), element(b"\xff")), "must be text in UTF-8"),
        (("class_index", "INT64", (1,), bytes(7)), "has 8 bytes, not 7"),
    ],
)
def test_bad_binary_tensors_are_told_what_is_wrong(refused, tensor, words, behind):
    assert words in refused(**behind(tensor))


def test_sizes_of_binary_tensors_that_lie(refused, behind):
    for size, words in ((9217, "but 9216 are left"), (-1, "must be a number of bytes"), (True, "must be a number")):
        text = json.dumps({"inputs": [{**IMAGE, "parameters": {"binary_data_size": size}}]}).encode()
        assert words in refused(content=text + bytes(9216), headers={LENGTH: str(len(text))})
    sent = behind(("image", "FP32", (1, 3, 24, 32), bytes(9216)))
    assert "4 bytes of the body belong to no input" in refused(
        content=sent["content"] + b"more", headers=sent["headers"]
    )


def test_a_class_for_each_picture_or_one_for_all(refused, pictures, behind):
    data = np.stack(pictures[:2])
    images = ("image", "FP32", data.shape, data.tobytes())
    assert "3 class numbers for 2 pictures" in refused(**behind(images, ("class_index", "INT64", (3,), b"\x7f" * 24)))
    assert "a row per picture" in refused(**behind(images, ("class_index", "INT64", (1, 2), bytes(16))))
