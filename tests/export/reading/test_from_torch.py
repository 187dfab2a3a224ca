import builtins
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fusioncam.errors import ModelError, OutputError, UsageError
from fusioncam.export import check, export_torch
from fusioncam.export.reading.from_torch import build_module, save_onnx, zeros


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("first line\nsecond line")


def test_export_is_the_evaluation_mode(tmp_path, run):
    torch.manual_seed(0)
    module = Small().train()
    manifest = export_torch(module, torch.zeros(1, 3, 8, 10), tmp_path / "s.fcam", preprocessing={"preset": "unit"})
    assert module.training, "the module is left as it was"
    assert manifest.preprocessing.size == (8, 10)
    assert manifest.source.path == "../s.torch.onnx"
    images = np.random.default_rng(0).random((5, 3, 8, 10), np.float32)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(images)).numpy()
    assert np.allclose(run(tmp_path / "s.fcam" / "score.onnx", {"image": images})["logits"], wanted, atol=1e-6)


def test_module_that_cannot_be_exported(tmp_path):
    with pytest.raises(ModelError, match=r"torch cannot export the module: first line$") as caught:
        save_onnx(Broken(), zeros((8, 8)), tmp_path / "b.onnx")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "b.onnx").exists()


class Exiting(nn.Module):
    def forward(self, x):
        sys.exit(3)


class OfOne(Small):
    """Takes one picture only."""

    def __init__(self, flat):
        super().__init__()
        self.flat = flat

    def forward(self, x):
        return self.head(self.flat(self.features(x).mean((2, 3))))


FLAT = {
    "view": lambda x: x.view(1, -1),
    "reshape": lambda x: x.reshape(1, 4),
    "view_as": lambda x: x.view_as(torch.zeros(1, 4)),
}


@pytest.mark.parametrize("name", FLAT)
def test_module_of_one_picture(name, tmp_path):
    with pytest.raises(ModelError, match=r"works for a batch of 1 only; .*flatten\(1\)") as caught:
        save_onnx(OfOne(FLAT[name]).eval(), zeros((8, 8)), tmp_path / "b.onnx")
    assert len(str(caught.value).splitlines()) == 1


class Choosing(Small):
    def forward(self, x):
        y = super().forward(x)
        return y + 1 if y.sum() > 0 else y


class Insisting(Small):
    def forward(self, x):
        if len(x) > 1:
            raise AssertionError
        return super().forward(x)


REASONS = {Choosing: "decides by the values of tensors", Insisting: r"AssertionError in line \d+ of .* \(raise Ass"}


@pytest.mark.parametrize("kind", REASONS)
def test_first_line_of_torch_that_says_nothing(kind, tmp_path):
    with pytest.raises(ModelError, match=REASONS[kind]):
        save_onnx(kind().eval(), zeros((8, 8)), tmp_path / "b.onnx")


class Starred(Small):
    def forward(self, *inputs):
        return super().forward(*inputs)


def distributed(module):
    """The module as one process of a group of one has it."""
    group = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=group, rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(module)
    finally:
        torch.distributed.destroy_process_group()


WRAPPERS = {
    "data_parallel": nn.DataParallel,
    "distributed": distributed,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled": torch.compile,
    "compiled_and_parallel": lambda module: torch.compile(nn.DataParallel(module)),
    "starred": lambda _: Starred(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_module(name, tmp_path, run):
    torch.manual_seed(0)
    module = WRAPPERS[name](Small())
    modes = dict.fromkeys(module.modules(), True)
    export_torch(module, zeros((8, 10)), tmp_path / "s.fcam", preprocessing="unit")
    assert {m: m.training for m in module.modules()} == modes
    images = np.random.default_rng(0).random((3, 3, 8, 10), np.float32)
    inner = module
    while not isinstance(inner, Small):
        inner = getattr(inner, "module", None) or inner._orig_mod
    with torch.no_grad():
        wanted = inner.eval()(torch.from_numpy(images)).numpy()
    assert np.allclose(run(tmp_path / "s.fcam" / "score.onnx", {"image": images})["logits"], wanted, atol=1e-6)


def test_parts_keep_their_modes(tmp_path):
    module = Small().train()
    module.features[1].eval()  # as one freezes a BatchNorm
    save_onnx(module, zeros((8, 8)), tmp_path / "s.onnx")
    assert [m.training for m in (module, module.features[1], module.features[2])] == [True, False, True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit as a whole
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, zeros((8, 8)))])
def test_script_module(make, tmp_path):
    with pytest.raises(ModelError, match=r"cannot export a ScriptModule"):
        save_onnx(make(nn.Sequential(nn.Conv2d(3, 4, 3))), zeros((8, 8)), tmp_path / "s.onnx")


def test_files_of_the_users_are_left_alone(tmp_path, capfd):
    for name in ("s.onnx", "s.torch.onnx"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        for module, options in ((Broken(), {}), (Exiting(), {}), (Small(), {"layer": "absent"})):
            with pytest.raises((ModelError, UsageError)):
                export_torch(module, zeros((8, 8)), folder / "s.fcam", **options)
    assert list((tmp_path / "empty").iterdir()) == [], "a failure leaves nothing"
    assert (tmp_path / "s.torch.onnx").read_text() == "mine"
    export_torch(Small(), zeros((8, 8)), tmp_path / "s.fcam", preprocessing="unit", labels=["a", "b", "c"])
    assert (tmp_path / "s.onnx").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "s.fcam", "s.onnx", "s.torch.onnx"]
    assert [f for f in check(tmp_path / "s.fcam") if not f.ok] == []
    assert capfd.readouterr() == ("", ""), "torch's own remarks"


def test_things_that_are_no_module(tmp_path):
    for module, example in ((None, zeros((8, 8))), (Small(), None), (Small(), np.zeros((1, 3, 8, 8)))):
        with pytest.raises(UsageError, match=r"takes a torch\.nn\.Module and an example torch\.Tensor, not"):
            export_torch(module, example, tmp_path / "s.fcam")


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another place"):
        save_onnx(Small(), zeros((8, 8)), tmp_path / "file" / "s.onnx")


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "made = nn.Linear(1, 1)\n"
        "def make(): return nn.Linear(2, 3)\n"
        "def number(): return 3\n"
        "def picky(width): return width\n"
        "def failing(): raise ValueError('no weights here')\n"
        "def leaving(): raise SystemExit(0)\n"
    )
    (tmp_path / "faulty_networks.py").write_text("def oops(:\n")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_networks", None)


def test_factory(factories):
    before = list(sys.path)
    assert build_module("my_networks:make").out_features == 3
    assert build_module("my_networks:made").out_features == 1
    assert sys.path == before


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("my_networks:absent", "cannot be found"),
        ("no_such_module:make", "cannot be found"),
        ("my_networks", "module:factory"),
        (":make", "module:factory"),
        ("my_networks:number", "makes a int, not a torch.nn.Module"),
        ("my_networks:picky", "width"),
        ("my_networks:failing", "no weights here"),
        ("my_networks:leaving", "fails: it exits the program"),
        ("faulty_networks:oops", "invalid syntax"),
    ],
)
def test_factory_that_makes_nothing(target, said, factories):
    with pytest.raises((UsageError, ModelError), match=said) as caught:
        build_module(target)
    assert len(str(caught.value).splitlines()) == 1


def test_without_torch(monkeypatch, tmp_path):
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModelError, match=r"pip install 'fusioncam\[torch\]'"):
        save_onnx(None, None, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="needs torch"):
        build_module("a:b")
    with pytest.raises(ModelError, match="needs torch"):
        zeros((8, 8))


def test_import_leaves_torch_alone():
    code = "import sys, fusioncam.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
