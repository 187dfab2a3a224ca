"""Signatures of file formats, so that an error names the format of a file that is not read."""

import re

import cv2

# Formats that are not supported: (place of the signature, its pattern, name of the format).
UNSUPPORTED: tuple[tuple[int, bytes, str], ...] = (
    (0, rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, rb"II\xbc\x01", "a JPEG XR"),
    (4, rb"ftyp(?:hei[cxms]|hev[cxms])", "a HEIC"),
    (4, rb"ftyp(?:mif1|msf1)(?!.{0,40}avi[fs])", "a HEIF"),
    (4, rb"ftyp(?:isom|iso[2-6]|mp4[12]|qt  |M4V|avc1|3gp)", "a video"),
    (4, rb"ftypcrx ", "a camera's raw file"),
    (0, rb"FUJIFILMCCD-RAW|IIU\0|IIRO|IIRS|II\x1a\0\0\0HEAPCCDR", "a camera's raw file"),
    (0, rb"8BPS", "a Photoshop file"),
    (128, rb"DICM", "a DICOM file"),
    (0, rb"SIMPLE  =", "a FITS file"),
    (0, rb"\x89HDF\r\n", "an HDF5 file"),
    (0, rb"\x93NUMPY", "a NumPy array (Python takes it loaded)"),
    (0, rb"\x76\x2f\x31\x01", "an OpenEXR"),
    (0, rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", "a document"),
    (0, rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,500})?(?:<!--.{0,500}-->\s*)?(?:<!DOCTYPE svg.{0,500})?<svg", "an SVG"),
    (0, rb"\0\0[\x01\x02]\0[^\0]\0", "an icon (ICO)"),
    (0, rb"icns", "an icon (ICNS)"),
    (0, rb"qoif", "a QOI"),
    (0, rb"DDS ", "a DDS"),
    (0, rb"P7\s", "a PAM"),
    (0, rb"BPG\xfb", "a BPG"),
    (0, rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]", "a PCX"),
    (0, rb"\x01\xda[\0\x01][\x01\x02]", "an SGI picture"),
    (0, rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
)
# Formats of which OpenCV reads some kinds only.
PARTLY_SUPPORTED: tuple[tuple[bytes, str], ...] = (
    (rb"II[*+]\0|MM\0[*+]", "a TIFF"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a BMP"),
    (rb"\xff\xd8(?=\xff).*\xff(?:[\xc1\xc2]\0[\x0b\x0e\x11\x14][^\x08]|[\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x0e\x11\x14])",
     "a JPEG"),
)  # fmt: skip
# Formats that OpenCV reads since 4.12, or where it was built with them.
OPTIONAL: tuple[tuple[bytes, str, str], ...] = (
    (rb"GIF8", ".gif", "a GIF"),
    (rb".{4}ftyp.{0,40}avi[fs]", ".avif", "an AVIF"),
)


def unsupported_format(data: bytes) -> str | None:
    """Return the name of a file's format where no file of that format is read, or None."""
    return next((kind for at, mark, kind in UNSUPPORTED if re.compile(mark, re.DOTALL).match(data, at)), None)


def unread_format(data: bytes) -> str | None:
    """Return the name of a file's format where this OpenCV lacks the format, or None."""
    named = ((end, kind) for mark, end, kind in OPTIONAL if re.compile(mark, re.DOTALL).match(data))
    return next((kind for end, kind in named if not cv2.haveImageWriter(end)), None)


def partly_supported_format(data: bytes) -> str | None:
    """Return the name of a file's format where only some kinds of that format are read, or None."""
    return next((kind for mark, kind in PARTLY_SUPPORTED if re.compile(mark, re.DOTALL).match(data)), None)
