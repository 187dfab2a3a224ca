"""The settings of the service: defaults of requests, limits, token, pages."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from fusioncam.errors import UsageError
from fusioncam.further_inputs import refuse_inputs
from fusioncam.manifest import Manifest, read_bundle
from fusioncam.runtime.budget import parse_budget
from fusioncam.runtime.photos.limits import MAX_PIXELS
from fusioncam.runtime.service.explain_if import parse_condition

MOST_LISTED = 1024  # class numbers, methods or photos in one input, unless settings allow more pictures

Count = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """Defaults and limits of one process of the service, its token and its pages.

    Bodies are released once they are parsed, and photos shrink to the model's input, so waiting requests are small.
    Besides, there are at most `max_held` bytes of bodies at a time, and `decoders` photos of `max_pixels`.

    Attributes:
        budget: Budget of requests that name none.
        explain_if: Condition of requests that name none; None explains every picture.
        token: The token that `Authorization: Bearer` must hold; without one, everybody is answered.
        timeout: Seconds from a request's head to its answer; a request may ask for less.
        max_body: Bytes of a request, before and after decompression.
        max_held: Bytes of all requests that are being received or parsed.
        max_pixels: Pixels of one photo, checked before it is decoded.
        max_pictures: Pictures in one request.
        concurrency: Requests for explanations that are worked on or wait, from their head to their answer.
        decoders: Threads that decompress requests, decode photos and pack answers.
        page: Whether `/` shows the page to look at.
        samples: Folder of pictures to try on the page, which whoever may use the service can see; None offers drawn
            scenes for the built-in model, and nothing for other models.
        docs: Whether `/docs` describes the service; `/openapi.json` always does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    budget: str = "auto"
    explain_if: str | None = None
    token: SecretStr | None = None
    timeout: Annotated[float, Field(gt=0)] = 60.0
    max_body: Count = 32 << 20
    max_held: Count = 512 << 20
    max_pixels: Annotated[int, Field(gt=0, le=MAX_PIXELS)] = 50_000_000
    max_pictures: Count = 16
    concurrency: Count = 128
    decoders: Annotated[int, Field(gt=0, le=64)] = 2
    page: bool = True
    samples: Path | None = None
    docs: bool = True

    @field_validator("budget")
    @classmethod
    def _budget_is_one(cls, budget: str) -> str:
        try:
            return str(parse_budget(budget))
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("explain_if")
    @classmethod
    def _condition_is_one(cls, explain_if: str | None) -> str | None:
        try:
            return None if explain_if is None else parse_condition(explain_if).text
        except UsageError as error:
            raise ValueError(str(error)) from error

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        text = "" if token is None else token.get_secret_value()
        if token is not None and not (text and text.isascii() and text.isprintable() and " " not in text):
            raise ValueError("a token is of printable ASCII characters without blanks")
        return token

    @property
    def most_listed(self) -> int:
        """Return the most values of an input that is not of numbers with a fraction."""
        return max(MOST_LISTED, self.max_pictures)

    def check_bundle(self, bundle: Path) -> Manifest:
        """Return the manifest of a bundle that can be served with these settings.

        Raises:
            BundleError: The folder is no bundle, or a file of it is missing or was changed.
            UsageError: The condition names a class that the model does not have, or the model has further inputs.
        """
        manifest = read_bundle(bundle)
        refuse_inputs(manifest.inputs, "the service")
        if self.explain_if is not None:
            parse_condition(self.explain_if).bound(manifest)
        return manifest

    @classmethod
    def checked(cls, **values: object) -> Self:
        """Return settings from the values of a user.

        Raises:
            UsageError: A value makes no sense.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            option = "--" + ".".join(map(str, first["loc"])).replace("_", "-")
            raise UsageError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from error
