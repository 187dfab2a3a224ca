"""Methods by name: what is one, what it is made of, and what is none."""

import pytest

from fusioncam import fusion_cam
from fusioncam.errors import UsageError
from fusioncam.runtime.methods import EVERY, FUSED, GRADIENT, METHODS, REGION, Recipe, checked_methods, recipe


def test_names():
    assert fusion_cam() == "fusion_cam:grad_cam+score_cam"
    assert fusion_cam("layer_cam", "group_cam", 15) == "fusion_cam:layer_cam+group_cam:15"
    assert recipe(fusion_cam()) == recipe("fusion_cam") == Recipe("fusion_cam")
    assert recipe("union_cam:layer_cam+group_cam:12.5") == Recipe("union_cam", "layer_cam", "group_cam", 12.5)
    assert recipe("grad_cam") is None
    assert {*METHODS} < {*EVERY} == {*GRADIENT, *REGION, *FUSED}
    assert checked_methods(["grad_cam", "score_cam", "grad_cam"]) == ("grad_cam", "score_cam")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("gradcam", "no method 'gradcam'; the methods are grad_cam, "),
        ("", "no method ''"),
        (None, "no method None"),
        (5, "no method 5"),
        ("fusion_cam:", "no method 'fusion_cam:'"),
        ("fusion_cam:layer_cam", "no method 'fusion_cam:layer_cam'"),
        ("fusion_cam:score_cam+grad_cam", "no gradient method 'score_cam' in"),
        ("fusion_cam:grad_cam+layer_cam", "no region method 'layer_cam' in"),
        ("fusion_cam:grad_cam+fusion_cam", "no region method 'fusion_cam'"),
        ("fusion_cam:grad_cam+score_cam:101", "theta is a percentile, 0 to 100, not 101"),
        ("fusion_cam:grad_cam+score_cam:-1", "no method"),
        ("fusion_cam:grad_cam+score_cam:nan", "no method"),
        ("grad_cam:grad_cam+score_cam", "no method"),
        ("fusion_cam:grad_cam+score_cam\n", "no method"),
    ],
)
def test_what_is_no_method_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        checked_methods([wrong])


def test_a_fusion_of_what_there_is_not_is_refused_at_once():
    with pytest.raises(UsageError, match="no gradient method 'smooth_cam'"):
        fusion_cam("smooth_cam")
    with pytest.raises(UsageError, match="percentile"):
        fusion_cam(theta=101)


def test_methods_that_need_a_gradient_are_named_where_there_is_none():
    assert checked_methods(["score_cam", "recipro_cam"], gradient=False) == ("score_cam", "recipro_cam")
    for method in ("fusion_cam", "grad_cam", "group_cam", "union_cam"):
        with pytest.raises(UsageError, match=f"{method} needs a gradient, and the bundle was exported without"):
            checked_methods(["score_cam", method], gradient=False)


@pytest.mark.parametrize("wrong", ["10", None, True, -1, 100.5, float("nan"), float("inf")])
def test_a_theta_that_is_no_percentile_is_refused(wrong):
    with pytest.raises(UsageError, match="theta is a percentile, 0 to 100"):
        fusion_cam(theta=wrong)


def test_theta_is_written_so_that_it_is_read_again():
    for theta in (0, 1e-6, 0.1, 1 / 3, 12.5, 100):
        assert recipe(fusion_cam(theta=theta)).theta == pytest.approx(theta, abs=5e-7)
