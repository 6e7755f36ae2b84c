"""Published layouts from disk to numbers: pictures of one color, a network that sees colors, answers known beforehand.

Each identity has a color, a direction of its own; a planted picture shows the color of somebody else.
"""

import cv2
import flax.linen as nn
import numpy as np
import pytest

from lrfr_jax.evals import embed, evaluation, report
from lrfr_jax.pictures import warp
from lrfr_jax.prepare import ijb, survface, tinyface
from lrfr_jax.prepare.__main__ import main
from tests.prepare.layouts import cells, flat, mat, write

GOLDEN_ANGLE = np.pi * (3 - 5**0.5)


class ColorBackbone(nn.Module):
    """The mean color of an image, black at (-1, -1, -1)."""

    @nn.compact
    def __call__(self, images, train):
        return images.mean(axis=(1, 2))


def color(identity, toward=None, share=0.0):
    """A color on a sphere around gray, all far from each other; moved by a share toward another identity's."""
    height = 1 - 2 * (identity + 0.5) / 140
    ring = np.sqrt(1 - height**2) * np.exp(1j * GOLDEN_ANGLE * identity)
    own = np.array([ring.real, ring.imag, height])
    if toward is not None:
        other = (np.array(color(toward)) - 127.5) / 120
        own = (1 - share) * own + share * other
    return tuple(np.rint(127.5 + 120 * own / np.linalg.norm(own)).astype(int).tolist())


def picture(*args):
    return flat(*color(*args))


def measured(data_dir, settings=None):
    planned = evaluation.plan(data_dir, {"set": settings or {}})
    embedder = embed.make_embedder(ColorBackbone(), sizes=evaluation.sizes_of(planned), rounding="uint8")
    results = evaluation.run(planned, embedder, {}, rounding="uint8", batch_size=64, num_threads=2, cache=None)
    return report.metrics_of(results), results["set"].outcome


def prepare(tmp_path, kind, files, *flags):
    write(tmp_path / "source", files)
    data_dir = str(tmp_path / "sets")
    main([kind, "--source", str(tmp_path / "source"), "--name", "set", "--data_dir", data_dir, *flags])
    return data_dir


def test_scface_ranks_of_every_distance_and_split(tmp_path):
    files = {f"mugshots/{person:03}_frontal.png": picture(person) for person in range(1, 131)}
    for person in range(1, 131):
        for camera in range(1, 6):
            for distance in (1, 2, 3):
                # At the greatest distance camera 1 sees the next person, at the middle one camera 2 does for 1 to 13.
                mistaken = (distance == 1 and camera == 1) or (distance == 2 and camera == 2 and person <= 13)
                shown = person % 130 + 1 if mistaken else person
                files[f"cameras/{person:03}_cam{camera}_{distance}.png"] = picture(shown)
    data_dir = prepare(tmp_path, "scface", files)
    flat_metrics, _ = measured(data_dir, {"split": "all"})
    assert flat_metrics == {"set_d1/rank1": 0.8, "set_d2/rank1": 1 - 13 / 650, "set_d3/rank1": 1.0}
    _, measures = measured(data_dir)
    found = {measure.group: measure for measure in measures}
    assert (found["d3"].value, found["d3"].parts, found["d3"].trials) == (1.0, (1.0,) * 10, 400)
    assert len(found["d1"].parts) == 10
    assert 0.8 <= found["d1"].value < 1  # whoever is shown may not be in the gallery
    assert found["d1"].interval[0] < found["d1"].value < found["d1"].interval[1]


def test_tinyface_ranks_and_precision(tmp_path, monkeypatch):
    identities = range(10)
    counts = {"GALLERY_MATCHES": 20, "DISTRACTORS": 6, "PROBES": 10, "IDENTITIES": 10}
    for name, count in counts.items():
        monkeypatch.setattr(tinyface, name, count)
    files, test = {}, "tinyface/Testing_Set"
    for i in identities:
        files[f"{test}/Probe/{i}_3.png"] = picture(14 * i)
        for k in (1, 2):
            files[f"{test}/Gallery_Match/{i}_{k}.png"] = picture(14 * i, 135, 0.1)
    for k in range(6):  # four look more like a probe than its mates do: probe 0 twice, 1 and 2 once
        near = picture(14 * (0, 0, 1, 2)[k], 135, 0.03) if k < 4 else picture(14 * k + 7)
        files[f"{test}/Gallery_Distractor/{k}.png"] = near
    gallery = [(f"{i}_{k}.png", i) for i in identities for k in (1, 2)]
    for key, name, listed in (
        ("gallery", "gallery_match_img_ID_pairs", gallery),
        ("probe", "probe_img_ID_pairs", [(f"{i}_3.png", i) for i in identities]),
    ):
        names = {f"{key}_set": cells([n for n, _ in listed]), f"{key}_ids": np.array([i for _, i in listed])}
        files[f"{test}/{name}.mat"] = mat(**names)
    found, _ = measured(prepare(tmp_path, "tinyface", files), {"ranks": (1, 2, 3)})
    assert {key: found[f"set/rank{key}"] for key in (1, 2, 3)} == {1: 0.7, 2: 0.9, 3: 1.0}
    # Mates at 1, 2: precision 1. At 2, 3: (0 + 1/2)/2 and (1/2 + 2/3)/2. At 3, 4: (0 + 1/3)/2 and (1/3 + 2/4)/2.
    one_ahead, two_ahead = (1 / 4 + 7 / 12) / 2, (1 / 6 + 5 / 12) / 2
    assert found["set/map"] == pytest.approx((7 + 2 * one_ahead + two_ahead) / 10)


def test_survface_open_set_rates_and_pairs(tmp_path, monkeypatch):
    counts = {"GALLERY": 10, "GALLERY_IDENTITIES": 10, "MATED_PROBES": 10, "UNMATED_PROBES": 10}
    for name, count in (counts | {"PAIRS_OF_EACH_KIND": 20}).items():
        monkeypatch.setattr(survface, name, count)
    test, pairs = "Face_Identification_Test_Set", "Face_Verification_Test_Set"
    files = {f"{test}/gallery/{i}.png": picture(i) for i in range(10)}
    # A mated probe is less like its mate from one to the next; of the unmated ones two come close to somebody.
    files |= {f"{test}/mated_probe/{i}.png": picture(i, 100 + i, 0.02 * i) for i in range(10)}
    strangers = [(2, 60, 0.01), (3, 61, 0.11)]
    files |= {f"{test}/unmated_probe/{k}.png": picture(*one) for k, one in enumerate(strangers)}
    files |= {f"{test}/unmated_probe/{k}.png": picture(100 + k) for k in range(2, 10)}
    for key in ("gallery", "mated_probe"):
        listed = {f"{key}_set": cells([f"{i}.png" for i in range(10)]), f"{key}_ids": np.arange(10)}
        files[f"{test}/{key}_img_ID_pairs.mat"] = mat(**listed)
    same = [[f"{i}_1.png", f"{i}_2.png"] for i in range(20)]
    files[f"{pairs}/positive_pairs_names.mat"] = mat(positive_pairs_names=cells(same))
    other = [[f"{i}_1.png", f"{(i + 10) % 20}_2.png"] for i in range(20)]
    files[f"{pairs}/negative_pairs_names.mat"] = mat(negative_pairs_names=cells(other))
    files |= {f"{pairs}/verification_images/{i}_{k}.png": picture(i) for i in range(20) for k in (1, 2)}
    found, _ = measured(prepare(tmp_path, "survface", files), {"ranks": (1, 10), "fpirs": (0.3, 0.2, 0.1, 0.01)})

    def likeness(i, *shown):
        x, y = (np.array(color(*one)) - 127.5 for one in ((i,), shown))
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    # Of ten unmated probes one may pass at 0.1: the second closest is the threshold. 0.01 cannot be resolved.
    above = [likeness(i, i, 100 + i, 0.02 * i) > likeness(3, *strangers[1]) for i in range(10)]
    assert 0 < np.mean(above) < 1
    assert found["set/tpir10@fpir=0.1"] == pytest.approx(np.mean(above))
    assert found["set/tpir10@fpir=0.3"] == 1.0
    assert "set/tpir10@fpir=0.01" not in found
    assert found["set/rank1"] == 1.0
    data_dir = str(tmp_path / "sets2")
    shared = ["--source", str(tmp_path / "source"), "--name", "set", "--data_dir", data_dir]
    main(["survface", *shared, "--part", "verification"])
    found, _ = measured(data_dir)
    assert found["set/accuracy"] == found["set/auc"] == found["set/tar@far=0.1"] == found["set/tar@far=0.3"] == 1.0


def test_ijb_templates_pairs_and_searches(tmp_path, monkeypatch):
    # Subjects 0 to 9 have a gallery template k, in G1 or G2, and a probe template 20 + k of two media.
    counts = {"images": 40, "templates": 20, "genuine pairs": 10, "impostor pairs": 10}
    monkeypatch.setitem(ijb.COUNTS, "ijbc", counts | {"gallery templates": 10, "probe templates": 10})
    images = []  # (template, medium, color): of medium 2 the first image shows somebody else, and counts a quarter
    for k in range(10):
        own, other = color(14 * k), color(14 * k + 7)
        images += [(k, 1, own), (20 + k, 1, own), (20 + k, 2, other), (20 + k, 2, own)]
    files, points, places = {}, [], []
    landmarks = " ".join(f"{x:.3f}" for x in (warp.TEMPLATE + 60).ravel())
    for number, (template, medium, shown) in enumerate(images, 1):
        photo = np.full((240, 240, 3), shown[::-1], np.uint8)
        files[f"loose_crop/{number}.png"] = cv2.imencode(".png", photo)[1].tobytes()
        points.append(f"{number}.png {landmarks} 0.9\n")
        places.append(f"{number}.png {template} {medium}\n")
    pairs = [f"{k} {20 + k} 1\n{k} {20 + (k + 1) % 10} 0\n" for k in range(10)]
    texts = {"name_5pts_score.txt": points, "face_tid_mid.txt": places, "template_pair_label.txt": pairs}
    searches = {"gallery_G1": range(5), "gallery_G2": range(5, 10), "probe_mixed": range(20, 30)}
    for part, templates in searches.items():
        lines = [f"{template},{template % 20},{template}.png\n" for template in templates]
        texts[f"1N_{part}.csv"] = ["TEMPLATE_ID,SUBJECT_ID,FILENAME\n", *lines]
    files |= {f"meta/ijbc_{name}": "".join(lines).encode() for name, lines in texts.items()}
    found, _ = measured(prepare(tmp_path, "ijb", files, "--edition", "ijbc"), {"fars": (0.1,)})
    # Three quarters of a probe's sum are its own color: it stays nearest to its subject.
    expected = {"rank1": 1.0, "rank5": 1.0, "rank10": 1.0, "tar@far=0.1": 1.0, "tar_nearest@far=0.1": 1.0}
    assert {key: found[f"set/{key}"] for key in expected} == expected
