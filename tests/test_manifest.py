"""A manifest carries its own digest: what became of it since the export is seen."""

import hashlib
import json
import shutil

import pytest

from fusioncam.errors import BundleError
from fusioncam.manifest import MANIFEST, read_bundle, read_manifest, signed, write_manifest


@pytest.fixture
def bundle(tiny, tmp_path):
    return shutil.copytree(tiny.bundle, tmp_path / "b.fcam")


def test_every_flipped_bit_is_seen(bundle):
    path = bundle / MANIFEST
    text, unseen = path.read_bytes(), []
    for at in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                read_manifest(path)
            except BundleError:
                continue
            unseen.append((at, bit))
    assert unseen == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"rescale": 0.00392', '"rescale": 0.00393'),
        lambda text: text.replace("\n", " "),
        lambda text: json.dumps({**json.loads(text), "digest": "0" * 64}),
        lambda text: json.dumps({**json.loads(text), "digest": 7}),
    ],
)
def test_edited_by_hand(bundle, edit):
    path = bundle / MANIFEST
    before = path.read_text()
    path.write_text(edit(before))
    with pytest.raises(
        BundleError, match=r"was edited or damaged since the export.*; export the model again, with"
    ) as e:
        read_bundle(bundle)
    assert "\n" not in str(e.value)


def test_the_digest_can_be_found_without_us(bundle):
    text = (bundle / MANIFEST).read_bytes()
    digest = json.loads(text)["digest"]
    assert hashlib.sha256(text.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
    assert signed(text) == text


def test_older_ones_without_a_digest_are_read(bundle):
    content = json.loads((bundle / MANIFEST).read_text())
    manifest = read_bundle(bundle)
    del content["digest"]
    (bundle / MANIFEST).write_text(json.dumps(content))
    assert read_bundle(bundle) == manifest
    write_manifest(bundle, manifest)
    assert read_bundle(bundle) == manifest
    assert json.loads((bundle / MANIFEST).read_text()).keys() == {*content, "digest"}


def test_a_detector_without_boxes_is_refused(bundle):
    write_manifest(bundle, read_bundle(bundle).model_copy(update={"task": "detect"}))
    with pytest.raises(BundleError, match="cannot be read or is of another version"):
        read_bundle(bundle)


def test_facts_leave_out_defaults(bundle):
    # A field with a default that comes with a later version must not change what older graphs say.
    manifest = read_bundle(bundle)
    facts = json.loads(manifest.facts)
    assert "interpolation" not in facts["preprocessing"]
    other = manifest.model_copy(
        update={"preprocessing": manifest.preprocessing.model_copy(update={"interpolation": "bicubic"})}
    )
    assert json.loads(other.facts)["preprocessing"]["interpolation"] == "bicubic"
