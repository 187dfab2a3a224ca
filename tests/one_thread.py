"""One thread for every session of onnxruntime and for torch, in this process.

Tests run in a process per core. The threads that onnxruntime starts for each session by default only wait for each
other there, with their cores busy: small sessions take twice to four times the CPU time. Processes that tests start
keep the defaults.
"""

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_inference_collection as collection

Default = onnxruntime.SessionOptions


class SessionOptions(Default):
    """Options of a session, where one thread stands for the default, 0."""

    def __init__(self):
        super().__init__()
        self.intra_op_num_threads = 0

    @property
    def intra_op_num_threads(self):
        return Default.intra_op_num_threads.__get__(self)

    @intra_op_num_threads.setter
    def intra_op_num_threads(self, threads):
        Default.intra_op_num_threads.__set__(self, threads or 1)


def apply():
    """Have sessions opened from now on take one thread, those without options too."""
    torch.set_num_threads(1)
    onnxruntime.SessionOptions = SessionOptions
    collection.C.get_default_session_options = SessionOptions
