"""Files that people take for pictures are called by their names."""

import cv2
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.decode import decode_image


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIF"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isom", "a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
        (b"\xff\x0a\xfa\x7f", "a JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG"),
        (b"<svg>", "an SVG"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"%PDF-1.7", "a document"),
        (b"qoif", "a QOI"),
        (b"P7\nWIDTH 4\n", "a PAM"),
        (b"\x76\x2f\x31\x01", "an OpenEXR"),
        (b"PK\3\4", "an archive"),
        (b"SIMPLE  =                    T", "a FITS file"),
    ],
)
def test_what_is_not_read(start, kind):
    with pytest.raises(ImageError) as caught:
        decode_image(start + bytes(200), "it", 10_000)
    assert str(caught.value) == f"it is {kind}, which is not supported: save it again as PNG or JPEG"


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"GIF89a", "a GIF"), (b"\0\0\0\x20ftypavif", "an AVIF"), (b"\0\0\0\x20ftypmif1\0\0\0\0avif", "an AVIF")],
)
def test_what_an_older_opencv_does_not_read(monkeypatch, start, kind):
    monkeypatch.setattr(cv2, "haveImageWriter", lambda name: name not in (".gif", ".avif"))
    monkeypatch.setattr(cv2, "__version__", "4.10.0")
    with pytest.raises(ImageError) as caught:
        decode_image(start + bytes(200), "it", 10_000)
    remedy = "update OpenCV to 4.12 or later, or save the picture again as PNG or JPEG"
    assert str(caught.value) == f"it is {kind}, which OpenCV 4.10.0 does not read: {remedy}"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"II*\0\x08\0\0\0", "a TIFF"),
        (b"MM\0*\0\0\0\x08", "a TIFF"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\1\1\x11\0", "a JPEG"),
        (b"\xff\xd8\xff\xc3\0\x0b\x08\0\x10\0\x10\1\1\x11\0", "a JPEG"),
    ],
)
def test_what_is_read_of_some_kinds_only(start, kind):
    with pytest.raises(
        ImageError, match=f"is damaged or cut short, or is {kind} of a kind that is not supported: save"
    ):
        decode_image(start + bytes(200), "it", 10_000)
