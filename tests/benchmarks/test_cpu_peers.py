"""Peers and their definitions, on networks small enough for every pass; no package of theirs is needed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusioncam import Explainer
from fusioncam.errors import FusionCamError
from fusioncam.runtime.bench.comparison import Drawn
from fusioncam.runtime.bench.passes import BarePasses

NAME = "wide-8"


@pytest.fixture(scope="module")
def setting(part, tmp_path_factory):
    threads = torch.get_num_threads()
    yield part("cpu.setting").Setting(tmp_path_factory.mktemp("cpu"), (NAME,), rounds=1, threads=1, study=2)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject(setting):
    return setting.subject(NAME)


@pytest.fixture(scope="module")
def net(part, subject):
    return part("cpu.subjects").in_torch(NAME, subject.bundle, subject.pictures[0].x)


@pytest.fixture(scope="module")
def exact(subject):
    picture = subject.pictures[0]
    return Explainer(subject.bundle, threads=1).explain(picture.x, picture.class_index)


@pytest.fixture
def bare(subject):
    return BarePasses(subject.bundle, subject.manifest, 8, threads=1)


@pytest.fixture
def record(part):
    return part("record").Record()


def test_the_layer_is_found_in_torch(part, net, subject):
    assert net.name == "features"
    _, height, width = subject.manifest.layer.shape
    x = torch.from_numpy(subject.pictures[0].x)[None]
    with pytest.raises(FusionCamError, match="no module"):
        part("cpu.subjects").find_layer(net.network, x, torch.ones(1, 8, height, width))


def test_a_network_with_other_weights_is_refused(part, subject, monkeypatch):
    subjects = part("cpu.subjects")
    other = subjects.built(NAME)
    with torch.no_grad():
        other.head[2].bias += 1
    monkeypatch.setattr(subjects, "built", lambda name: other)
    with pytest.raises(FusionCamError, match="gives other logits: they differ by 1"):
        subjects.in_torch(NAME, subject.bundle, subject.pictures[0].x)


def test_the_transcription_draws_what_fusioncam_draws(part, net, subject, exact):
    picture = subject.pictures[0]
    found = part("peers.transcription").fusion_cam(net, picture.x, picture.class_index)
    assert found.keys() == exact.maps.keys()
    for method, m in found.items():
        np.testing.assert_allclose(m, exact.maps[method], atol=2e-3, err_msg=method)


def test_grad_cam_as_defined(part, net, subject, exact):
    picture = subject.pictures[0]
    found = part("peers.definitions").grad_cam(net, picture.x, picture.class_index)
    np.testing.assert_allclose(found, exact.maps["grad_cam"], atol=1e-4)


def test_score_cam_as_defined_with_masks_of_ones_is_a_softmax_of_equals(part, net, subject):
    definitions, picture = part("peers.definitions"), subject.pictures[0]
    found = definitions.score_cam(net, picture.x, picture.class_index, lambda a, size: torch.ones(len(a), *size))
    np.testing.assert_allclose(found, definitions.activations(net, picture.x).mean(0).relu(), rtol=1e-4, atol=1e-6)


def test_recipro_cam_as_defined(part, net, subject):
    definitions, picture = part("peers.definitions"), subject.pictures[0]
    a = definitions.activations(net, picture.x)
    small = torch.empty(a.shape[1:])
    for i, j in np.ndindex(*small.shape):
        only = torch.zeros_like(a)
        only[:, i, j] = a[:, i, j]
        small[i, j] = net.network.head(only[None])[0, picture.class_index]
    found = definitions.recipro_cam(net, picture.x, picture.class_index)
    np.testing.assert_allclose(found, definitions.finished(small, picture.x), atol=1e-4)


def test_every_peer_says_what_it_is(part):
    every = part("peers").every_peer()
    assert len({peer.name for peer in every}) == len(every) >= 6
    assert {peer.package for peer in every} == {"grad-cam", "torchcam", "captum", "openvino-xai", "torch"}
    assert all(peer.note and peer.method in ("fusion_cam", "grad_cam", "score_cam") for peer in every)
    assert [peer.passes((64, 7, 7)) for peer in every] == [64, 0, 64, 0, 0, 68]


@pytest.fixture
def stand_in(part, net):
    """A peer whose map is Grad-CAM as defined, or upside down."""

    def make(right=True, **more):
        definitions = part("peers.definitions")

        def open_(network, bundle, threads):
            def explain(x, class_index):
                m = definitions.grad_cam(network, x, class_index)
                return {"grad_cam": m if right else 1 - m}

            return explain

        peer = part("peers").Peer("p", "p", "grad_cam", lambda layer: 3, open_, definitions.grad_cam, "n")
        return replace(peer, **more)

    return make


@pytest.mark.parametrize("right", [True, False])
def test_a_map_is_held_against_its_own_definition(part, net, subject, bare, stand_in, right):
    peer, picture = stand_in(right), subject.pictures[0]
    drawn = Drawn(peer.open(net, None, 1)(picture.x, picture.class_index), 0)
    told = part("cpu.candidates").Own(peer, net, bare)(picture, drawn)
    assert told is None if right else "of its own definition" in told


@pytest.mark.parametrize("right", [True, False])
def test_a_map_of_our_definition_is_held_against_the_plain_one(part, net, subject, bare, exact, stand_in, right):
    judge = part("cpu.candidates").Own(stand_in(defined=None), net, bare)
    maps = exact.maps if right else {method: 1 - m for method, m in exact.maps.items()}
    told = judge(subject.pictures[0], Drawn(maps, 0))
    assert told is None if right else "with the map of the reference" in told


def test_a_peer_that_cannot_be_opened_is_named_and_the_others_run(
    part, monkeypatch, record, setting, subject, bare, stand_in
):
    def broken(net, bundle, threads):
        raise ImportError("No module named 'theirs'")

    candidates = part("cpu.candidates")
    monkeypatch.setattr(candidates, "every_peer", lambda: [stand_in(name="gone", open=broken), stand_in()])
    (found,) = candidates.theirs(record, subject, setting, bare)
    assert record.left_out == [{"what": "gone on wide-8", "why": "ImportError: No module named 'theirs'"}]
    assert found.explain(subject.pictures[0]).passes == 3


def test_without_torch_weights_no_peer_takes_part(part, monkeypatch, record, setting, subject, bare):
    candidates = part("cpu.candidates")

    def refuse(*given):
        raise ImportError("No module named 'onnx2torch'")

    monkeypatch.setattr(candidates, "in_torch", refuse)
    assert candidates.theirs(record, subject, setting, bare) == []
    assert record.left_out[0]["what"] == "every peer on wide-8"


def test_fusioncam_takes_part_by_the_budgets_it_knows(part, record, setting, subject, bare):
    asked = replace(setting, int8=False)
    found = part("cpu.candidates").ours(record, subject, asked, bare, ("exact", "most"))
    assert [c.name for c in found] == ["fusioncam exact"]
    assert [o["what"] for o in record.left_out] == ["fusioncam most"]


def test_an_int8_bundle_that_cannot_be_made_is_named(part, record, subject, tmp_path):
    elsewhere = replace(subject, bundle=tmp_path / "gone.fcam")
    assert part("cpu.candidates").int8_bundle(record, elsewhere) is None
    assert record.left_out[0]["what"] == "fusioncam int8 on wide-8"


def test_pictures_for_calibration_are_not_those_that_are_measured(part, subject, tmp_path):
    spare = part("cpu.candidates").spare_pictures
    assert all((one != two).any() for one in spare(subject) for two in subject.photos)
    import cv2

    for k in range(4):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((8, 8, 3), k, np.uint8))
    (tmp_path / "broken.png").write_text("no picture")
    measured = replace(subject, photos=[tmp_path / "1.png"])
    assert sorted(int(p[0, 0, 0]) for p in spare(measured)) == [0, 2, 3]


def test_the_memory_of_a_peer_is_measured_in_another_process(part, subject):
    (peer,) = part("peers.transcription").PEERS
    found = part("cpu.candidates").memory_of_peer(subject, peer.name, subject.pictures[0], 1)
    assert found.peak is None or found.peak > 50e6, "torch alone takes more"


def test_grad_cam_alone_takes_no_masked_pass(part, setting, subject, exact):
    found = part("cpu.candidates").gradient_only(subject, setting).explain(subject.pictures[0])
    assert found.passes == 0
    np.testing.assert_array_equal(found.maps["grad_cam"], exact.maps["grad_cam"])


def test_files_take_the_place_of_random_weights(part, tmp_path):
    files = (tmp_path / "mobilenetv2_100.onnx", tmp_path / "squeezenet11.onnx")
    made = part("cpu.setting").Setting(tmp_path, models=files, photos=tmp_path)
    assert made.names() == ["resnet18", "mobilenetv2_100", "squeezenet11"]


def test_photos_are_those_that_are_annotated(part, tmp_path):
    for name in ("b.png", "a.jpg", "c_mask.png"):
        (tmp_path / name).touch()
    photos = part("cpu.subjects").folder_of_photos
    assert [p.name for p in photos(tmp_path, 2)] == ["a.jpg", "b.png"]
    (tmp_path / "annotations.json").write_text('[{"file": "b.png"}, {"file": "a.jpg"}]')
    assert [p.name for p in photos(tmp_path)] == ["b.png", "a.jpg"]
