"""Scores, constants and centering through the commands: fitted and measured by `evaluate`, used by all others."""

import dataclasses
import json

import numpy as np
import pytest

from lrfr_jax import compare, embed, evaluate, search, verify
from lrfr_jax.checkpoints import model_card
from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, scores
from lrfr_jax.pictures import resize
from lrfr_jax.trained import embeddings_file
from lrfr_jax.trained.embedder import Embedder, Embeddings
from lrfr_jax.trained.model import open_model
from tests.evals import made_up_sets

FACES = np.random.default_rng(3).integers(0, 256, (4, 112, 112, 3), np.uint8)


def many():
    """All pairs of all images: enough impostors for a rate of 0.1."""
    first, second = np.triu_indices(40, 1)
    pairs = np.stack([first, second], axis=1)
    return protocol_arrays.VerificationProtocol(pairs, first // 2 == second // 2, (first + second) % 4)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made_up_sets.write(folder, "many", many())
    # With labels that nothing fits: a line needs genuine pairs that are lost.
    made_up_sets.write(folder, "hard", dataclasses.replace(many(), is_same=many().pairs.sum(axis=1) % 7 == 0))
    made_up_sets.write(folder, "cams", made_up_sets.identification(), arguments={"kind": "gallery"})
    return str(folder)


@pytest.fixture
def model(tiny_checkpoint, data_dir):
    """A model without a card; what a test writes into it goes."""
    yield tiny_checkpoint
    for path in (model_card.path_of(tiny_checkpoint), model_card.path_of(tiny_checkpoint).with_suffix(".md")):
        path.unlink(missing_ok=True)


@pytest.fixture
def calibrated(model, data_dir):
    evaluate.main(arguments(model, data_dir, "many", "--calibrate"))
    return model


def found_impostors():
    return int(np.sum(many().pairs.sum(axis=1) % 7 != 0))


def arguments(model, data_dir, name, *more):
    return ["--checkpoint", str(model), "--data_dir", data_dir, "--sets", name, "--resolutions", "14", *more]


def card_of(model):
    return model_card.read(model, weights=open_model(model).weights)


@pytest.fixture
def faces(tmp_path):
    paths = [tmp_path / "faces" / f"{number}.png" for number in range(4)]
    paths[0].parent.mkdir()
    for path, face in zip(paths, FACES, strict=True):
        path.write_bytes(resize.encode_png(face))
    return paths


def test_a_calibration_shows_what_it_tried(model, data_dir, capsys):
    evaluate.main(arguments(model, data_dir, "many", "--calibrate"))
    assert "\nmany, centering per_resolution  HR-LR" in capsys.readouterr().out.partition("tried as well:")[2]


def test_a_calibration_tries_centering_and_keeps_the_means(calibrated):
    card = card_of(calibrated)
    assert [(one.resolution, one.fusion, one.set, one.images) for one in card.means] == [
        (112, "sum", "many", 40),
        (14, "sum", "many", 40),
    ]
    plain, centered = card.results["many"], card.results["many"]["beside"][0]
    assert centered["protocol"] == f"{plain['protocol']}, centering=per_resolution"
    text = model_card.path_of(calibrated).with_suffix(".md").read_text()
    before, after = (one["results"][1]["accuracy"] for one in (plain, centered))
    assert f"| HR-LR | 14 | {100 * before:.2f} | {100 * after:.2f} | {100 * (after - before):+.2f} |" in text
    assert f"has length {np.linalg.norm(card.means[0].vector):.2f} at 112 px" in text
    assert Embedder.load(calibrated).centering == "none"


def test_every_command_takes_the_means_of_the_card(calibrated, faces, tmp_path, capsys):
    card = card_of(calibrated)
    vectors = {one.resolution: one.vector for one in card.means}
    plain, centered = Embedder.load(calibrated), Embedder.load(calibrated, centering="per_resolution")
    sizes = [112, 14, 112, 14]
    found = centered.embed(FACES, resolution=sizes)
    expected = [
        centering.center(one[None], vectors[size])[0]
        for one, size in zip(plain.embed(FACES, resolution=sizes).vectors, sizes, strict=True)
    ]
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    assert centered.digest != plain.digest
    common = [f"--checkpoint={calibrated}", "--centering=per_resolution"]
    compare.main([str(faces[0]), str(faces[1]), *common, "--resolution=14", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["similarity"] == pytest.approx(float(found.vectors[0] @ found.vectors[1]), abs=1e-5)
    assert (said["centering"], said["score"]) == ("per_resolution", "cosine")
    assert said["calibration"]["centering"] == "per_resolution"
    embed.main([f"--images={faces[0].parent}", f"--output={tmp_path}/f.npz", *common, "--resolution=14"])
    held = embeddings_file.read(f"{tmp_path}/f.npz", flag="--gallery")
    assert held.model == centered.digest
    np.testing.assert_allclose(held.embeddings[1], found.vectors[1], atol=1e-5)
    capsys.readouterr()
    search.main([f"--gallery={faces[0].parent}", f"--probes={faces[0].parent}", *common, "--resolution=14", "--json"])
    hits = {(one["probe"], one["gallery"]): one["similarity"] for one in json.loads(capsys.readouterr().out)["hits"]}
    assert hits["1.png", "0.png"] == pytest.approx(said["similarity"], abs=1e-5)
    npz = [f"--{side}={tmp_path}/f.npz" for side in ("gallery", "probes")]
    with pytest.raises(UserError, match="--centering does nothing with embeddings as --gallery and --probes"):
        search.main([*npz, "--centering=per_resolution"])
    for columns in ("first,second", "first,second,is_same,fold"):
        rows = [f"{a},{b},{int(a == b)},{a % 2}" for a in range(4) for b in range(4)]
        rows = [row.replace(",", ".png,", 2) for row in rows]
        rows = [",".join(row.split(",")[: columns.count(",") + 1]) for row in rows]
        pairs = faces[0].parent / "pairs.csv"
        pairs.write_text("\n".join([columns, *rows]))
        verify.main([str(pairs), *common, "--resolutions=14", "--json"])
        listed = json.loads(capsys.readouterr().out)["pairs"]
        assert listed[1]["hr_lr_14"] == pytest.approx(said["similarity"], abs=1e-5)


def test_a_face_counts_as_large_as_it_is_in_its_picture(calibrated, tmp_path):
    card = card_of(calibrated)
    vectors = {one.resolution: one.vector for one in card.means}
    small = tmp_path / "small.png"
    small.write_bytes(resize.encode_png(FACES[0][:15, :15]))
    plain, centered = (
        Embedder.load(calibrated, centering=how).embed(small, resize=True) for how in centering.CENTERINGS
    )
    np.testing.assert_allclose(centered.vectors, centering.center(plain.vectors, vectors[14]), atol=1e-5)


def test_centering_without_a_mean_is_told(model, data_dir, faces):
    for call in (
        lambda: Embedder.load(model, centering="per_resolution"),
        lambda: evaluate.main(arguments(model, data_dir, "cams", "--centering", "per_resolution")),
        lambda: compare.main([str(faces[0]), str(faces[1]), f"--checkpoint={model}", "--centering=per_resolution"]),
    ):
        with pytest.raises(UserError, match=r"needs the mean embedding of faces at 112 px.* holds at no size"):
            call()
    evaluate.main(arguments(model, data_dir, "many", "--calibrate"))
    held = Embedder.load(model, centering="per_resolution")
    with pytest.raises(UserError, match=r"faces at 20 px.* holds only at 112, 14 px .* --resolutions 20`"):
        held.embed(FACES, resolution=20)
    with pytest.raises(UserError, match=r"holds at no size for this fusion"):
        Embedder.load(model, fusion="none", centering="per_resolution")


def test_identification_takes_the_means_of_the_card(calibrated, data_dir, tmp_path):
    outputs = [tmp_path / "plain.json", tmp_path / "centered.json"]
    for output, how in zip(outputs, centering.CENTERINGS, strict=True):
        evaluate.main(arguments(calibrated, data_dir, "cams", "--centering", how, "--output", str(output)))
    named = [json.loads(path.read_text())["sets"]["cams"]["protocol"] for path in outputs]
    assert named == ["gallery", "gallery, centering=per_resolution"]


def test_constants_are_fitted_kept_and_used(model, data_dir, faces, tmp_path, capsys):
    common = ["--checkpoint", str(model), "--data_dir", data_dir]
    evaluate.main([*common, "--fit_qmag", "hard", "--fit_rates", "0.05,0.5"])
    out = capsys.readouterr().out
    card = card_of(model)
    line = card.line
    counted = f"from {780 - found_impostors()} genuine and {found_impostors()} impostor pairs of hard"
    assert f"qmag: alpha {line.alpha:.6f}, beta {line.beta:.6f}, {counted}" in out
    assert "constants of the score qmag" in model_card.path_of(model).with_suffix(".md").read_text()
    assert (card.qmag["set"], card.qmag["impostor_pairs"], card.thresholds) == ("hard", found_impostors(), [])
    embedder = Embedder.load(model, score="qmag")
    assert embedder.score == scores.Score("qmag", line)
    found = embedder.embed(FACES)
    first, second = (Embeddings(found.vectors[[row]], found.norms[[row]]) for row in (0, 1))
    cosine, quality = float(found.vectors[0] @ found.vectors[1]), min(found.norms[:2])
    expected = cosine + min(0, line.beta * cosine - line.alpha) * quality
    assert embedder.similarities(first, second)[0] == pytest.approx(expected, abs=1e-5)
    compare.main([str(faces[0]), str(faces[1]), f"--checkpoint={model}", "--score=qmag", "--threshold=-9", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["similarity"] == pytest.approx(expected, abs=1e-4)
    assert said["score"] == str(embedder.score)
    output = tmp_path / "q.json"
    how = ["--score", "qmag", "--calibrate", "--output", str(output)]
    evaluate.main(arguments(model, data_dir, "many", *how))
    assert f"score=qmag, qmag=({line.alpha}, {line.beta})" in json.loads(output.read_text())["sets"]["many"]["protocol"]
    held = [one for one in card_of(model).thresholds if one.centering == "none"]
    assert {one.score for one in held} == {str(embedder.score)}
    capsys.readouterr()
    compare.main([str(faces[0]), str(faces[1]), f"--checkpoint={model}", "--json"])
    assert "no thresholds for fusion sum: it is calibrated for fusion sum, score qmag" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--score", "qmag"], "test set many: the score qmag has no constants for tiny"),
        (["--qmag", "1,2"], r"evals\.many\.qmag=\(1\.0, 2\.0\) must be alpha,beta of the score 'qmag': set both"),
        (["--fit_qmag", "many"], "--fit_qmag many: 20 genuine and 760 impostor pairs are too few .* take 100,000"),
    ],
)
def test_what_is_missing_is_told_and_nothing_is_written(model, data_dir, options, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate.main(arguments(model, data_dir, "many", *options))
    assert not model_card.path_of(model).exists()


def test_given_constants_need_no_fit(model, data_dir, tmp_path):
    output = tmp_path / "q.json"
    evaluate.main(arguments(model, data_dir, "many", "--score", "qmag", "--qmag", "0.1,0.2", "--output", str(output)))
    made = json.loads(output.read_text())["sets"]["many"]
    assert made["protocol"] == "insightface, score=qmag, qmag=(0.1, 0.2)"
    assert Embedder.load(model, score="qmag", qmag=(0.1, 0.2)).score == scores.Score("qmag", scores.Line(0.1, 0.2))
    assert dataclasses.astuple(Embedder.load(model).reading) == ("sum", "cosine", "none", "")
