"""What methods are called in print."""

import pytest

from fusioncam.runtime.picture import METHOD_TITLES, method_title
from fusioncam.runtime.picture.titles import probability_title


def test_a_small_probability_is_not_shown_as_zero():
    shown = [probability_title(p) for p in (0.0, 1e-9, 0.004, 0.005, 0.256, 1.0, -3.0)]
    assert shown == ["0.00", "< 0.01", "< 0.01", "0.01", "0.26", "1.00", "-3.00"]


class TestMethodTitle:
    def test_table_and_fallback(self):
        assert method_title("fusion_cam") == "Fusion-CAM"
        assert method_title("my_own_method") == "my own method"

    def test_every_name_matches_its_title(self):
        for name, title in METHOD_TITLES.items():
            letters = title.replace("++", "pp").replace("-", "").lower()
            assert name.replace("_", "").replace("plusplus", "pp") == letters

    @pytest.mark.parametrize(
        ("method", "title"),
        [
            ("fusion_cam:layer_cam+group_cam", "Fusion-CAM (Layer-CAM + Group-CAM)"),
            ("fusion_cam:grad_cam_pp+score_cam:12.5", "Fusion-CAM (Grad-CAM++ + Score-CAM, theta 12.5)"),
            ("union_cam:hires_cam+recipro_cam", "Union-CAM (HiRes-CAM + Recipro-CAM)"),
            ("grad_cam_pp_eps", "Grad-CAM++ (eps)"),
            ("score_cam_probability", "Score-CAM (probability)"),
            ("score_cam_corners", "Score-CAM (corners)"),
            ("fusion_cam:layer_cam+score_cam_increase", "Fusion-CAM (Layer-CAM + Score-CAM (increase))"),
            ("grad_camera", "grad camera"),
            ("", ""),
        ],
    )
    def test_variants_and_fusions_of_other_parts(self, method, title):
        assert method_title(method) == title
