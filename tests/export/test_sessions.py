"""Sessions of the export."""

import numpy as np

from fusioncam.export.sessions import open_session
from fusioncam.runtime.demo import MODEL


def test_with_one_thread_a_picture_gives_the_same_bits_in_any_batch():
    """Rounding to whole steps, as quantised models do, would make a step of the last digit of a sum."""
    pictures = np.random.default_rng(0).normal(size=(3, 3, 96, 96)).astype(np.float32)
    session = open_session(MODEL, optimize=False, threads=1)
    (together,) = session.run(["logits"], {"image": pictures})
    alone = [session.run(["logits"], {"image": picture[None]})[0] for picture in pictures]
    np.testing.assert_array_equal(together, np.concatenate(alone))
