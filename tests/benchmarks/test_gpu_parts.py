"""The arithmetic and the plumbing of the stages, one by one."""

import sys
import types
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from fusioncam.errors import FusionCamError
from fusioncam.kernels.specs import SPECS
from fusioncam.runtime.explanation import Passes


def test_distances_treat_nan_and_infinity_as_values(part):
    nan, inf = np.nan, np.inf
    found = part("kernels").distances(np.array([1.5, nan, nan, inf, inf, -inf]), np.array([1.0, nan, 0, inf, 1, inf]))
    np.testing.assert_array_equal(found, [0.5, 0, inf, 0, inf, inf])
    assert part("kernels").distances(np.zeros(3), np.zeros(4)).max() == inf


def test_a_wrong_kernel_is_found(part, host_device, monkeypatch):
    spec = SPECS["row_means"]
    off = replace(spec, reference=lambda values: (spec.reference(values)[0] + 0.5,))
    monkeypatch.setattr(part("kernels"), "SPECS", {"row_means": off})
    record = part("record").Record()
    part("kernels").check(record, {"host": host_device}, {})
    assert [c["ok"] for c in record.checks] == [False]
    assert record.checks[0]["found"] == pytest.approx(0.5, abs=1e-4)


def test_a_kernel_that_writes_nothing_is_found(part, host_device, monkeypatch):
    monkeypatch.setattr(host_device, "launch", lambda *arguments: None)
    assert part("kernels").difference(host_device, SPECS["row_means"])[0] == np.inf


def test_whole_numbers_must_mostly_agree(part, host_device, monkeypatch):
    spec = SPECS["overlay_map"]

    def all_one_off(**arguments):
        right = spec.reference(**arguments)[0].astype(int)
        return (np.where(right > 0, right - 1, 1),)

    monkeypatch.setattr(part("kernels"), "SPECS", {"overlay_map": replace(spec, reference=all_one_off, tolerance=2)})
    record = part("record").Record()
    part("kernels").check(record, {"host": host_device}, {})
    assert [c["ok"] for c in record.checks] == [True, False]


def test_the_cases_are_of_the_sizes_of_a_resnet(part):
    made = {case.label: case for case in part("cases").cases()}
    assert {case.spec.name for case in made.values()} == set(SPECS)
    for case in made.values():
        case.spec.bind(case.arguments)
    mask = made["mask_pictures_half, chunk 256"].arguments
    assert mask["maps"].shape == (2048, 7, 7)
    assert mask["channels"].shape == (256,)
    assert len(set(mask["channels"])) == 256
    assert mask["image"].shape == (3, 224, 224)


def test_bytes_are_those_that_must_be_read_and_written(part, host_device):
    made = {case.label: case for case in part("cases").cases(channels=20, small=3, large=24, classes=10, chunks=(4,))}
    effort = part("bandwidth").Effort(1, 1, 1024)
    timer = part("bandwidth").Timer(host_device, effort)
    picture = 3 * 24 * 24
    wanted = {
        "mask_pictures_float, chunk 4": 4 * 9 * 4 + 4 * 4 + picture * 4 + 4 * picture * 4,
        "mask_pictures_half, chunk 4": 4 * 9 * 4 + 4 * 4 + picture * 4 + 4 * picture * 2,
        "row_means": 20 * 9 * 4 + 20 * 4,
        "gather_scores": 4 * 4 + 4 * 4 + 4 + 4 * 4,
        "overlay_map": 24 * 24 * (3 + 4 + 3) + 256 * 3,
    }
    assert {label: timer.kernel(made[label])["bytes"] for label in wanted} == wanted


class Clockwork:
    """A device whose clock, in ms, only work moves; queueing takes no time on it."""

    memory = "cpu"

    def __init__(self):
        self.now, self.events, self.numbers = 0.0, {}, count(1)

    def stream(self):
        return next(self.numbers)

    def timed_event(self):
        return next(self.numbers)

    def allocate(self, nbytes):
        return types.SimpleNamespace(pointer=0, nbytes=nbytes)

    def record(self, event, stream):
        self.events[event] = self.now

    def synchronize(self, stream):
        pass

    def elapsed(self, start, end):
        return self.events[end] - self.events[start]


def test_a_launch_is_timed_without_what_stands_before_it(part, monkeypatch):
    bandwidth, device = part("bandwidth"), Clockwork()

    def copy(target, source, nbytes, stream):
        device.now += nbytes / 1e6

    monkeypatch.setattr(bandwidth, "copier", lambda device: copy)
    timer = bandwidth.Timer(device, bandwidth.Effort(samples=3, launches=4, footprint=1 << 24))
    launched = []

    def launch():
        launched.append(1)
        device.now += 0.05

    found = timer.time([launch])
    assert found["count"] == 3
    assert found["p50"] == pytest.approx(50e-6)
    assert found["max"] == pytest.approx(50e-6)
    assert found["queued_ahead"] is True
    assert len(launched) == 1 + 4 + 3 * 4
    assert timer.copy(8_000_000)["p50"] == pytest.approx(4e-3), "a copy of 4 MB moves 8"


def test_the_launches_rotate(part, monkeypatch, host_device):
    bandwidth = part("bandwidth")
    timer = bandwidth.Timer(host_device, bandwidth.Effort(samples=1, launches=6, footprint=1000))
    (case,) = (c for c in part("cases").cases(20, 3, 24, 10, (4,)) if c.label == "row_means")
    pointers = []
    run = host_device.run
    monkeypatch.setattr(host_device, "run", lambda k, g, b, a, s: (pointers.append(int(a[1])), run(k, g, b, a, s)))
    timer.kernel(case)
    assert len(set(pointers)) == 6, "80 bytes of output fit 12 times into 1000, but there are 6 launches"


def test_correlation_and_differences(part):
    differences = part("maps").differences
    one = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 100)
    other = one.copy()
    other[0, 0] += 0.5
    found = differences(other, one)
    assert found["max"] == pytest.approx(0.5)
    assert found["p99_9"] < 2e-3
    assert (found["pixels_over"], found["pixels"]) == (1, 1000)
    assert found["correlation"] == pytest.approx(np.corrcoef(other.ravel(), one.ravel())[0, 1])
    flat = np.zeros_like(one)
    assert differences(flat, flat)["correlation"] == 1
    assert differences(flat, one)["correlation"] == 0


def test_candidates_take_turns_and_one_that_fails_is_left_out(part):
    explanations, record = part("explanations"), part("record").Record()
    order = []

    def failing():
        raise RuntimeError("out of memory")

    work = {"a": lambda: order.append("a"), "bad": failing, "b": lambda: order.append("b")}
    work |= {"fusion_cam by torch": lambda: 1 / 0}
    plan = explanations.Plan([], [], rounds=3, least=2, seconds=60)
    times = explanations.in_turns(record, "here", work, plan)
    assert order == ["a", "b"] * 4, "one warm-up, three rounds"
    assert {who: len(seconds) for who, seconds in times.items()} == {"a": 3, "b": 3}
    assert record.left_out == [{"what": "here, bad", "why": "RuntimeError: out of memory"}]
    assert [(c["what"], c["ok"]) for c in record.checks] == [("here, fusion_cam by torch: it runs", False)]
    assert len(explanations.in_turns(record, "here", {"a": order.clear}, replace(plan, seconds=0))["a"]) == 2


def test_the_share_outside_is_taken_round_by_round(part):
    explanations, record = part("explanations"), part("record").Record()
    times = {"fusion_cam by torch": [1.0, 2.0, 4.0], "bare passes by torch": [0.9, 1.9, 3.0]}
    last = part("lab").Explained({}, 0, Passes(5, 1), [], {"fusion": 0.1})
    explanations.report(record, {"model": "m"}, times, "label", {"fusion_cam by torch": last})
    (share,) = (f["share_outside"] for f in record.figures if "share_outside" in f)
    assert (share["p50"], share["max"]) == (pytest.approx(0.1), pytest.approx(0.25))
    assert [t["met"] for t in record.targets] == [False]


def test_the_best_of_each_candidate(part):
    def figure(who, chunk, p50, precision="fp32"):
        return {"model": "m", "precision": precision, "who": who, "chunk": chunk, "seconds": {"p50": p50}}

    found = part("explanations").best([
        figure("fusion_cam by torch", 32, 3.0), figure("fusion_cam by torch", 64, 2.0),
        figure("bare passes by torch", 64, 1.0),
        figure("score_cam by plain torch", 32, 5.0), figure("score_cam by plain torch", 64, 6.0),
        figure("score_cam by plain torch", 64, 6.0, "fp16"),
    ])  # fmt: skip
    assert [(f["precision"], f["best_of"], f["chunk"], f["times_fusion_cam"]) for f in found] == [
        ("fp32", "fusion_cam by torch", 64, 1.0), ("fp32", "score_cam by plain torch", 32, 2.5),
        ("fp16", "score_cam by plain torch", 64, None),
    ]  # fmt: skip


def test_the_package_to_compare_with_gets_what_it_needs(part, lab, monkeypatch, capsys):
    """A stand-in with the package's face, which the tests do not install."""
    seen = {}

    class ScoreCAM:
        batch_size = 16

        def __init__(self, model, target_layers):
            (layer,) = target_layers
            self.model = model
            layer.register_forward_hook(lambda module, given, made: seen.update(layer=tuple(made.shape)))

        def __call__(self, input_tensor, targets):
            (target,) = targets
            logits = self.model(input_tensor)
            seen.update(batch=self.batch_size, score=float(target(logits[0])), half=torch.is_autocast_enabled("cpu"))
            sys.stderr.write("100 %")
            return np.ones((1, *input_tensor.shape[2:]), np.float32)

    class ClassifierOutputTarget:
        def __init__(self, category):
            self.category = category

        def __call__(self, output):
            return output[self.category]

    modules = {
        "pytorch_grad_cam": {"ScoreCAM": ScoreCAM}, "pytorch_grad_cam.utils": {},
        "pytorch_grad_cam.utils.model_targets": {"ClassifierOutputTarget": ClassifierOutputTarget},
    }  # fmt: skip
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    x, network = lab.input("mobile"), lab.copy_of("mobile")
    found = part("score_cams").packaged(network, 7, 3, half=False)(x)
    assert found.shape == x.shape[1:]
    assert capsys.readouterr().err == "", "its progress bar"
    assert (seen["batch"], seen["half"]) == (7, False)
    assert seen["layer"][1:] == lab.bundle("mobile", "fp32")[1].layer.shape
    assert seen["score"] == pytest.approx(float(lab.network("mobile")(torch.from_numpy(x)[None])[0, 3]), rel=1e-4)


def test_pictures_differ_and_are_the_same_every_time(part):
    pictures = part("networks").pictures
    one, two = pictures(24, 2, seed=1)
    assert one.shape == (24, 24, 3)
    assert one.dtype == np.uint8
    assert (one != two).any()
    np.testing.assert_array_equal(one, pictures(24, 1, seed=1)[0])


def test_a_tensor_over_the_gpus_memory_is_asked_for_as_it_is(part, monkeypatch):
    seen = {}
    monkeypatch.setattr(torch, "as_tensor", lambda given, device: seen.update(vars(given), device=str(device)))
    part("torch_backend").tensor_over("cuda", 1, np.float16, [2, 3], 4096)
    interface = seen["__cuda_array_interface__"]
    assert interface == {"shape": (2, 3), "typestr": "<f2", "data": (4096, False), "strides": None, "version": 3}
    assert seen["device"] == "cuda:1"


def test_time_runs_out_before_what_matters_least(part, lab, monkeypatch):
    explanations, record = part("explanations"), part("record").Record()
    begun, clock = [], count(1)
    monkeypatch.setattr(explanations, "one_setting", lambda *given: begun.append(given[3:]))
    monkeypatch.setattr(explanations.time, "perf_counter", lambda: next(clock))
    explanations.measure(record, lab, explanations.Plan(["mobile"], [8, 4], deadline=3))
    backends = part("lab").BACKENDS
    assert begun == [
        (("mobile", "fp32", 8), backends),
        (("mobile", "fp16", 8), backends),
        (("mobile", "fp32", 4), backends),
    ]
    left = [o["what"] for o in record.left_out if o["why"] == "the time limit was reached"]
    assert left == [
        "mobile, fp16, chunk 4, by onnxruntime, torch", "mobile, fp32, chunk 8, by onnxruntime, nhwc, tensorrt",
        "mobile, fp16, chunk 8, by onnxruntime, nhwc, tensorrt",
    ]  # fmt: skip


def test_a_torch_without_cuda_is_left_out(part, lab, monkeypatch):
    gpu = types.SimpleNamespace(memory="cuda", index=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    other = part("lab").Lab(gpu, lab.folder, _made=lab._made)
    with pytest.raises(FusionCamError, match=r"torch .* sees no GPU; install"):
        other.open("torch", "mobile", "fp32", 4)
    record = part("record").Record()
    monkeypatch.setattr(part("maps"), "BACKENDS", ("torch",))
    other.broken.clear()
    part("maps").check(record, other, ["mobile"], 4)
    assert (record.checks, [o["what"] for o in record.left_out]) == ([], ["maps by torch"])
