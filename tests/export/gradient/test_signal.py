import numpy as np
import pytest
import torch


def real(spectrum):
    return torch.view_as_real(spectrum.resolve_conj())


def complex_of(x):
    return (
        torch.view_as_complex(x)
        if x.shape[-1] == 2
        else x.squeeze(-1).to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)
    )


def forward(axis, length=None, half=False):
    def function(x, *_):
        return real(torch.fft.rfft(x.squeeze(-1), length, axis) if half else torch.fft.fft(complex_of(x), length, axis))

    return function


def inverse(axis, length=None, half=False):
    def function(x, *_):
        if half:
            return torch.fft.irfft(complex_of(x), length, axis).unsqueeze(-1)
        return real(torch.fft.ifft(complex_of(x), length, axis))

    return function


def dft(name, attributes, shape, function, length=None, axis=1, opset=20):
    """A case: since version 20 the axis is an input."""
    if opset < 20:
        return name, "DFT", {"axis": axis, **attributes}, [shape, length], function, {"opset": opset}
    return name, "DFT", attributes, [shape, length, np.array(axis)], function, {"opset": opset}


def stft(step, size, half=True, windowed=True):
    """Frames by unfolding, without torch's centring."""

    def function(signal, *rest):
        signal = signal if signal.shape[-1] <= 2 and signal.ndim == 3 else signal.unsqueeze(-1)
        frames = complex_of(signal.contiguous()).unfold(1, size, step)
        frames = frames * rest[1] if windowed else frames
        spectrum = torch.fft.fft(frames)
        return real(spectrum[..., : size // 2 + 1] if half else spectrum)

    return function


STEP, SIZE = np.array(3), np.array(8)
WINDOW = np.hanning(8) + 0.1
HALF = {"onesided": 1}
BACK = {"inverse": 1}
CASES = [
    *(
        case
        for opset in (17, 20)
        for case in (
            dft(f"real-{opset}", {}, ("N", 7, 3, 1), forward(1), opset=opset),
            dft(f"complex-{opset}", {}, ("N", 7, 3, 2), forward(2), axis=2, opset=opset),
            dft(f"half-{opset}", HALF, ("N", 8, 1), forward(1, half=True), opset=opset),
            dft(f"back-{opset}", BACK, ("N", 5, 7, 2), inverse(2), axis=-2, opset=opset),
        )
    ),
    dft("half-odd", HALF, ("N", 2, 7, 1), forward(2, half=True), axis=2),
    dft("longer", {}, ("N", 5, 2, 2), forward(1, 9), np.array(9)),
    dft("shorter", HALF, ("N", 9, 2, 1), forward(1, 6, half=True), np.array(6)),
    dft("back-of-real", BACK, ("N", 6, 1), inverse(1)),
    dft("back-longer", BACK, ("N", 4, 3, 2), inverse(1, 7), np.array(7)),
    dft("back-half", BACK | HALF, ("N", 5, 3, 2), inverse(1, half=True)),
    dft("back-half-odd", BACK | HALF, ("N", 4, 2), inverse(1, 7, half=True), np.array(7)),
    (
        *("default-axis", "DFT", {}, [("N", 3, 6, 2)]),
        *(forward(2), {"opset": 20}),
    ),
    ("frames", "STFT", HALF, [("N", 30), STEP, WINDOW], stft(3, 8), {"opset": 17}),
    ("frames-of-length", "STFT", HALF, [("N", 29, 1), STEP, None, SIZE], stft(3, 8, windowed=False), {"opset": 17}),
    ("frames-both", "STFT", {"onesided": 1}, [("N", 32, 1), STEP, WINDOW, SIZE], stft(3, 8), {"opset": 17}),
    ("frames-complex", "STFT", {"onesided": 0}, [("N", 27, 2), STEP, WINDOW], stft(3, 8, half=False), {"opset": 17}),
    (
        "frames-by-window",
        "agraph (float[N,30] x, float[8] w) => (float y) <int64 s = {3}> {y = STFT<onesided = 1>(x, s, w)}",
        *({}, None, lambda x, w: stft(3, 8)(x, None, w), {"wrt": 1, "opset": 17}),
    ),
    (
        "complex-frames-by-window",
        "agraph (float[N,30,2] x, float[8] w) => (float y) <int64 s = {3}> {y = STFT<onesided = 0>(x, s, w)}",
        *({}, None, lambda x, w: stft(3, 8, half=False)(x, None, w), {"wrt": 1, "opset": 17}),
    ),
]


def test_gradient(case, check):
    check(*case)


@pytest.mark.parametrize("bins", [3, 6])
def test_bins_that_the_length_has_not_are_refused(bins, refused):
    text = f"agraph (float[N,{bins},2] x) => (float y) <int64 n = {{6}}> {{y = DFT<inverse = 1, onesided = 1>(x, n)}}"
    assert "bins that its length has not" in refused(text)
