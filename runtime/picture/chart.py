"""The chart of a signal: a line per channel, over the whole width, so that a map of the signal fits behind it."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.runtime.picture.text import TextStyle, text_width, write

WIDTH = 700
LANE_RANGE, MOST_LANES = (18, 130), 16  # height of a channel in pixels; more channels share one lane
LANES_HEIGHT = 320  # of all lanes, where they are not smaller
FILL = 0.8  # of a lane's height, between the least and the greatest number
TICKS, TICK = 5, TextStyle(12, 400, (107, 114, 128))
LINE, RULE = (31, 41, 55), (209, 213, 219)
FINE = 4  # bits of a pixel's fraction, in which lines are drawn


def chart(signal: Float32Array) -> UInt8Array:
    """Draw a signal: its channels one below the other, each stretched to its own range, and the numbers of samples.

    Args:
        signal: (L, C). Of more than 16 channels, all are drawn into one lane.

    Returns:
        (height, 700, 3) uint8 RGB, white where nothing is drawn.
    """
    length, channels = signal.shape
    lanes = channels if channels <= MOST_LANES else 1
    lane = min(max(LANES_HEIGHT // lanes, LANE_RANGE[0]), LANE_RANGE[1])
    sheet = np.full((lanes * lane + TICK.leading, WIDTH, 3), 255, np.uint8)
    _draw_ticks(sheet, lanes * lane, length)
    low, high = signal.min(axis=0), signal.max(axis=0)
    if lanes == 1:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    across = (np.arange(length) + 0.5) * WIDTH / length - 0.5
    for channel in range(channels):
        n = min(channel, lanes - 1)
        if n:
            cv2.line(sheet, (0, n * lane), (WIDTH, n * lane), RULE)
        span = float(high[n] - low[n])
        height = (signal[:, channel] - low[n]) / span if span else np.full(length, 0.5)
        down = n * lane + lane * (0.5 + FILL * (0.5 - height))
        line = np.rint(np.stack([across, down], 1) * 2**FINE).astype(np.int32)
        cv2.polylines(sheet, [line], False, LINE, 1, cv2.LINE_AA, FINE)
    return sheet


def _draw_ticks(sheet: UInt8Array, top: int, length: int) -> None:
    """Draw the numbers of some samples below the lanes, counted from 0."""
    cv2.line(sheet, (0, top), (WIDTH, top), RULE)
    for sample in sorted({*np.linspace(0, length - 1, TICKS).round().astype(int).tolist()}):
        text, at = str(sample), (sample + 0.5) * WIDTH / length
        left = min(max(round(at) - text_width(text, TICK) // 2, 2), WIDTH - text_width(text, TICK) - 2)
        cv2.line(sheet, (round(at), top - 3), (round(at), top), RULE)
        write(sheet, text, left, top, TICK)
