"""The comparison that the tests of the device engine share."""

import numpy as np
import pytest

TOLERANCE = 5e-6


@pytest.fixture(scope="session")
def assert_equal():
    """Compares two explanations, their maps within a tolerance."""

    def assert_equal(found, wanted, tolerance=TOLERANCE):
        assert (found.class_index, found.flags, found.passes) == (wanted.class_index, wanted.flags, wanted.passes)
        assert found.probability == pytest.approx(wanted.probability, abs=1e-6)
        assert list(found.maps) == list(wanted.maps)
        for method, m in wanted.maps.items():
            assert found.maps[method].dtype == np.float32
            np.testing.assert_allclose(found.maps[method], m, rtol=0, atol=tolerance, err_msg=method)

    return assert_equal
