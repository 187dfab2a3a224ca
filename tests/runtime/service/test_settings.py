"""Settings that make no sense are one line."""

import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime import service
from fusioncam.runtime.service.settings import Settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"timeout": 0}, "timeout: "),
        ({"timeout": float("nan")}, "timeout: "),
        ({"max_body": 0}, "--max-body: "),
        ({"max_pixels": 1 << 60}, "--max-pixels: "),
        ({"concurrency": "many"}, "concurrency: "),
        ({"token": ""}, "token: a token is of printable ASCII characters"),
        ({"token": "two words"}, "token: a token is of printable ASCII characters"),
        ({"tokens": "x"}, "tokens: "),
    ],
)
def test_refused(given, words):
    with pytest.raises(UsageError) as caught:
        Settings.checked(**given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_token_is_never_shown():
    assert "s3cret" not in f"{Settings(token='s3cret')!r} {Settings(token='s3cret')}"


def test_what_is_not_installed_is_named(monkeypatch):
    service.require_extra()
    monkeypatch.setattr(service, "NEEDED", ("fastapi", "no_such_package"))
    with pytest.raises(UsageError, match=r'needs no_such_package: pip install "fusioncam\[serve\]"'):
        service.require_extra()
