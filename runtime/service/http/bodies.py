"""The bodies of requests for explanations: JSON, JSON and binary tensors, a photo alone, or a form with photos."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from fusioncam.errors import UsageError, first_line
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.protocol.openapi import BINARY, FORM, JSON
from fusioncam.runtime.service.protocol.prepared_request import INPUTS
from fusioncam.runtime.service.protocol.query import parsed_texts
from fusioncam.runtime.service.protocol.schemas import InferRequest, InputTensor, read_json
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH, Tensor, check_inputs, read_tensors, split_body
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

CURL = "application/x-www-form-urlencoded"  # the type that curl gives to any body, unless it is told another one
# A page from elsewhere can have a browser send forms without asking this service first. Browsers say where those come
# from; programs do not.
FORMS = (FORM, CURL)
OF_BROWSERS = ("Origin", "Sec-Fetch-Site", "Referer")
NPY = "application/x-npy"
TYPES = (JSON, BINARY, "image/*", NPY, FORM)
FILE_FIELDS = {
    "image": "image_bytes",
    "image_bytes": "image_bytes",
    "region": "region_bytes",
    "like": "reference_bytes",
}
"""The fields of a form that hold files, and the inputs that they are."""
MOST_FIELDS = 64


class Body(NamedTuple):
    """The content of a body.

    Attributes:
        request: The request.
        tensors: Its tensors by name.
        fields: Parameters that come as fields of a form.
        photo_name: The name of the only photo, where the body says it.
    """

    request: InferRequest
    tensors: dict[str, Tensor]
    fields: dict[str, Any]
    photo_name: str | None = None


def check_type(headers: Headers) -> None:
    """Raise HTTPException (415) for a body that is none of `TYPES`; tritonclient does not send the type at all."""
    kind = _kind(headers)
    from_browser = any(name in headers for name in OF_BROWSERS)
    if kind in ("", *TYPES, CURL) and not (kind in FORMS and from_browser):
        return
    raise HTTPException(
        415,
        f"the body's type is {quote(headers['Content-Type'])}; send Content-Type: {JSON}, or {BINARY} where binary "
        "tensors follow, or image/jpeg for a photo alone",
        {"Accept": ", ".join(TYPES)},
    )


def read_body(
    body: bytes,
    headers: Headers,
    model: ServedModel,
    settings: Settings,
    parse: Callable[[bytes], InferRequest] = read_json,
) -> Body:
    """Return the content of a body of a type that `check_type` takes.

    Args:
        body: The body, decompressed.
        headers: Those of the request.
        model: The model.
        settings: Limits.
        parse: Reads JSON.

    Raises:
        UsageError: The body is no request.
    """
    if not body:
        raise UsageError("the body is empty: send JSON, JSON and binary tensors, or a photo")
    kind, length = _kind(headers), headers.get(HEADER_LENGTH)
    if kind == FORM:
        return _read_form(body, headers)
    is_photo = kind in ("image/*", NPY) if length is None else length == "0"
    # JSON begins so, and no photo does.
    if is_photo or (length is None and kind != JSON and body.lstrip()[:1] not in (b"{", b"[")):
        return _files({"image_bytes": [body]})
    numbers = settings.max_pictures * model.manifest.preprocessing.channels * model.most_pixels
    request, data = split_body(body, length, numbers, parse)
    check_inputs(request, INPUTS, settings.most_listed)
    return Body(request, read_tensors(request, data), {})


def _kind(headers: Headers) -> str:
    """Return the type of a body, without its parameters; `image/*` for any picture."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return "image/*" if kind.startswith("image/") else kind


def _files(files: Mapping[str, Sequence[bytes]], fields: dict[str, Any] | None = None, name: str | None = None) -> Body:
    """Return the content of a body that is nothing but files, by their inputs."""
    described = [InputTensor(name=n, shape=[len(f)], datatype="BYTES", data=None) for n, f in files.items()]
    tensors = {n: Tensor((len(f),), list(f), from_json=False) for n, f in files.items()}
    return Body(InferRequest(inputs=described), tensors, fields or {}, name)


class _UploadedPhoto(NamedTuple):
    """A file of a form: the name of its field, its own name, its bytes."""

    field: str
    name: str | None
    data: bytes

    @classmethod
    def read(cls, field: str, file: UploadFile) -> "_UploadedPhoto":
        """Read a file and close it."""
        with file.file as opened:
            return cls(field, file.filename, opened.read())


class _FormParser(MultiPartParser):
    """A parser of forms that writes no file: a full disk must not fail a request. 0 is no limit.

    Attributes:
        ended: Whether the end of the form was there; a part that is cut short would be left out without a word.
    """

    spool_max_size = 0
    ended = False

    def on_end(self) -> None:
        """Note the end of the form."""
        self.ended = True


def _read_form(body: bytes, headers: Headers) -> Body:
    """Return the content of a form; to be called in a thread.

    Raises:
        UsageError: The form is damaged, has no photo, or an unknown field.
    """

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    parser = _FormParser(headers, stream(), max_files=MOST_FIELDS, max_fields=MOST_FIELDS)
    try:
        items = asyncio.run(parser.parse()).multi_items()
    except (MultiPartException, FormParserError) as error:  # starlette before 1.0 lets the second through
        raise UsageError(f"the form cannot be read: {first_line(error)}") from None
    files = [_UploadedPhoto.read(name, value) for name, value in items if isinstance(value, UploadFile)]
    if not parser.ended:
        raise UsageError("the form is cut short: its last boundary, which ends in --, is missing; send all of it")
    by_input: dict[str, list[bytes]] = {}
    for file in files:
        if file.field not in FILE_FIELDS:
            raise UsageError(
                f"the form has a file in the field {quote(file.field)}: send photos in the field image, a mask in "
                "region, a reference in like"
            )
        by_input.setdefault(FILE_FIELDS[file.field], []).append(file.data)
    if "image_bytes" not in by_input:
        raise UsageError(
            "the form has no photo: send one as a file in the field image, as curl -F image=@photo.jpg does"
        )
    fields = parsed_texts([(name, value) for name, value in items if isinstance(value, str)], "field")
    photos = [file for file in files if FILE_FIELDS[file.field] == "image_bytes"]
    return _files(by_input, fields, photos[0].name if len(photos) == 1 else None)
