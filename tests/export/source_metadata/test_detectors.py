"""The preprocessing of detectors: Ultralytics' metadata, and configurations that letterbox pictures."""

import json

import numpy as np
import onnx_ir as ir
import pytest

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.source_metadata.detectors import preset_of_detector
from fusioncam.export.source_metadata.labels import read_labels
from fusioncam.export.source_metadata.preprocessing import read_preprocessing
from fusioncam.runtime.photos.axes import axes
from fusioncam.runtime.photos.model_input import preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ULTRALYTICS = {
    "description": "Ultralytics YOLOv8n model", "author": "Ultralytics", "version": "8.4.190", "stride": "32",
    "task": "detect", "batch": "1", "imgsz": "[640, 640]", "names": "{0: 'person', 1: 'bicycle'}", "channels": "3",
}  # fmt: skip
LETTERBOX = "letterbox", "centre", "even", "cv2-linear"


def way(p):
    return p.resize, p.pad_place, p.pad_rounding, p.interpolation


class TestUltralytics:
    @pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
    def test_a_detector_takes_a_letterbox(self, task, tmp_path):
        p = read_preprocessing({**ULTRALYTICS, "task": task}, tmp_path, (640, 640), {})
        assert (way(p), p.pad, p.origin, p.rescale) == (LETTERBOX, (114,) * 3, "model", 1 / 255)
        assert (p.mean, p.std, p.channel_order) == ((0,) * 3, (1,) * 3, "rgb")

    @pytest.mark.parametrize("said", [{"head": "RTDETRDecoder"}, {"description": "Ultralytics rtdetr-l model"}])
    def test_rt_detr_takes_the_whole_picture_without_its_proportions(self, said, tmp_path):
        p = read_preprocessing({**ULTRALYTICS, **said}, tmp_path, (640, 640), {})
        assert (p.resize, p.interpolation, p.origin, p.rescale) == ("squash", "cv2-linear", "model", 1 / 255)

    def test_a_classifier_is_cropped(self, tmp_path):
        assert read_preprocessing({**ULTRALYTICS, "task": "classify"}, tmp_path, (224, 224), {}).resize == "crop"

    def test_its_names(self, tmp_path):
        assert read_labels(ULTRALYTICS, tmp_path, 2, None) == ("person", "bicycle")

    @pytest.mark.parametrize("channels", [1, 4])
    def test_any_number_of_channels(self, channels, tmp_path):
        p = read_preprocessing(ULTRALYTICS, tmp_path, (64, 64), {}, channels=channels)
        assert (p.resize, p.pad) == ("letterbox", (114,) * channels)


class TestGuess:
    @pytest.mark.parametrize(
        ("reader", "anchors", "preset"),
        [
            ("yolo", 84, "yolo"),
            ("yolo-objectness", 3 * 84, "yolo"),
            ("yolo-objectness", 84, "yolox"),  # 8 x 8, 4 x 4 and 2 x 2 cells
            ("detr", 100, None),
            ("vector", None, None),
        ],
    )
    def test_by_the_reader(self, reader, anchors, preset):
        assert preset_of_detector(reader, anchors, (64, 64)) == preset

    def test_a_yolo_that_says_nothing_is_assumed_to_take_a_letterbox(self, tmp_path):
        p = read_preprocessing({}, tmp_path, (64, 64), {}, detector="yolo")
        assert (way(p), p.rescale, p.mean, p.origin) == (LETTERBOX, 1 / 255, (0,) * 3, "assumed")

    def test_yolov5_says_its_stride_and_its_names(self, tmp_path):
        said = {"stride": "32", "names": "{0: 'person'}"}
        assert read_preprocessing(said, tmp_path, (64, 64), {}, detector="yolo").origin == "model"
        assert read_preprocessing(said, tmp_path, (64, 64), {}).resize == "squash"

    def test_who_gives_a_number_gives_the_arithmetic_alone(self, tmp_path):
        p = read_preprocessing({}, tmp_path, (64, 64), {"rescale": 0.5}, detector="yolo")
        assert (way(p), p.rescale) == (LETTERBOX, 0.5)

    @pytest.mark.parametrize(("kind", "channels", "rescale"), [("UINT8", 3, 1), ("FLOAT", 1, 1 / 255), ("FLOAT", 5, 1)])
    def test_other_pictures_keep_their_arithmetic(self, kind, channels, rescale, tmp_path):
        p = read_preprocessing({}, tmp_path, (64, 64), {}, ir.DataType[kind], channels, "yolox")
        assert (p.resize, p.pad_place, p.rescale) == ("letterbox", "corner", rescale)


class TestUser:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"pad": 0, "pad_place": "corner"}, ("letterbox", "corner", "even", "cv2-linear")),
            ({"interpolation": "bilinear"}, ("letterbox", "centre", "even", "bilinear")),
            ({"resize": "squash"}, ("squash", "centre", "even", "bilinear")),
            ({"resize": "squash", "interpolation": "cv2-linear"}, ("squash", "centre", "even", "cv2-linear")),
        ],
    )
    def test_counts_more_than_the_model(self, given, expected, tmp_path):
        p = read_preprocessing(ULTRALYTICS, tmp_path, (64, 64), given)
        assert (way(p), p.origin, p.rescale) == (expected, "user", 1 / 255)

    def test_presets(self, tmp_path):
        yolo = read_preprocessing({}, tmp_path, (64, 64), "yolo")
        assert (way(yolo), yolo.rescale, yolo.channel_order) == (LETTERBOX, 1 / 255, "rgb")
        yolox = read_preprocessing({}, tmp_path, (64, 64), "yolox")
        assert (way(yolox)[1:3], yolox.rescale, yolox.channel_order) == (("corner", "down"), 1, "bgr")

    def test_a_preset_of_a_letterbox_is_squashed_on_request(self, tmp_path):
        assert read_preprocessing({}, tmp_path, (64, 64), {"preset": "yolox", "resize": "squash"}).resize == "squash"

    def test_one_number_goes_for_all_channels(self, tmp_path):
        given = {"preset": "yolo", "pad": 3}
        assert read_preprocessing({}, tmp_path, (64, 64), given, channels=5).pad == (3,) * 5

    def test_padding_without_a_letterbox_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="pad is for resize letterbox, not for squash"):
            read_preprocessing({}, tmp_path, (64, 64), {"preset": "unit", "pad": 3})


def configured(folder, shape, **config):
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return read_preprocessing({}, folder, shape, {})


SIZES = {"shortest_edge": 800, "longest_edge": 1333}
FITTED = "it keeps the aspect ratio, so its pictures differ in size: they were fitted into the model's input"


class TestHuggingFace:
    @pytest.mark.parametrize(
        "config",
        [
            # As facebook/detr-resnet-50 has it.
            {"feature_extractor_type": "DetrFeatureExtractor", "format": "coco_detection", "size": 800,
             "max_size": 1333, "do_normalize": True, "do_resize": True, "image_mean": list(MEAN),
             "image_std": list(STD)},
            {"image_processor_type": "ConditionalDetrImageProcessor", "size": SIZES, "do_convert_annotations": True},
            {"image_processor_type": "DeformableDetrImageProcessorFast"},
            {"image_processor_type": "RfDetrImageProcessor"},
        ],
    )  # fmt: skip
    def test_a_picture_is_fitted_into_the_upper_left_corner_before_zeros(self, config, tmp_path):
        p = configured(tmp_path, (80, 107), **config)
        assert (way(p), p.mean, p.std) == (("letterbox", "corner", "down", "bilinear"), MEAN, STD)
        assert p.remarks == (f"preprocessor_config.json: {FITTED}",)
        x = preprocess(np.full((30, 30, 3), 255, np.uint8), p)
        assert np.abs(x[:, :, 80:]).max() < 1e-6
        assert x[:, :, :80].min() > 2

    def test_bounds_of_height_and_width_are_followed_exactly(self, tmp_path):
        bounds, padded = {"max_height": 64, "max_width": 64}, {"height": 64, "width": 64}
        p = configured(tmp_path, (64, 64), image_processor_type="DetrImageProcessor", size=bounds, pad_size=padded)
        assert p.remarks == ()
        for height, width in ((99, 200), (200, 99), (31, 17), (500, 333)):
            sides = [int(n * min(64 / height, 64 / width)) for n in (height, width)]
            assert [axis.resized for axis in axes((height, width), p)] == sides

    def test_a_square_bound_is_rounded_to_the_nearest(self, tmp_path):
        size = {"shortest_edge": 64, "longest_edge": 64}
        padded = {"height": 64, "width": 64}
        p = configured(tmp_path, (64, 64), image_processor_type="DetrImageProcessor", size=size, pad_size=padded)
        assert p.pad_rounding == "even"
        assert p.remarks == ("preprocessor_config.json: the sides of its pictures can differ by a pixel",)

    def test_yolos_says_that_its_sides_are_multiples_of_16(self, tmp_path):
        assert (
            "multiples of 16" in configured(tmp_path, (64, 96), image_processor_type="YolosImageProcessor").remarks[1]
        )

    @pytest.mark.parametrize("kind", ["rt_detr", "rt_detr_v2", "d_fine", "deimv2"])
    def test_rt_detr_and_its_kin_are_squashed(self, kind, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        p = configured(tmp_path, (640, 640), do_pad=False, size={"height": 640, "width": 640}, resample=2)
        assert (p.resize, p.rescale, p.mean, p.std, p.remarks) == ("squash", 1 / 255, (0,) * 3, (1,) * 3, ())

    def test_padding_beyond_the_bounds_is_refused(self, tmp_path):
        padded = {"height": 1333, "width": 1333}
        with pytest.raises(ModelError, match="Detr pads pictures within 800 x 1333 to 1333 x 1333; choose"):
            configured(tmp_path, (64, 64), image_processor_type="DetrImageProcessor", size=SIZES, pad_size=padded)
