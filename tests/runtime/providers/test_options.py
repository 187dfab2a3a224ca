import mmap
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from fusioncam.runtime.providers import options as provider_options
from fusioncam.runtime.providers.options import with_defaults
from fusioncam.runtime.providers.spec import Use
from fusioncam.runtime.providers.table import CPU, CUDA, TENSORRT

SHAPES = {"image": (64, 3, 224, 224), "class_index": (64,)}
ONE, PROFILE = "image:1x3x224x224,class_index:1", "image:64x3x224x224,class_index:64"
ALL = Use(SHAPES, half=True, cache=Path("cache"), device=2, stream=94030, capture=True)


def test_cuda_is_told_how_it_will_be_used():
    assert with_defaults([CUDA], replace(ALL, half=False)) == [
        (
            CUDA,
            {
                "device_id": "2",
                "user_compute_stream": "94030",
                "cudnn_conv_algo_search": "HEURISTIC",
                "use_tf32": "0",
                "arena_extend_strategy": "kSameAsRequested",
                "enable_cuda_graph": "1",
            },
        )
    ]


def test_only_graphs_in_float32_do_without_tf32():
    """onnxruntime takes all plans with tensor cores away for it, also those in float16."""
    exact, half = (dict(with_defaults([CUDA], replace(ALL, half=half)))[CUDA] for half in (False, True))
    assert exact.pop("use_tf32") == "0"
    assert exact == half


def test_tensorrt_is_told_of_graphs_in_8_bits():
    assert with_defaults([TENSORRT], Use(int8=True)) == [(TENSORRT, {"device_id": "0", "trt_int8_enable": "True"})]


def test_tensorrt_is_told_how_it_will_be_used():
    assert with_defaults([TENSORRT], ALL) == [
        (
            TENSORRT,
            {
                "device_id": "2",
                "user_compute_stream": "94030",
                "trt_profile_min_shapes": ONE,
                "trt_profile_opt_shapes": PROFILE,
                "trt_profile_max_shapes": PROFILE,
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": "cache",
                "trt_timing_cache_enable": "True",
                "trt_timing_cache_path": "cache",
                "trt_fp16_enable": "True",
            },
        )
    ]


def test_what_was_not_said_is_left_to_onnxruntime():
    (_, cuda), (_, tensorrt) = with_defaults([CUDA, TENSORRT], Use())
    assert cuda.keys() == {"device_id", "cudnn_conv_algo_search", "use_tf32", "arena_extend_strategy"}
    assert tensorrt == {"device_id": "0"}


@pytest.mark.parametrize("given", [CPU, (CPU, {}), "CoreMLExecutionProvider", ("CoreMLExecutionProvider", {"a": "b"})])
def test_other_providers_stay_as_they_are(given):
    assert with_defaults([given], ALL) == [given]


def test_what_the_user_gave_wins():
    given = {"use_tf32": 1, "gpu_mem_limit": "2147483648"}
    (_, options), _ = with_defaults([(CUDA, given), CPU], ALL)
    assert {k: options[k] for k in given} == given
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert given == {"use_tf32": 1, "gpu_mem_limit": "2147483648"}


def test_only_the_first_provider_captures():
    (_, cuda), (_, tensorrt), _ = with_defaults([CUDA, TENSORRT, CPU], ALL)
    assert cuda["enable_cuda_graph"] == "1"
    assert not [option for option in tensorrt if "graph" in option]
    assert cuda["user_compute_stream"] == tensorrt["user_compute_stream"]


def test_nothing_is_captured_behind_tensorrt():
    for _, options in with_defaults([TENSORRT, CUDA], ALL):
        assert not [option for option in options if "graph" in option]


def contains(library, text):
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0


@pytest.fixture
def binaries():
    """By provider: the library that reads its options, and how a name stands there."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    if not [*folder.glob("*onnxruntime_providers_cuda.*")]:
        pytest.skip("this build of onnxruntime has no GPU providers")
    cuda, binding = (next(folder.glob(f"*{part}*")) for part in ("providers_cuda.", "pybind11_state."))
    return {CUDA: (cuda, "{}\0"), TENSORRT: (binding, "The value for the key '{}' should be")}


@pytest.mark.parametrize("name", [CUDA, TENSORRT])
def test_onnxruntime_knows_every_option(binaries, name):
    library, form = binaries[name]
    for option in {**with_defaults([name], replace(ALL, int8=True))[0][1], **with_defaults([name], Use())[0][1]}:
        assert contains(library, form.format(option).encode()), option
    assert not contains(library, form.format("no_such_option").encode())


def test_onnxruntime_knows_the_words(binaries):
    library, form = binaries[CUDA]
    for word in ("HEURISTIC", "kSameAsRequested"):
        assert contains(library, form.format(word).encode())


def test_onnxruntime_still_clears_the_output_of_a_fused_bias_on_another_stream(binaries):
    """Once it does not, `refuse_wrong_maps` can let that option through."""
    assert contains(binaries[CUDA][0], b"cudaMemset(s_.y_data, 0, s_.Y->SizeInBytes())")


def test_onnxruntime_still_says_so_in_these_words(binaries):
    assert contains(binaries[CUDA][0], b"cuDNN is not available")
    capture, profiles = provider_options.REFUSALS
    assert contains(binaries[TENSORRT][0], capture.encode())
    tensorrt = next(binaries[CUDA][0].parent.glob("*providers_tensorrt.*"))
    assert contains(tensorrt, profiles.encode())


@pytest.mark.parametrize(
    ("refusal", "rest"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as requested by the "
            "user  as all compute graph nodes have not been partitioned to the CUDAExecutionProvider",
            Use(SHAPES, stream=7),
        ),
        (
            "User needs to provide all the dynamic shape inputs with associated profiles if they want to explicitly "
            "set profiles through provider options.\nFollowing input(s) has no associated shape profiles provided: x",
            Use(stream=7, capture=True),
        ),
        ("CUDA failure 2: out of memory", None),
    ],
)
def test_what_is_refused_is_left_out(refusal, rest):
    assert provider_options.without_refused(Use(SHAPES, stream=7, capture=True), refusal) == rest
    assert provider_options.without_refused(Use(stream=7), refusal) is None
