import pytest

from fusioncam.runtime.sessions import failures

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
