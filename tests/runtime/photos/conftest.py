"""The check of refusals that the tests of photos share."""

import pytest

from fusioncam.errors import ImageError


@pytest.fixture(scope="session")
def assert_refused():
    """Checks that a call raises an ImageError of one line that holds some words."""

    def assert_refused(call, *words):
        with pytest.raises(ImageError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in words), message

    return assert_refused
