import pytest

from fusioncam import Explainer
from fusioncam.errors import DeviceError, FusionCamError, UsageError
from fusioncam.export import export_model
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH
from fusioncam.runtime.engine import EngineOptions, opening
from fusioncam.runtime.engine.device import opening as device_opening
from fusioncam.runtime.engine.device.opening import open_device_engine
from fusioncam.runtime.engine.device.run import NO_GRAPH
from fusioncam.runtime.engine.opening import open_engines
from fusioncam.runtime.providers.options import with_defaults
from fusioncam.runtime.providers.table import CPU, CUDA, TENSORRT
from fusioncam.runtime.sessions import open as session_opening
from fusioncam.runtime.sessions.open import open_session


@pytest.fixture
def told(monkeypatch, host_device, injected):
    """What the sessions of an engine on a GPU are opened with; they run on the CPU."""
    calls = []

    def open_on_cpu(path, providers, threads, disabled, use):
        calls.append((path.name, providers, use))
        return open_session(path, [CPU], threads, disabled)

    monkeypatch.setattr(opening, "open_device", lambda index, launcher: host_device)
    with injected(open_session=open_on_cpu):
        yield calls


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (["cuda"], "the cuda provider takes no int8; export the model again with --precision fp16"),
        (["cuda", "cpu"], "the cuda provider takes no int8; export the model again with --precision fp16"),
        (["tensorrt", "cpu"], "the tensorrt provider takes int8 around zero only; .* --precision int8 --symmetric"),
    ],
)
def test_not_every_provider_takes_int8(tiny_int8, providers, message):
    with pytest.raises(UsageError, match=message):
        open_engines(tiny_int8, Explainer(tiny_int8).manifest, EngineOptions(providers))


def test_int8_around_zero_runs_on_tensorrt_and_its_maps_are_made_on_the_host(symmetric_int8, injected):
    opened = []

    def open_on_cpu(path, providers, threads, disabled, **options):
        opened.append((path.name, providers))
        return open_session(path, [CPU], threads, disabled)

    with injected(open_session=open_on_cpu):
        Explainer(symmetric_int8, ["tensorrt"])
    assert opened == [(EXPLAIN_GRAPH, [TENSORRT]), (SCORE_GRAPH, [TENSORRT])]


def test_both_sessions_get_the_stream_and_the_one_shape(tiny, told, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))
    Explainer(tiny.bundle, ["tensorrt", ("cuda", {"use_tf32": "1", "device_id": "0"}), "cpu"], chunk=7)
    (explain, first, one), (score, second, many) = told
    assert (explain, score) == (EXPLAIN_GRAPH, SCORE_GRAPH)
    assert first == second == [(TENSORRT, {}), (CUDA, {"use_tf32": "1"}), CPU]
    assert one.stream == many.stream > 0
    assert dict(one.shapes) == {"image": (1, 3, 24, 32), "class_index": (1,)}
    assert dict(many.shapes) == {"image": (7, 3, 24, 32)}
    assert (one.capture, many.capture) == (False, True)
    assert one.cache.is_relative_to(tmp_path)
    assert one.cache.name == "chunk-7"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_methods_made_on_the_host_run_the_model_with_the_same_care(tiny, tmp_path, pictures, injected, precision):
    """onnxruntime's own defaults are TF32, a search over all algorithms, and memory that doubles."""
    bundle, calls = tmp_path / "b.fcam", {}
    export_model(tiny.bundle.with_suffix(".onnx"), bundle, layer="layer", preprocessing="unit", precision=precision)

    def open_on_cpu(path, providers, threads, disabled, use, **more):
        calls[path.name] = dict(with_defaults([CUDA], use))[CUDA]
        return open_session(path, [CPU], threads, disabled, **more)

    with injected(open_session=open_on_cpu):
        Explainer(bundle, ["cuda"], kernels=False, methods=["recipro_cam"]).explain(pictures[0], 1)
    assert calls.keys() == {EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH}
    assert calls[HEAD_GRAPH] == calls[EXPLAIN_GRAPH]
    exact, half = calls[EXPLAIN_GRAPH], calls[SCORE_GRAPH]
    assert (exact["use_tf32"], half.get("use_tf32")) == ("0", "0" if precision == "fp32" else None)
    for options in (exact, half):
        assert options["cudnn_conv_algo_search"] == "HEURISTIC"
        assert options["arena_extend_strategy"] == "kSameAsRequested"
        assert not {"user_compute_stream", "enable_cuda_graph"} & {*options}


class Ranged:
    """A session as TensorRT's that takes its whole graph, for one picture to a chunk."""

    def __init__(self, opened, use):
        self._opened, self._options = opened, dict(with_defaults([TENSORRT], use))

    def __getattr__(self, name):
        return getattr(self._opened, name)

    def get_provider_options(self):
        return self._options


@pytest.mark.parametrize(("whole", "sizes"), [(True, {4, 7}), (False, {7})])
def test_tensorrt_passes_a_few_pictures_without_a_whole_chunk(tiny, monkeypatch, host_device, injected, whole, sizes):
    def open_on_cpu(path, providers, threads, disabled, use):
        session = open_session(path, [CPU], threads, disabled)
        return Ranged(session, use) if whole else session

    monkeypatch.setattr(opening, "open_device", lambda index, launcher: host_device)
    with injected(open_session=open_on_cpu):
        explainer = Explainer(tiny.bundle, ["tensorrt", "cuda"], chunk=7)
    runs = explainer.pipeline.preferred.state.passes.runs
    assert {size for size, _ in runs} == sizes


def test_cuda_alone_needs_no_cache(tiny, told, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "file"))
    Explainer(tiny.bundle, ["cuda"])
    assert [use.cache for _, _, use in told] == [None, None]


def test_a_stream_of_ones_own_is_used_by_all(tiny, told, host_device):
    stream = host_device.stream()
    Explainer(tiny.bundle, [("cuda", {"user_compute_stream": str(stream), "has_user_compute_stream": "0"})])
    assert [use.stream for _, _, use in told] == [stream, stream]
    assert [providers for _, providers, _ in told] == [[(CUDA, {})]] * 2


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ([("cuda", {"user_compute_stream": "0"})], "0, the default one, cannot be shared"),
        ([("tensorrt", {"device_id": 0}), ("cuda", {"device_id": "1"})], r"disagree about device_id \(0, 1\)"),
        ([("cuda", {"user_compute_stream": "abc"})], "user_compute_stream must be a whole number, not 'abc'"),
        (
            [("cuda", {"device_id": None})],
            "option 'device_id' of cuda is None; give a text or a number, or leave it out",
        ),
        ([("cuda", {"device_id": "9" * 5000})], "device_id must be a whole number"),
        ([("cuda", {"device_id": 1.7})], "device_id must be a whole number"),
        ([("cuda", {"device_id": -1})], "device_id must be a whole number"),
    ],
)
def test_what_the_providers_must_agree_about(tiny, told, providers, message):
    with pytest.raises(UsageError, match=message):
        Explainer(tiny.bundle, providers)
    assert told == []


def test_without_a_launcher_the_provider_is_asked_first(tiny, monkeypatch, injected):
    def missing(index, launcher):
        raise DeviceError("no launcher")

    opened = []
    monkeypatch.setattr(opening, "open_device", missing)
    refused = pytest.raises(DeviceError, match="no launcher")
    with injected(open_session=lambda *arguments: opened.append(arguments)), refused:
        Explainer(tiny.bundle, ["cuda"])
    assert len(opened) == 1


def test_swapped_graphs_are_no_bundle(tiny, host_device, tmp_path):
    for name in ("weights.bin", "manifest.json"):
        (tmp_path / name).write_bytes((tiny.bundle / name).read_bytes())
    (tmp_path / EXPLAIN_GRAPH).write_bytes((tiny.bundle / SCORE_GRAPH).read_bytes())
    (tmp_path / SCORE_GRAPH).write_bytes((tiny.bundle / EXPLAIN_GRAPH).read_bytes())
    manifest = Explainer(tiny.bundle).manifest
    with pytest.raises(FusionCamError, match="export the model again"):
        open_device_engine(tmp_path, manifest, host_device, EngineOptions([CPU]))


@pytest.mark.parametrize(
    ("providers", "captured", "sizes"),
    [(["cuda"], True, {64, 4}), (["cuda"], False, {64}), (["tensorrt", "cuda"], False, {64})],
)
def test_a_second_number_of_pictures_only_where_no_plan_is_made_anew(
    tiny, told, monkeypatch, tmp_path, host_device, providers, captured, sizes
):
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))
    for module in (device_opening, session_opening):
        monkeypatch.setattr(module, "captures", lambda session: captured)
    engine = Explainer(tiny.bundle, providers).pipeline.preferred
    assert {size for size, _ in engine.state.passes.runs} == sizes
    graphs = sorted(run.graph for run in engine.state.passes.runs.values())
    assert graphs == ([0, 1, 2, 3] if captured else [NO_GRAPH] * len(graphs))
