"""config.pbtxt, read with Triton's own definitions and held against the graphs themselves."""

import json

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from fusioncam.export.triton.configs import Deployment
from fusioncam.export.triton.prototext import Word, text
from fusioncam.export.triton.tensors import Interface, Tensor, write_whole

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(int64)": "TYPE_INT64"}
GRAPHS = ("tiny_explain", "tiny_score", "tiny_single")


@pytest.fixture
def configs(backend, write, tmp_path):
    """Writes a repository; gives its configurations by name, and where it is."""

    def configs(**options):
        write(tmp_path / "repo", **options)
        return {p.parent.name: backend.read_config(p) for p in (tmp_path / "repo").glob("*/config.pbtxt")}

    return configs


def test_what_graphs_take_and_give_is_what_their_files_say(configs, tmp_path):
    for name, config in configs(form="both").items():
        assert config.name == name
        if name not in GRAPHS:
            continue
        assert config.backend == "onnxruntime"
        session = onnxruntime.InferenceSession(tmp_path / "repo" / name / "1" / "model.onnx")
        sides = ((config.input, session.get_inputs()), (config.output, session.get_outputs()))
        for said, real in sides:
            dims = [[d if isinstance(d, int) else -1 for d in r.shape] for r in real]
            if config.max_batch_size:  # Triton puts the batch before what is said
                assert {d[0] for d in dims} == {-1}
                dims = [d[1:] for d in dims]
            assert [(s.name, DataType.Name(s.data_type), list(s.dims)) for s in said] == [
                (r.name, TYPES[r.type], d) for r, d in zip(real, dims, strict=True)
            ]


def test_graphs_are_those_of_the_bundle(configs, bundle, pictures, tmp_path):
    configs(form="both")
    x = pictures[0][None]
    for graph, name in (("fusioncam.onnx", "tiny_single"), ("score.onnx", "tiny_score")):
        feeds = {"image": x} | ({"class_index": np.array([2])} if "single" in name else {})
        sessions = [
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in (bundle / graph, tmp_path / "repo" / name / "1" / "model.onnx")
        ]
        for one, other in zip(*(s.run(None, feeds) for s in sessions), strict=True):
            np.testing.assert_array_equal(one, other)
    assert {p.name for p in (tmp_path / "repo" / "tiny_score" / "1").iterdir()} == {"model.onnx"}


def test_weights_beyond_a_message_lie_beside(bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("fusioncam.export.triton.tensors.LARGEST", 1000)
    write_whole(bundle / "score.onnx", tmp_path / "model.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "weights.bin"}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.run(None, {"image": pictures[0][None]})[0].shape == (1, 5)


def test_warm_ups_are_requests_the_model_takes(configs, backend, tmp_path):
    server = backend.Server(tmp_path / "repo")
    for name, config in configs(form="both").items():
        assert bool(config.model_warmup) == (name in GRAPHS)
        for warmup in config.model_warmup:
            assert warmup.batch_size <= config.max_batch_size
            rows = [warmup.batch_size] if config.max_batch_size else []
            feeds = {
                n: np.zeros([*rows, *i.dims], backend.TYPES[DataType.Name(i.data_type)])
                for n, i in warmup.inputs.items()
            }
            server.run(name, 1, [o.name for o in config.output], feeds)


def test_scores_are_batched_in_chunks(configs):
    score = configs(form="bls", kind="gpu")["tiny_score"]
    assert score.max_batch_size == 64
    assert list(score.dynamic_batching.preferred_batch_size) == [64]
    assert score.dynamic_batching.max_queue_delay_microseconds > 0
    assert [w.batch_size for w in score.model_warmup] == [1, 64]


def test_instances_and_where_they_run(configs):
    found = configs(form="both", kind="gpu", instances=3)
    groups = {name: (c.instance_group[0].count, c.instance_group[0].kind) for name, c in found.items()}
    gpu, cpu = ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_CPU
    assert groups == {"tiny_explain": (1, gpu), "tiny_score": (1, gpu), "tiny": (3, cpu), "tiny_single": (3, gpu)}
    assert found["tiny"].parameters["chunk"].string_value == "64"


def accelerators(config):
    found = config.optimization.execution_accelerators.gpu_execution_accelerator
    return {a.name: dict(a.parameters) for a in found}


def test_tensorrt_gets_one_range_of_batches(configs):
    found = configs(form="both", tensorrt=True)
    options = accelerators(found["tiny_score"])
    assert list(options) == ["tensorrt", "cuda"]
    profile = {end: options["tensorrt"][f"trt_profile_{end}_shapes"] for end in ("min", "opt", "max")}
    assert profile == {"min": "image:1x3x24x32", "opt": "image:64x3x24x32", "max": "image:64x3x24x32"}
    assert options["tensorrt"]["precision_mode"] == "FP32"
    assert options["tensorrt"]["trt_engine_cache_enable"] == "true"
    # Refused by onnxruntime where TensorRT takes a graph in parts, and of no use where batches do not vary.
    assert not any("profile" in o for n in ("tiny_single", "tiny_explain") for o in accelerators(found[n])["tensorrt"])
    assert {found[n].instance_group[0].kind for n in GRAPHS} == {ModelInstanceGroup.KIND_GPU}
    assert not accelerators(found["tiny"])


def test_nothing_of_gpus_on_a_cpu(configs):
    found = configs(form="both", instances=2)
    assert not any(accelerators(c) or "cudnn_conv_algo_search" in c.parameters for c in found.values())
    assert found["tiny_single"].parameters["share_session_between_instances"].string_value == "true"
    assert found["tiny_score"].parameters["enable_mem_pattern"].string_value == "false"


def test_a_gpu_computes_in_full_float32(configs):
    found = configs(form="both", kind="gpu")
    assert {accelerators(found[n])["cuda"]["use_tf32"] for n in GRAPHS} == {"0"}


def test_float16_without_a_gradient(configs, half):
    found = configs(form="bls", source=half, tensorrt=True, methods=("score_cam",))
    assert found["tiny_score"].input[0].data_type == DataType.Value("TYPE_FP16")
    assert accelerators(found["tiny_score"])["tensorrt"]["precision_mode"] == "FP16"
    assert accelerators(found["tiny_explain"])["tensorrt"]["precision_mode"] == "FP32"
    tf32 = {n: accelerators(found[n])["cuda"].get("use_tf32") for n in ("tiny_score", "tiny_explain")}
    assert tf32 == {"tiny_score": None, "tiny_explain": "0"}, "float16 keeps its tensor cores, the gradient is exact"
    assert {c.optimization.graph.level for n, c in found.items() if n in GRAPHS} == {-1}
    assert [o.name for o in found["tiny_explain"].output] == ["logits", "activations"]
    assert not (half.parent / "repo").exists()


def test_labels_name_the_numbers(configs, bundle, tmp_path):
    found = configs(form="both")
    labelled = {(n, o.name) for n, c in found.items() for o in c.output if o.label_filename}
    assert labelled == {("tiny", "logits"), ("tiny", "probabilities"), ("tiny_single", "logits")}
    wanted = json.loads((bundle / "manifest.json").read_bytes())["labels"]
    for name in ("tiny", "tiny_single"):
        assert (tmp_path / "repo" / name / "labels.txt").read_text(encoding="utf-8").splitlines() == wanted
    assert not (tmp_path / "repo" / "tiny_score" / "labels.txt").exists()


def test_both_forms_take_any_request_of_the_protocol(configs):
    found = configs(form="both")
    assert all(i.optional for i in found["tiny"].input)
    assert [i.name for i in found["tiny"].input] == ["image", "image_bytes", "class_index", "method", "budget"]
    assert all(c.version_policy.latest.num_versions == 2 for c in found.values())


def test_text_is_what_protobuf_reads():
    nasty = 'a "quoted"\\ line\n\twith élan \N{SNOWMAN} {}'
    config: ModelConfig = text_format.Parse(
        text(
            [
                "A comment",
                ("name", nasty),
                ("max_batch_size", 3),
                ("input", Tensor("i", "TYPE_FP32", (-1, 2), optional=True).message),
                ("version_policy", [("latest", [("num_versions", 1)])]),
                ("instance_group", ["Within", ("kind", Word("KIND_CPU"))]),
            ]
        ),
        ModelConfig(),
    )
    assert config.name == nasty
    assert (config.input[0].optional, list(config.input[0].dims)) == (True, [-1, 2])
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_CPU


def test_the_batch_is_left_out_where_triton_adds_it():
    of = Interface((Tensor("a", "TYPE_FP32", (-1, 3)),), (Tensor("b", "TYPE_INT64", (-1,)),)).within_batch
    assert (of.inputs[0].dims, of.outputs[0].dims) == ((3,), ())
    assert (Deployment("cpu").chunk, Deployment("gpu").chunk) == (8, 64)
