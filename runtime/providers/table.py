"""The table of providers: a new one is a row here."""

import platform
from collections.abc import Mapping

from fusioncam.manifest import CHUNK, GPU_CHUNK
from fusioncam.runtime.providers.spec import Options, Plugin, PluginUse, ProviderSpec, Use

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

TENSORRT_WHEEL = '"tensorrt-cu13<11"'  # TensorRT 10, which onnxruntime 1.31 takes
GET_GPU, GET_TENSORRT = 'pip install "fusioncam[gpu]"', f"pip install {TENSORRT_WHEEL}"
GET_BUILD = 'pip uninstall onnxruntime, then pip install "onnxruntime-gpu>=1.31" (x86-64 Linux and Windows)'
GET_DIRECTML = "pip uninstall onnxruntime, then pip install onnxruntime-directml (Windows)"
GET_COREML = "pip install onnxruntime on a Mac, whose build has it"

# onnxruntime keeps nodes on the CPU that only read shapes (its GetCpuPreferredNodes). All of these run on CUDA, too.
SHAPE_OPERATORS = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten",
    "Floor", "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less",
    "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceSum", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def _cuda(use: Use) -> Options:
    """Return the options of onnxruntime's CUDA provider; None leaves one to onnxruntime."""
    return {
        "device_id": use.device,
        "user_compute_stream": use.stream,
        "cudnn_conv_algo_search": "HEURISTIC",  # onnxruntime's EXHAUSTIVE times every algorithm at the first run
        # TF32's 10 bits of each factor do not give maps exact to 2e-3. A graph in float16 must not be told so: without
        # TF32 onnxruntime 1.31.1 leaves out all plans of cuDNN with tensor cores, whatever the type (conv.cc and
        # conv_transpose.cc, CreateCudnnFeExecutionPlan).
        "use_tf32": None if use.half else 0,
        "arena_extend_strategy": "kSameAsRequested",  # shapes never change: doubling would only waste memory
        "enable_cuda_graph": 1 if use.capture else None,
    }


def _tensorrt(use: Use) -> Options:
    """Return the options of onnxruntime's TensorRT provider; None leaves one to onnxruntime."""
    single = {name: (1, *shape[1:]) for name, shape in use.shapes.items()}
    cached = True if use.cache else None  # onnxruntime's parser takes True, not 1, for a switch of TensorRT's
    return {
        "device_id": use.device,
        "user_compute_stream": use.stream,
        # Without them an engine is built at the first run, and once more for every larger or smaller batch. Runs within
        # the range share one engine (tensorrt_execution_provider.cc sets the shape of each run).
        "trt_profile_min_shapes": _profile(single),
        "trt_profile_opt_shapes": _profile(use.shapes),
        "trt_profile_max_shapes": _profile(use.shapes),
        "trt_engine_cache_enable": cached,
        "trt_engine_cache_path": use.cache,
        "trt_timing_cache_enable": cached,
        "trt_timing_cache_path": use.cache,
        "trt_fp16_enable": use.half or None,
        "trt_int8_enable": use.int8 or None,  # without it TensorRT 10 refuses a graph that has zero points
        # No CUDA graphs, see `refuse_wrong_maps`.
    }


def _profile(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items()) or None


def _qnn(use: PluginUse) -> Options:
    """Return the options of Qualcomm's NPU; on x86, where there is none, those of its simulator.

    A real NPU says itself what it is; the simulator is told to be that of a Snapdragon 8 Elite.
    """
    backend = use.library.with_name("QnnHtp.dll" if use.library.suffix == ".dll" else "libQnnHtp.so")
    simulated = {"soc_model": 69, "htp_arch": 79} if platform.machine() in ("x86_64", "AMD64") else {}
    # By default, the CPU brings pictures to 8 bits.
    return {"backend_path": backend, "enable_htp_fp16_precision": 1, "offload_graph_io_quantization": 0, **simulated}


PROVIDERS = (
    ProviderSpec("cpu", CPU, compared=False),
    ProviderSpec(
        "cuda",
        CUDA,
        install=GET_GPU,
        build=GET_BUILD,
        defaults=_cuda,
        chunk=GPU_CHUNK,
        kernels=True,
        int8="none",
        leaves=SHAPE_OPERATORS,
        compared=False,
    ),
    ProviderSpec(
        "tensorrt",
        TENSORRT,
        install=f"{GET_GPU} {TENSORRT_WHEEL}",  # it builds on the libraries of CUDA
        build=GET_BUILD,
        defaults=_tensorrt,
        chunk=GPU_CHUNK,
        kernels=True,
        int8="symmetric",
        compared=False,
    ),
    ProviderSpec(
        "tensorrt-rtx",
        "NvTensorRTRTXExecutionProvider",
        install="pip install onnxruntime-ep-nv-tensorrt-rtx-cu13",
        plugin=Plugin(
            "onnxruntime_ep_nv_tensorrt_rtx",
            ("GPU",),
            "an NVIDIA GPU, of compute capability 8.6 or later",
        ),
        chunk=GPU_CHUNK,
        fixed=True,
        int8="symmetric",
    ),
    ProviderSpec(
        "qnn",
        "QNNExecutionProvider",
        # Its dependency onnxruntime would overwrite the files of onnxruntime-gpu.
        install="pip install --no-deps onnxruntime-qnn (Python 3.11 or later)",
        plugin=Plugin(
            "onnxruntime_qnn", ("NPU", "CPU"), "a Qualcomm NPU, or an x86 processor for the simulator", "1.24.2", _qnn
        ),
        chunk=CHUNK,
        fixed=True,
    ),
    ProviderSpec(
        "openvino",
        "OpenVINOExecutionProvider",
        install="pip install onnxruntime-ep-openvino",
        plugin=Plugin("onnxruntime_ep_openvino", device="an Intel processor, GPU or NPU"),
        chunk=CHUNK,
        fixed=True,
    ),
    ProviderSpec(
        "webgpu",
        "WebGpuExecutionProvider",
        install="pip install onnxruntime-ep-webgpu",
        plugin=Plugin("onnxruntime_ep_webgpu", ("GPU",), "a GPU with Vulkan, Metal or Direct3D 12", "1.24.4"),
        chunk=GPU_CHUNK,
        fixed=True,
        leaves=SHAPE_OPERATORS,
    ),
    ProviderSpec("coreml", "CoreMLExecutionProvider", build=GET_COREML, chunk=CHUNK, fixed=True),
    ProviderSpec(
        "directml",
        "DmlExecutionProvider",
        build=GET_DIRECTML,
        chunk=GPU_CHUNK,
        fixed=True,
        leaves=SHAPE_OPERATORS,
    ),
)
SHORT = {spec.short: spec for spec in PROVIDERS}
BY_NAME = {spec.name: spec for spec in PROVIDERS}
