"""Preprocessing of the models that come as ONNX files; other files must say so themselves."""

from typing import Any

WANTED: dict[str, dict[str, Any]] = {
    "mobilenetv1": {"preset": "tf"},
    "mobilenetv2": {"preset": "tf"},
    "squeezenet": {"preset": "raw", "mean": (103.94, 116.78, 123.68), "channel_order": "bgr"},
}
