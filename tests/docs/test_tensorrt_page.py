"""Commands for NVIDIA's tools name files, inputs and shapes as the export writes them."""

import re
import shlex
from pathlib import Path

import onnx
import pytest

from fusioncam.export import export_model
from fusioncam.runtime.demo import MODEL

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy" / "tensorrt.md"
SHAPES = ("--minShapes", "--optShapes", "--maxShapes")


def commands():
    """The commands that build an engine: the program, and its options."""
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line)
            if program in ("trtexec", "tensorrt_rtx"):
                yield program, dict(word.partition("=")[::2] for word in words)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "model.fcam"
    export_model(MODEL, folder, single=True)
    return folder


def test_files_inputs_and_shapes_are_those_of_the_export(bundle):
    found = set()
    for program, options in commands():
        path = bundle / Path(options["--onnx"]).name
        graph = onnx.load(path, load_external_data=False).graph
        inputs = {i.name: list(i.type.tensor_type.shape.dim) for i in graph.input}
        free = {name for name, dims in inputs.items() if any(d.dim_param for d in dims)}
        sizes = []
        for option in SHAPES:
            given = dict(shape.split(":") for shape in options.get(option, "").split(",") if shape)
            assert given.keys() == free, (path.name, option)
            assert all(len(given[name].split("x")) == len(inputs[name]) for name in free)
            sizes.append({int(shape.split("x")[0]) for shape in given.values()})
        if free:
            (least,), (best,), (most,) = sizes  # all inputs of a run have as many pictures
            assert least == 1 <= best <= most
        assert options["--saveEngine"].endswith(".engine")
        assert "--skipInference" in options  # a run of random pictures would tell nothing
        assert not options.keys() & {"--fp16", "--int8", "--best"}
        assert (program == "trtexec") == ("--stronglyTyped" in options)
        found.add(path.name)
    assert found == {"fusioncam.onnx", "explain.onnx", "score.onnx", "head.onnx"}
