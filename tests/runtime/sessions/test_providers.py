import mmap
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from fusioncam.runtime.providers import options as provider_options
from fusioncam.runtime.providers.options import with_defaults
from fusioncam.runtime.providers.spec import Use
from fusioncam.runtime.providers.table import CPU, CUDA, TENSORRT
from fusioncam.runtime.sessions import failures

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


LOAD = (
    "\x1b[1;31m2026-11-23 06:04:50.058 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "/venv/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: {}\n\x1b[m\n"
    "\x1b[0;93m2026-11-23 06:04:50.058 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 "
    "CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. "
    "Please install all dependencies as mentioned in the GPU requirements page, make sure they're in the PATH.\x1b[m"
)
ABSENT = LOAD.format("{}: cannot open shared object file: No such file or directory")
PARSE = "FromProviderOptions() [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse "
DRIVER = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void> "
    "onnxruntime::CudaCall() [with ERRTYPE = cudaError; bool THRW = true] CUDA failure {} ; GPU=-1 ; hostname=a ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice"
)


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        (ABSENT.format("libcublasLt.so.13"), "libcublasLt.so.13 (CUDA) is missing", failures.GET_GPU),
        (ABSENT.format("libcublas.so.13"), "libcublas.so.13 (CUDA) is missing", failures.GET_GPU),
        (ABSENT.format("libcurand.so.10"), "libcurand.so.10 (CUDA) is missing", failures.GET_GPU),
        (ABSENT.format("libcudart.so.13"), "libcudart.so.13 (CUDA) is missing", failures.GET_GPU),
        (ABSENT.format("libcudnn.so.9"), "libcudnn.so.9 (cuDNN) is missing", failures.GET_GPU),
        (ABSENT.format("libnvinfer.so.10"), "libnvinfer.so.10 (TensorRT) is missing", failures.GET_TENSORRT),
        (ABSENT.format("libnvonnxparser.so.10"), "libnvonnxparser.so.10 (TensorRT) is missing", failures.GET_TENSORRT),
        (ABSENT.format("libcuda.so.1"), "libcuda.so.1 (NVIDIA's driver) is missing", failures.GET_DRIVER),
        (ABSENT.format("libz.so.1"), "libz.so.1 (which it needs) is missing", "install libz.so.1"),
        (
            DRIVER.format("35: CUDA driver version is insufficient for CUDA runtime version"),
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
            failures.GET_DRIVER,
        ),
        (
            PARSE
            + 'Failed to parse provider option "device_id": CUDA failure 100: no CUDA-capable device is detected ;',
            "CUDA failure 100: no CUDA-capable device is detected",
            failures.GET_DRIVER,
        ),
        (
            DRIVER.format("2: out of memory"),
            "CUDA failure 2: out of memory",
            "free memory of the GPU, or take a smaller chunk",
        ),
        (
            DRIVER.format("719: unspecified launch failure"),
            "CUDA failure 719: unspecified launch failure",
            "see what nvidia-smi says of the GPU",
        ),
        (
            PARSE + 'Failed to parse provider option "device_id": Invalid device ID: 7, must be between 0 (inclusive) '
            "and 1 (exclusive).",
            "Invalid device ID: 7, must be between 0 (inclusive) and 1 (exclusive)",
            failures.CORRECT,
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : cuDNN is not available. Install cuDNN, update the system "
            "library search path, or set enable_cudnn=0 to force native CUDA paths where available.",
            "cuDNN is not available",
            failures.GET_GPU,
        ),
        (PARSE + 'Unknown provider option: "nonsense".', 'Unknown provider option: "nonsense"', failures.CORRECT),
        (
            PARSE + 'Failed to parse provider option "use_tf32": parse_string.h:116 Failed to parse value: "1"',
            'Failed to parse provider option "use_tf32"',
            failures.CORRECT,
        ),
        ("x.cc:1 Invalid TensorRT EP option: nonsense", "Invalid TensorRT EP option: nonsense", failures.CORRECT),
        (
            "[ERROR] [TensorRT] The value for the key 'trt_fp16_enable' should be 'True' or 'False'. Default value is "
            "'False'.\n",
            "The value for the key 'trt_fp16_enable' should be 'True' or 'False'. Default value is 'False'",
            failures.CORRECT,
        ),
        (
            "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP could not deserialize engine from cache: /c/a_sm86.engine",
            "could not deserialize engine",
            failures.REBUILD,
        ),
        (
            "[2026-11-23 06:04:50 ERROR] IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
            "assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match.",
            "Serialization assertion",
            failures.REBUILD,
        ),
        (
            LOAD.format("/venv/libnvinfer.so.10: undefined symbol: getPluginRegistry"),
            "undefined symbol: getPluginRegistry",
            failures.GET_MATCHING,
        ),
        (
            LOAD.format("/usr/lib/libcublas.so.13: version `libcublas.so.13.1' not found (required by x)"),
            "version `libcublas.so.13.1' not found",
            failures.GET_MATCHING,
        ),
    ],
)
def test_the_reason_and_the_remedy_are_read_from_what_onnxruntime_says(text, why, remedy):
    assert failures.diagnose(f"a warning of something else\n{text}\nmore") == (why, remedy)


@pytest.mark.parametrize("text", ["", "Load model failed", "CUDA failure", "cannot open shared object file"])
def test_nothing_is_made_up(text):
    assert failures.diagnose(text) is None
