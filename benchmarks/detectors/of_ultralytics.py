"""Detectors of Ultralytics, which letterboxes and searches for duplicates itself."""

import contextlib
import copy
import importlib
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from detectors.family import SIDE, Detector, Found, calibrate, spread, watched

IOU = 0.7
YOLO = (
    *("yolov5n", "yolov8n", "yolov9t", "yolo11n", "yolo12n"),
    *("yolov8n-seg", "yolo11n-seg", "yolov8n-pose", "yolo11n-pose", "yolov8n-obb", "yolo11n-obb"),
)
NAMES = (*YOLO, "rtdetr-resnet50")


def make(name: str, folder: Path, photos: list[Path]) -> Detector:
    """Make a detector of Ultralytics with random weights, and its file."""
    ultralytics = importlib.import_module("ultralytics")
    torch.manual_seed(0)
    of_detr = name.startswith("rtdetr")
    model = (ultralytics.RTDETR if of_detr else ultralytics.YOLO)(f"{name}.yaml")
    net = model.model.eval()
    head, inputs = net.model[-1], [_tensor(photo, of_detr) for photo in photos]
    if of_detr:
        calibrate(net, [head.dec_bbox_head[-1].layers[-1]], [head.dec_score_head[-1]], inputs)
    else:
        calibrate(net, [branch[-1] for branch in head.cv2], [branch[-1] for branch in head.cv3], inputs)
    if name.endswith("-seg"):
        for layer in (*(branch[-1] for branch in head.cv4), head.proto.cv3.conv):
            spread(layer, watched(net, [layer], inputs)[0], 0.0, 2.0)
    with contextlib.chdir(folder):
        made = Path(copy.deepcopy(model).export(format="onnx", imgsz=SIDE, simplify=False, verbose=False)).resolve()
    source = made.rename(folder / f"{name}.onnx")
    # By the file: torch's rounding would turn ties of the search the other way.
    of_file = ultralytics.RTDETR(str(source)) if of_detr else ultralytics.YOLO(str(source), task=model.task)
    pictures = partial(_fitting, folder) if name.endswith("-obb") else lambda photo: photo
    return Detector(source, net, partial(_found, of_file), pictures, _numbers_of(net, of_detr))


def _fitting(folder: Path, photo: Path) -> Path:
    """Return a photo at a size that the letterbox does not round.

    Where it does, the library scales width and height of a turned box as if they lay along the photo's axes.
    """
    fitting = folder / f"{photo.stem}.png"
    if not fitting.exists():
        cv2.imwrite(str(fitting), cv2.resize(cv2.imread(str(photo)), (2 * SIDE, 3 * SIDE // 2)))
    return fitting


def _tensor(photo: Path, squashed: bool) -> torch.Tensor:
    """Return a photo as the network takes it, roughly: weights are chosen by it, and nothing is compared."""
    pixels = cv2.resize(cv2.imread(str(photo)), (SIDE, SIDE))[..., ::-1]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _found(model: Any, photo: Path, conf: float) -> Found:
    result = model.predict(str(photo), imgsz=SIDE, conf=conf, iou=IOU, rect=False, verbose=False)[0]
    boxes = result.boxes if result.obb is None else result.obb
    height, width = result.orig_shape
    # Boxes around turned ones may reach beyond the photo.
    corners = boxes.xyxy.clamp(min=0).minimum(torch.tensor([width, height] * 2))
    masks = None if result.masks is None else result.masks.data.numpy() > 0
    return Found(corners.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(int), masks)


def _numbers_of(net: Any, of_detr: bool) -> Any:
    classes = len(net.names)

    def numbers(output: Any) -> torch.Tensor:
        y = output[0] if isinstance(output, tuple | list) else output
        y = y[0] if isinstance(y, tuple | list) else y
        rows = y[0] if of_detr else y[0].T
        return rows[:, 4 : 4 + classes]

    return numbers
