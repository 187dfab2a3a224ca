"""Memory is bounded by the chunk, never by the number of channels or pictures.

That is said of what an explanation makes. The evidence it starts from, A and g (K, h, w), is given by the model and
grows with K: 0.5 MB of a thousand channels 7 x 7.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusioncam.export import export_model
from fusioncam.manifest import CHUNK

PICTURE, PIXELS, GRID = 3 * 24 * 32 * 4, 24 * 32 * 8, 6 * 8 * 4  # bytes: a picture, a map in float64, a channel


def measured(code):
    """The numbers that a program prints, run by itself."""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in out.split()]


def peaks(bundle, x, batches):
    """Passes per picture, and the most bytes that NumPy held at once while so many pictures were explained, in turn."""
    np.save(bundle.parent / "x.npy", x)
    return measured(f"""if True:
        import tracemalloc, numpy as np
        from fusioncam import Explainer
        e = Explainer({str(bundle)!r}, chunk={CHUNK})
        x = np.load({str(bundle.parent / "x.npy")!r})
        print(e.explain(x).passes.run)
        for count in {list(batches)}:
            tracemalloc.start()
            found = e.explain_batch([x] * count, 1)
            kept = sum(m.nbytes for each in found for m in each.maps.values())
            print(tracemalloc.get_traced_memory()[1] - kept)
            del found
            tracemalloc.stop()
    """)


@pytest.mark.parametrize("channels", [64, 1024, 4096])
def test_memory_does_not_grow_with_the_channels(make_tiny, pictures, channels):
    run, peak = peaks(make_tiny(channels=channels).bundle, pictures[0], [1])
    assert run > 0.9 * channels
    # Of the evidence there are copies in float64, but never a full-size array per channel: 9216 bytes each.
    assert peak < CHUNK * PICTURE + 80 * PIXELS + 8 * channels * GRID


def test_memory_does_not_grow_with_the_pictures(make_tiny, pictures):
    _, one, few, many = peaks(make_tiny(channels=64).bundle, pictures[0], [1, 4, 20])
    shown = PICTURE // 4  # of each picture, for its panel
    assert many < few + 2 * PICTURE + 20 * (shown + 2048)  # what is known of each result beside its maps
    assert few < one + 4 * PICTURE + CHUNK * PICTURE  # a few are under way together, and share a chunk


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_mobilenet_v2_stays_under_500_megabytes(shared_assets, tmp_path):
    export_model(shared_assets / "models" / "mobilenetv2_100_224_logits.onnx", tmp_path / "b.fcam")
    few, small, every, large = measured(f"""if True:
        import re
        from dataclasses import replace
        from pathlib import Path
        from fusioncam import Explainer
        from fusioncam.runtime.engine.host.engine import HostEngine
        explainer, original = Explainer({str(tmp_path / "b.fcam")!r}, chunk={CHUNK}), HostEngine._seen
        def some(self, x, targets, *inputs):
            e = original(self, x, targets, *inputs)
            gradients = [[g[:channels] for g in of_row] for of_row in e.gradients]
            return replace(e, activations=[a[:channels] for a in e.activations], gradients=gradients)
        HostEngine._seen = some
        for channels in (128, 1280):
            found = explainer.explain({str(shared_assets / "images" / "winml_dog.jpg")!r})
            peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
            print(int(peak[1]) // 1024, found.passes.channels)
    """)
    assert (small, large) == (128, 1280)
    assert every < 500
    assert every - few < 25  # held at once, the masked pictures would take 770 MB
