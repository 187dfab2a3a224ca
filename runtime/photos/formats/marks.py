"""Marks at the start of files, by which a file that is not read is called by its name."""

import re

# Files that people take for pictures: where their mark lies, and what they are.
UNREAD: tuple[tuple[int, bytes, str], ...] = (
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
PARTLY: tuple[tuple[bytes, str], ...] = (
    (rb"II[*+]\0|MM\0[*+]", "a TIFF"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a BMP"),
    (rb"\xff\xd8(?=\xff).*\xff(?:[\xc1\xc2]\0[\x0b\x0e\x11\x14][^\x08]|[\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x0e\x11\x14])",
     "a JPEG"),
)  # fmt: skip


def unread(data: bytes) -> str | None:
    """Name the kind of a file that is not read at all, or return None."""
    return next((kind for at, mark, kind in UNREAD if re.compile(mark, re.DOTALL).match(data, at)), None)


def partly_read(data: bytes) -> str | None:
    """The format of a file of which some kinds only are read, or None."""
    return next((kind for mark, kind in PARTLY if re.compile(mark, re.DOTALL).match(data)), None)
