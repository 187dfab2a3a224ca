"""Memory is bounded by the chunk, never by the number of channels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusioncam.export import export_model
from fusioncam.manifest import CHUNK


@pytest.mark.parametrize("channels", [64, 1024])
def test_memory_does_not_grow_with_the_channels(make_tiny, pictures, channels):
    made = make_tiny(channels=channels)
    code = f"""if True:
        import tracemalloc, numpy as np
        from fusioncam import Explainer
        e = Explainer({str(made.bundle)!r})
        x = np.load({str(made.bundle.parent / "x.npy")!r})
        e.explain(x)
        tracemalloc.start()
        found = e.explain(x)
        print(tracemalloc.get_traced_memory()[1], found.passes.run)
    """
    np.save(made.bundle.parent / "x.npy", pictures[0])
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    peak, run = map(int, out.split())
    assert run > 0.9 * channels
    chunk, small, pixels = CHUNK * 3 * 24 * 32 * 4, channels * 6 * 8 * 4, 24 * 32 * 8
    assert peak < chunk + 8 * small + 80 * pixels


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_mobilenet_v2_stays_under_500_megabytes(shared_assets, tmp_path):
    export_model(shared_assets / "models" / "mobilenetv2_100_224_logits.onnx", tmp_path / "b.fcam")
    code = f"""if True:
        import re
        from dataclasses import replace
        from pathlib import Path
        from fusioncam import Explainer
        from fusioncam.runtime.on_host import HostEngine
        explainer, original, channels = Explainer({str(tmp_path / "b.fcam")!r}), HostEngine._evidence, 128
        def some(self, x, c):
            e = original(self, x, c)
            return replace(e, activations=e.activations[:channels], gradients=e.gradients[:channels])
        HostEngine._evidence = some
        for channels in (128, 1280):
            found = explainer.explain({str(shared_assets / "images" / "winml_dog.jpg")!r})
            peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
            print(int(peak[1]) // 1024, found.passes.channels)
    """
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    (few, small), (every, large) = (map(int, line.split()) for line in out.splitlines())
    assert (small, large) == (128, 1280)
    assert every < 500
    assert every - few < 25  # held at once, the masked pictures would take 770 MB
