"""Networks that read a picture step by step: the layer is the last tensor that has the places."""

import pytest
import torch
from torch import nn

from fusioncam.export import check, export_torch


class TextReader(nn.Module):
    """A CRNN: columns of the last feature map, one after the other, both ways."""

    def __init__(self, kind):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, (4, 1)), nn.ReLU())
        self.reader = kind(8, 5, bidirectional=True)
        self.head = nn.Linear(10, 7)

    def forward(self, x):
        columns = self.features(x).squeeze(2).permute(2, 0, 1)
        return self.head(self.reader(columns)[0]).mean(0)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_text_reader_is_explained_by_its_last_convolution(kind, tmp_path):
    torch.manual_seed(0)
    manifest = export_torch(TextReader(getattr(nn, kind)).eval(), torch.zeros(1, 3, 8, 16), tmp_path / "m.fcam")
    assert manifest.layer.shape == (8, 1, 8)
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
