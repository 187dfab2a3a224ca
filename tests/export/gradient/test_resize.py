import itertools

import numpy as np
import pytest
import torch.nn.functional as fn

X = ("N", 2, 5, 6)
HALF = {"dtype": np.float16}
UP, DOWN, BOTH = (10, 13), (3, 4), (9, 4)


def sizes(height, width):
    return [X, None, None, [height, width]]


def scales(height, width):
    return [X, None, np.array([height, width], np.float32)]


def cropped(roi, *by):
    return [X, np.array(roi, np.float32), *by]


def interpolate(mode, size, **options):
    return lambda x, *_: fn.interpolate(x, size, mode=mode, **options)


def mode(name, transformation="half_pixel", **more):
    return {"mode": name, "coordinate_transformation_mode": transformation, "axes": [2, 3], **more}


CUBIC = {"cubic_coeff_a": -0.75}
FLOOR = {"nearest_mode": "floor"}
CASES = [
    ("nearest", "Resize", mode("nearest", "asymmetric", **FLOOR), sizes(*UP), interpolate("nearest", UP)),
    ("nearest-down", "Resize", mode("nearest", "asymmetric", **FLOOR), sizes(*DOWN), interpolate("nearest", DOWN)),
    (
        *("nearest-doubled", "Resize", mode("nearest", "asymmetric", **FLOOR), scales(2, 2)),
        lambda x, *_: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
    ),
    ("linear", "Resize", mode("linear"), sizes(*UP), interpolate("bilinear", UP)),
    # Scales that leave the number of samples as it is, but not the samples.
    *(
        (f"same-size-{name}-{i}", "Resize", mode(name, way), given, None)
        for name, way in [("linear", "asymmetric"), ("cubic", "half_pixel"), ("nearest", "half_pixel")]
        for i, given in enumerate((scales(1.15, 1.1), scales(1.15, 2.1), scales(0.5, 1.1)))
    ),
    ("linear-down", "Resize", mode("linear"), sizes(*DOWN), interpolate("bilinear", DOWN)),
    ("linear-both", "Resize", mode("linear"), sizes(*BOTH), interpolate("bilinear", BOTH)),
    ("linear-one-axis", "Resize", mode("linear"), sizes(5, 9), interpolate("bilinear", (5, 9))),
    ("linear-same", "Resize", mode("linear"), sizes(5, 6), lambda x, *_: 1 * x),
    ("linear-to-one", "Resize", mode("linear", "pytorch_half_pixel"), sizes(1, 1), None),
    (
        *("linear-corners", "Resize", mode("linear", "align_corners"), sizes(*UP)),
        interpolate("bilinear", UP, align_corners=True),
    ),
    ("cubic", "Resize", mode("cubic", **CUBIC), sizes(*UP), interpolate("bicubic", UP)),
    ("cubic-down", "Resize", mode("cubic", **CUBIC), sizes(*DOWN), interpolate("bicubic", DOWN)),
    (
        *("cubic-corners", "Resize", mode("cubic", "align_corners", **CUBIC), sizes(*UP)),
        interpolate("bicubic", UP, align_corners=True),
    ),
    ("linear-antialias", "Resize", mode("linear", antialias=1), sizes(*DOWN), None),
    ("cubic-antialias", "Resize", mode("cubic", antialias=1, **CUBIC), sizes(*DOWN), None),
    ("cubic-exclude-outside", "Resize", mode("cubic", exclude_outside=1), sizes(*UP), None),
    ("axes", "Resize", mode("linear", axes=[3, 2]), [X, None, None, [13, 10]], interpolate("bilinear", UP)),
    ("axes-negative", "Resize", mode("linear", axes=[-2, -1]), [X, None, None, [10, 13]], interpolate("bilinear", UP)),
    (
        *("axes-scales", "Resize", mode("nearest", "asymmetric", axes=[2], **FLOOR)),
        *([X, None, np.array([2], np.float32)], lambda x, *_: x.repeat_interleave(2, 2)),
    ),
    (
        *("channels-last", "Resize", mode("linear", axes=[1, 2]), [("N", 5, 6, 2), None, None, [10, 13]]),
        lambda x, *_: fn.interpolate(x.permute(0, 3, 1, 2), UP, mode="bilinear").permute(0, 2, 3, 1),
    ),
    ("linear-1d", "Resize", mode("linear", axes=[-1]), [("N", 2, 5), None, None, [8]], None),
    ("nearest-3d", "Resize", mode("nearest", axes=[2, 3, 4]), [("N", 2, 3, 4, 2), None, None, [5, 3, 4]], None),
    (
        "all-axes",
        *("Resize", {"mode": "linear"}, [X, None, np.array([1, 1, 2, 2], np.float32)]),
        interpolate("bilinear", (10, 12)),
    ),
    (
        "sizes-with-the-batch",
        "agraph (float[N,2,5,6] x) => (float[N,2,10,13] y) {s = Constant<value_ints = [2,10,13]>()"
        'n = Shape<end = 1>(x) z = Concat<axis = 0>(n, s) y = Resize<mode = "linear">(x, , , z)}',
        *({}, None, interpolate("bilinear", UP)),
    ),
    ("half-pixel-symmetric", "Resize", mode("linear", "half_pixel_symmetric"), scales(2.3, 0.7), None, {"opset": 19}),
    *(
        (f"crop-{name}-{i}", "Resize", mode(name, "tf_crop_and_resize", extrapolation_value=3.0), given, None)
        for name in ("nearest", "linear", "cubic")
        for i, given in enumerate(
            (
                cropped([0.1, 0.3, 0.7, 0.9], None, [7, 4]),
                cropped([0.2, -0.4, 1.3, 0.8], None, [5, 6]),  # outside, and of the size that it was
                cropped([0.4, 0.0, 0.9, 1.0], np.array([2.5, 1.5], np.float32)),
            )
        )
        if not (name == "cubic" and i == 2)
    ),
    (
        *("crop-all-axes", "Resize", {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}),
        *([X, np.array([0, 0, 0.1, 0.3, 1, 1, 0.7, 0.9], np.float32), np.array([1, 1, 2, 1], np.float32)], None),
    ),
    *(
        (
            f"{policy}-{name}-{height}x{width}",
            "Resize",
            mode(name, keep_aspect_ratio_policy=policy, axes=axes),
            given,
            None,
        )
        for policy in ("not_larger", "not_smaller")
        for name, (height, width), axes in (
            ("linear", (8, 7), [2, 3]),
            ("nearest", (3, 9), [3, 2]),
            ("cubic", (11, 13), [2, 3]),
            ("linear", (3, 4), [2, 3]),
        )
        for given in [sizes(height, width)]
    ),
    ("half", "Resize", mode("linear"), sizes(*UP), interpolate("bilinear", UP), HALF),
    *(
        (f"{name}-{transformation}-{kind.__name__}-{height}x{width}", "Resize", attributes, kind(height, width), None)
        for name, transformation in itertools.product(
            ("nearest", "linear", "cubic"), ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
        )
        for attributes in [mode(name, transformation)]
        for kind, height, width in [(sizes, 11, 3), (scales, 2.3, 0.6)]
    ),
    *(
        (f"nearest-{rounding}-{transformation}", "Resize", attributes, scales(1.7, 0.7), None)
        for rounding, transformation in itertools.product(
            ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"), ("half_pixel", "asymmetric", "align_corners")
        )
        for attributes in [mode("nearest", transformation, nearest_mode=rounding)]
    ),
]


def test_gradient(case, check):
    check(*case)


@pytest.mark.parametrize("given", ["roi", "scales"])
def test_a_computed_region_or_scale_is_refused(given, refused):
    text = f"""agraph (float[8] x) => (float y)
        <float[1,1,4,4] image = {{{", ".join("0" * 16)}}}, int64[4] z = {{1, 1, 3, 3}}>
        {{y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">
         (image, {"x, , z" if given == "roi" else ", x"})}}"""
    assert f"its input {1 if given == 'roi' else 2} ('x') depends on the layer" in refused(text)


def test_resized_batch_is_refused(refused):
    text = "agraph (float[N,2,4,4] x) => (float y) <int64[4] s = {5, 2, 4, 4}> {y = Resize(x, , , s)}"
    assert "a resized batch" in refused(text)
