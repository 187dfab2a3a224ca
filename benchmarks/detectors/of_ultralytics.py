"""Detectors of Ultralytics, which letterboxes and searches for duplicates itself."""

import contextlib
import copy
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import torch

from detectors.family import SIDE, Detector, Found, calibrate, spread, watched
from fusioncam.kernels.arrays import Array

IOU = 0.7
# Endings of names: exported with nms=True, so that the file ends in NonMaxSuppression; with nms=False, in a TopK.
ENDS = {"-nms": True, "-e2e": False}
NAMES = (
    *("yolov5n", "yolov8n", "yolov9t", "yolo11n", "yolo12n", "yolo26n"),
    *("yolov8n-seg", "yolo11n-seg", "yolov8n-pose", "yolo11n-pose", "yolov8n-obb", "yolo11n-obb"),
    *(f"{name}-e2e" for name in ("yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose")),
    *(f"{name}-nms" for name in ("yolov8n", "yolov8n-seg", "yolov8n-pose")),
    *("rtdetr-resnet50", "rtdetr-l"),
)


def make(name: str, folder: Path, photos: list[Path]) -> Detector:
    """Make a detector of Ultralytics with random weights, and its file."""
    ultralytics = importlib.import_module("ultralytics")
    torch.manual_seed(0)
    of_detr, end = name.startswith("rtdetr"), ENDS.get(name[-4:])
    model = (ultralytics.RTDETR if of_detr else ultralytics.YOLO)(f"{name if end is None else name[:-4]}.yaml")
    net = model.model.eval()
    if not of_detr:
        net.end2end = end is False
    head, inputs = net.model[-1], [_tensor(photo) for photo in photos]
    if of_detr:
        _wake(head)
        calibrate(net, [head.dec_bbox_head[-1].layers[-1]], [head.dec_score_head[-1]], inputs)
    else:
        boxes, classes = (head.one2one_cv2, head.one2one_cv3) if head.end2end else (head.cv2, head.cv3)
        # Without bins of distances these are numbers of their own: boxes shall not be inverted.
        calibrate(net, [b[-1] for b in boxes], [c[-1] for c in classes], inputs, apart=0.0 if head.reg_max > 1 else 4.0)
    if "-seg" in name:
        masks = head.one2one_cv4 if head.end2end else head.cv4
        for layer in (*(branch[-1] for branch in masks), head.proto.cv3.conv):
            spread(layer, watched(net, [layer], inputs)[0], 0.0, 2.0)
    with contextlib.chdir(folder):
        options = {"nms": end, "iou": IOU, "simplify": False, "verbose": False}
        made = copy.deepcopy(model).export(format="onnx", imgsz=SIDE, **options)
        source = Path(made).resolve().rename(folder / f"{name}.onnx")
    # By the file: torch's rounding would turn ties of the search the other way.
    of_file = ultralytics.RTDETR(str(source)) if of_detr else ultralytics.YOLO(str(source), task=model.task)
    find, numbers = partial(_found, of_file), _numbers_of(net, of_detr)
    search = None if of_detr or end is not None else partial(_searched, of_file, _session(source))
    pictures = partial(_fitting, folder) if name.endswith("-obb") else lambda photo: photo
    return Detector(source, net, find, pictures, numbers, library="Ultralytics", search=search)


def _fitting(folder: Path, photo: Path) -> Path:
    """Return a photo at a size that the letterbox does not round.

    Where it does, the library scales width and height of a turned box as if they lay along the photo's axes.
    """
    fitting = folder / f"{photo.stem}.png"
    if not fitting.exists():
        cv2.imwrite(str(fitting), cv2.resize(cv2.imread(str(photo)), (2 * SIDE, 3 * SIDE // 2)))
    return fitting


def _wake(decoder: torch.nn.Module) -> None:
    """Draw weights of RT-DETR so large that queries differ: those of the library are drawn for training."""
    for module in decoder.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)


def _tensor(photo: Path) -> torch.Tensor:
    """Return a photo as the network takes it, roughly: weights are chosen by it, and nothing is compared."""
    pixels = cv2.resize(cv2.imread(str(photo)), (SIDE, SIDE))[..., ::-1]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _found(model: Any, photo: Path, conf: float) -> Found:
    return _read(model.predict(str(photo), imgsz=SIDE, conf=conf, iou=IOU, rect=False, verbose=False)[0])


def _read(result: Any) -> Found:
    boxes = result.boxes if result.obb is None else result.obb
    height, width = result.orig_shape
    # Boxes around turned ones may reach beyond the photo.
    corners = boxes.xyxy.clamp(min=0).minimum(torch.tensor([width, height] * 2))
    masks = None if result.masks is None else result.masks.data.numpy() > 0
    return Found(corners.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(int), masks)


def _session(source: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def _searched(model: Any, session: onnxruntime.InferenceSession, photo: Path, x: Array, conf: float) -> Found:
    """Return the library's detections of a photo in the outputs of its file for the preprocessed photo (3, H, W).

    Its search adds a multiple of 7680 pixels to boxes; in float64 that does not round them.
    """
    (raw,) = session.run(["output0"], {"images": x[None]})
    search = importlib.import_module("ultralytics.utils.nms").non_max_suppression
    plain, image = (
        importlib.import_module("ultralytics.models.yolo.detect").DetectionPredictor,
        torch.from_numpy(x[None]),
    )
    predictor, turned = model.predictor, model.task == "obb"
    classes = 0 if model.task == "detect" else len(model.names)
    (rows,) = search(torch.from_numpy(raw).double(), conf, IOU, nc=classes, rotated=turned)
    placed = (type(predictor) if turned else plain).construct_result
    return _read(placed(predictor, rows, image, cv2.imread(str(photo)), str(photo)))


def _numbers_of(net: Any, of_detr: bool) -> Callable[[Any], torch.Tensor]:
    classes, end_to_end = len(net.names), not of_detr and net.model[-1].end2end

    def numbers(output: Any) -> torch.Tensor:
        """Return the scores (A, C) of a picture, before any search."""
        found, raw = output
        if of_detr:
            return torch.as_tensor(raw[1])[-1, 0].sigmoid()
        if end_to_end:
            return torch.as_tensor(raw["one2one"]["scores"])[0].T.sigmoid()
        y = found[0] if isinstance(found, tuple | list) else found
        return torch.as_tensor(y)[0].T[:, 4 : 4 + classes]

    return numbers
