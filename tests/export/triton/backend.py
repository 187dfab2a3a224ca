"""What Triton gives a Python model, as far as ours needs it: models of a repository run with onnxruntime.

Requests are held against the configuration of the model that they go to, as Triton does it.
"""

import asyncio
import types

import numpy as np
import onnxruntime
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

TYPES = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16, "TYPE_INT64": np.int64, "TYPE_BOOL": np.bool_}
TYPES["TYPE_STRING"] = np.object_


def read_config(path):
    """The configuration by Triton's own definitions; a field that they do not have is an error."""
    return text_format.Parse(path.read_text(), ModelConfig())


def check(tensors, array_of, batched):
    """Arrays against the inputs or outputs of a configuration; gives the size of their batch, if there is one."""
    batches = set()
    for tensor in tensors:
        array = array_of.get(tensor.name)
        if array is None:
            assert getattr(tensor, "optional", False), f"{tensor.name} is missing"
            continue
        assert array.dtype == TYPES[DataType.Name(tensor.data_type)], tensor.name
        shape = array.shape[1:] if batched else array.shape
        assert len(shape) == len(tensor.dims), tensor.name
        assert all(d in (-1, n) for d, n in zip(tensor.dims, shape, strict=True)), tensor.name
        batches.add(len(array))
    return batches


class Server:
    """A model repository, and what was asked of it: (model, version, pictures) of every request."""

    def __init__(self, folder):
        self.folder, self.sessions, self.asked = folder, {}, []
        self.fail = None

    def run(self, name, version, outputs, feeds):
        config = read_config(self.folder / name / "config.pbtxt")
        assert config.name == name
        batches = check(config.input, feeds, config.max_batch_size > 0)
        assert set(feeds) <= {i.name for i in config.input}
        if config.max_batch_size:
            assert len(batches) == 1
            assert 1 <= max(batches) <= config.max_batch_size
        path = self.folder / name / str(version) / "model.onnx"
        if path not in self.sessions:
            self.sessions[path] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.asked.append((name, version, len(feeds["image"])))
        return self.sessions[path].run(outputs, feeds)


class Tensor:
    def __init__(self, name, array):
        assert isinstance(array, np.ndarray)
        assert array.flags.c_contiguous
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message, code=INTERNAL):
        self._message, self._code = message, code

    def message(self):
        return self._message

    def code(self):
        return self._code


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self._tensors, self._error = list(output_tensors), error

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error

    def output_tensors(self):
        return self._tensors


class Request:
    """A request as `execute` gets it."""

    def __init__(self, inputs, outputs, parameters="", cancelled_after=None):
        self._inputs = [Tensor(name, array) for name, array in inputs.items()]
        self._outputs, self._parameters = list(outputs), parameters
        self._looks, self._cancelled_after = 0, cancelled_after

    def inputs(self):
        return self._inputs

    def requested_output_names(self):
        return self._outputs

    def parameters(self):
        return self._parameters

    def is_cancelled(self):
        self._looks += 1
        return self._cancelled_after is not None and self._looks > self._cancelled_after


def module(server):
    """`triton_python_backend_utils` on a server."""

    class InferenceRequest:
        def __init__(self, model_name, requested_output_names, inputs, model_version=-1, preferred_memory=None):
            assert preferred_memory.kind == utils.TRITONSERVER_MEMORY_CPU, "as_numpy takes no tensor of a GPU"
            self._asked = (model_name, model_version, requested_output_names, {t.name(): t.as_numpy() for t in inputs})

        def _exec(self):
            try:
                if server.fail:
                    raise RuntimeError(server.fail)
                found = server.run(*self._asked)
            except RuntimeError as error:
                return InferenceResponse(error=TritonError(str(error)))
            return InferenceResponse([Tensor(n, a) for n, a in zip(self._asked[2], found, strict=True)])

        def async_exec(self):
            return asyncio.get_running_loop().run_in_executor(None, self._exec)

    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor, utils.TritonError, utils.InferenceResponse = Tensor, TritonError, InferenceResponse
    utils.InferenceRequest = InferenceRequest
    utils.TRITONSERVER_MEMORY_CPU = 0
    utils.PreferredMemory = lambda kind, device: types.SimpleNamespace(kind=kind, device=device)
    utils.get_output_tensor_by_name = lambda response, name: next(
        (t for t in response.output_tensors() if t.name() == name), None
    )
    return utils


class Front:
    """The Python model of a repository, loaded as Triton loads it."""

    def __init__(self, server, name, version=1):
        folder = server.folder / name
        self.config = read_config(folder / "config.pbtxt")
        space = {"__name__": "model"}
        source = folder / str(version) / "model.py"
        exec(compile(source.read_text(), source, "exec"), space)  # as a file of its own: it is in no package
        self.model = space["TritonPythonModel"]()
        self.model.initialize(
            {
                "model_config": json_format.MessageToJson(self.config, preserving_proto_field_name=True),
                "model_name": name,
                "model_version": str(version),
                "model_repository": str(folder),
            }
        )

    def responses(self, *requests):
        return asyncio.run(self.model.execute(list(requests)))

    def request(self, inputs, outputs=None, **more):
        check(self.config.input, inputs, False)
        return Request(inputs, outputs or [o.name for o in self.config.output], **more)

    def ask(self, inputs, outputs=None, **more):
        """The arrays of one response, by name; or the error, as (message, code)."""
        request = self.request(inputs, outputs, **more)
        (response,) = self.responses(request)
        if response.has_error():
            return response.error().message(), response.error().code()
        found = {t.name(): t.as_numpy() for t in response.output_tensors()}
        check([o for o in self.config.output if o.name in found], found, False)
        assert set(found) <= set(request.requested_output_names())
        return found
