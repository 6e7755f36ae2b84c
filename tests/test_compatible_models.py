"""A model that fits a gallery which exists: every command reads each face with its own of the two models."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from lrfr_jax import compare, embed, evaluate, export, pretrained, search, verify
from lrfr_jax.checkpoints import checkpoint, compatibility, model_card
from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import calibration
from lrfr_jax.evals.reading import Reading, of_gallery
from lrfr_jax.pictures import resize
from lrfr_jax.pictures.faces import Faces, resized
from lrfr_jax.trained import embeddings_file
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import open_model
from tests.evals import made_up_sets
from tests.evals.test_thresholds import entry

FACES = np.random.default_rng(3).integers(0, 256, (4, 112, 112, 3), np.uint8)
FROM = 56  # the student was trained on smaller faces


@pytest.fixture(scope="module")
def models(tiny_checkpoint, tmp_path_factory):
    """The teacher, a student that fits it, another such, and a stranger: four weights of one network."""
    folder = tmp_path_factory.mktemp("models")
    teacher = open_model(tiny_checkpoint)
    fits = {"compatible_with": compatibility.entry(tiny_checkpoint, digest=teacher.weights, resolution=FROM)}
    found = {"teacher": tiny_checkpoint}
    for number, (name, more) in enumerate((("student", fits), ("another", fits), ("stranger", {}))):
        noise = np.random.default_rng(number)
        shifted = jax.tree.map(
            lambda leaf, noise=noise: leaf + 0.1 * noise.normal(size=leaf.shape).astype(np.float32),
            dict(teacher.variables),
        )
        checkpoint.save_backbone(folder / name, shifted, teacher.metadata | more)
        found[name] = folder / name
    return found


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(evaluate.result_figures, "draw", lambda *_: False)


@pytest.fixture(scope="module")
def alone(models):
    """The teacher and the student, each by itself."""
    return {who: Embedder.load(models[who]) for who in ("teacher", "student")}


@pytest.fixture(scope="module")
def both(models):
    return Embedder.load(models["student"], gallery=models["teacher"])


@pytest.fixture
def student(models, tmp_path):
    """One that a test may give a card to."""
    return shutil.copytree(models["student"], tmp_path / "student")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    first, second = np.triu_indices(40, 1)
    many = np.stack([first, second], axis=1)
    many = protocol_arrays.VerificationProtocol(many, first // 2 == second // 2, (first + second) % 4)
    made_up_sets.write(folder, "many", many)
    made_up_sets.write(folder, "pairs", made_up_sets.verification())
    made_up_sets.write(folder, "cams", made_up_sets.identification(), arguments={"kind": "gallery"})
    return str(folder)


@pytest.fixture
def faces(tmp_path):
    paths = [tmp_path / "faces" / f"{number}.png" for number in range(4)]
    paths[0].parent.mkdir()
    for path, face in zip(paths, FACES, strict=True):
        path.write_bytes(resize.encode_png(face))
    return paths


def evaluated(model, data_dir, name, tmp_path, *more):
    """The report of one set."""
    output = tmp_path / f"{len(list(tmp_path.glob('*.json')))}.json"
    given = ["--checkpoint", str(model), "--data_dir", data_dir, "--sets", name, "--output", str(output)]
    evaluate.main([*given, *map(str, more)])
    return json.loads(output.read_text())["sets"][name]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--sets=pairs", "--gallery_checkpoint={stranger}"],
            r"student \(weights \w+, which fit \w+\) and of .*stranger",
        ),
        (["--sets=pairs", "--gallery_checkpoint=nowhere"], "nowhere is no checkpoint"),
        (["--sets=pairs", "--gallery_from=20"], "--gallery_from does nothing without --gallery_checkpoint"),
        (["--sets=pairs", "--gallery_checkpoint={teacher}", "--gallery_from=114"], "--gallery_from is 114: .* 1..113"),
        (
            ["--sets=pairs", "--gallery_checkpoint={teacher}", "--score=qmag", "--qmag=1,2"],
            "pairs cannot be read by two",
        ),
        (
            ["--sets=many", "--gallery_checkpoint={teacher}", "--centering=per_resolution", "--calibrate"],
            "of one model",
        ),
        (["--fit_qmag=many", "--fit_rates=0.1,0.5", "--gallery_checkpoint={teacher}"], "--fit_qmag is about one model"),
    ],
)
def test_what_does_not_go_with_two_models_is_told(models, data_dir, monkeypatch, arguments, sentence):
    monkeypatch.setattr(evaluate.evaluation, "run", lambda *args, **kwargs: pytest.fail("it was embedded"))
    given = [f"--checkpoint={models['student']}", f"--data_dir={data_dir}"]
    with pytest.raises(UserError, match=sentence):
        evaluate.main([*given, *(one.format(**models) for one in arguments)])


def test_each_face_is_embedded_by_its_own_model(models, alone, both):
    """By its size in its picture and as it is asked, in one pass over all."""
    two, teacher, student = both, alone["teacher"], alone["student"]
    sizes = [112, FROM, FROM - 1, 14]
    found, large, small = (one.embed(FACES, resolution=sizes) for one in (two, teacher, student))
    for rows, expected in (([0, 1], large), ([2, 3], small)):
        np.testing.assert_allclose(found.vectors[rows], expected.vectors[rows], atol=1e-6)
        np.testing.assert_allclose(found.norms[rows], expected.norms[rows], rtol=1e-6)
    assert np.abs(large.vectors - small.vectors).max(axis=1).min() > 1e-3
    pictures = [FACES[0], np.ascontiguousarray(FACES[1][:40, :40]), np.ascontiguousarray(FACES[2][:70, :90])]
    found, large, small = (
        one.embed_faces(Faces(pictures, make_face=resized), resolution=112).vectors for one in (two, teacher, student)
    )
    np.testing.assert_allclose(found, np.stack([large[0], small[1], large[2]]), atol=1e-6)


def test_two_models_in_one_embedder(models, alone, both):
    two, student, weights = both, alone["student"], alone["teacher"].weights
    assert two.reading == Reading("sum", gallery=of_gallery(weights, FROM))
    assert two.reading.as_options() == f"--fusion sum --gallery_checkpoint <{weights[:16]}> --gallery_from {FROM}"
    other = Embedder.load(models["student"], gallery=models["teacher"], gallery_from=20)
    assert len({two.digest, other.digest, student.digest}) == 3
    assert Embedder.load(models["teacher"], gallery=models["student"]).gallery_from == 112  # says nothing of sizes
    for how, sentence in (
        ({"score": "qmag", "qmag": (0.1, 0.2)}, "score qmag and centering none do not go with two models"),
        ({"centering": "per_resolution"}, "do not go with two models"),
        ({"gallery": models["stranger"]}, "cannot be compared: name the model that one of them was trained to fit"),
        ({"gallery": None, "gallery_from": 20}, "gallery_from=20 does nothing without gallery"),
        ({"gallery_from": 0}, "gallery_from is 0: it must be whole pixels in 1..113"),
    ):
        with pytest.raises(UserError, match=sentence):
            Embedder.load(models["student"], **{"gallery": models["teacher"]} | how)


def test_search_in_a_file_of_the_teacher(models, alone, faces, tmp_path, capsys):
    folder = faces[0].parent
    for who in ("teacher", "stranger"):
        embed.main([f"--images={folder}", f"--output={tmp_path}/{who}.npz", f"--checkpoint={models[who]}"])
    with np.load(tmp_path / "teacher.npz") as held:  # as it was written before files said what they fit
        np.savez(tmp_path / "old.npz", **{name: held[name] for name in held.files if name != "fits"})
    probes = [f"--probes={folder}", "--resolution=14", "--json", f"--checkpoint={models['student']}"]
    expected = alone["student"].embed(FACES, resolution=14).vectors @ alone["teacher"].embed(FACES).vectors.T
    capsys.readouterr()

    def hits(*arguments):
        search.main([*map(str, arguments)])
        found = json.loads(capsys.readouterr().out)["hits"]
        rows = {(int(one["probe"][0]), int(one["gallery"][0])): one["similarity"] for one in found}
        return np.array([[rows[probe, place] for place in range(4)] for probe in range(4)])

    for gallery in (f"{tmp_path}/teacher.npz", f"{tmp_path}/old.npz"):
        np.testing.assert_allclose(hits(f"--gallery={gallery}", *probes), expected, atol=1e-5)
    beside = [f"--gallery_checkpoint={models['teacher']}"]
    np.testing.assert_allclose(hits(f"--gallery={folder}", *probes, *beside), expected, atol=1e-5)
    large = [f"--probes={folder}", "--json", f"--checkpoint={models['student']}", *beside]
    expected = alone["teacher"].embed(FACES).vectors
    np.testing.assert_allclose(hits(f"--gallery={tmp_path}/old.npz", *large), expected @ expected.T, atol=1e-5)
    # A gallery of pictures is its model's whatever their sizes.
    alone_there = hits(f"--gallery={folder}", *large, "--gallery_from=113")
    np.testing.assert_allclose(alone_there, alone["student"].embed(FACES).vectors @ expected.T, atol=1e-5)
    with pytest.raises(UserError) as error:
        search.main([f"--gallery={tmp_path}/stranger.npz", *probes])
    stranger, student = Embedder.load(models["stranger"]).digest[:16], alone["student"].digest[:16]
    for words in (f"stranger.npz: model {stranger};", f"model {student} of {models['student']} (weights", "which fit"):
        assert words in str(error.value)
    with pytest.raises(UserError, match="were not embedded by the same model, fusion and centering"):
        search.main([f"--gallery={tmp_path}/teacher.npz", *probes, "--fusion=none"])


def test_files_of_two_models_that_fit_one_can_be_searched(models, faces, tmp_path, capsys):
    made = {"student": [], "another": [], "both": [f"--gallery_checkpoint={models['teacher']}"], "stranger": []}
    for who, more in made.items():
        model = models["student" if who == "both" else who]
        embed.main([f"--images={faces[0].parent}", f"--output={tmp_path}/{who}.npz", f"--checkpoint={model}", *more])
    weights = open_model(models["teacher"]).weights
    assert embeddings_file.read(f"{tmp_path}/both.npz", flag="--probes").fits == [weights]
    for one, other in (("student", "another"), ("another", "both"), ("both", "student")):
        assert search.main([f"--gallery={tmp_path}/{one}.npz", f"--probes={tmp_path}/{other}.npz"]) == 0
    for other in ("student", "both"):
        with pytest.raises(UserError, match="nor by models of which one was trained to fit the other"):
            search.main([f"--gallery={tmp_path}/stranger.npz", f"--probes={tmp_path}/{other}.npz"])
    with pytest.raises(UserError, match="--gallery_from does nothing with embeddings as --gallery and --probes"):
        search.main([*(f"--{side}={tmp_path}/both.npz" for side in ("gallery", "probes")), "--gallery_from=20"])


def test_commands_decide_by_the_thresholds_of_both_models(
    models, alone, both, student, data_dir, faces, tmp_path, capsys
):
    beside = ["--gallery_checkpoint", str(models["teacher"])]
    evaluated(student, data_dir, "many", tmp_path, "--resolutions", "14", "--calibrate", *beside)
    card = model_card.read(student, weights=open_model(student).weights)
    reading = both.reading
    assert {one.reading for one in card.thresholds} == {reading}
    assert card.means == []
    text = model_card.path_of(student).with_suffix(".md").read_text()
    assert (
        f"`compare` and `verify` with `--gallery_checkpoint` (the model {reading.gallery}) take fusion sum and" in text
    )
    assert f"Fusion sum, gallery {reading.gallery}, from many" in text
    pair, small = [str(faces[0]), str(faces[1])], ["--resolution=14"]
    capsys.readouterr()
    compare.main([*pair, *small, "--checkpoint", str(student), *beside, "--json"])
    said = json.loads(capsys.readouterr().out)
    large, small_one = alone["teacher"].embed(FACES[0]), alone["student"].embed(FACES[1], resolution=14)
    expected = float(large.vectors[0] @ small_one.vectors[0])
    assert said["similarity"] == pytest.approx(expected, abs=1e-5)
    assert (said["gallery"], said["calibration"]["gallery"]) == (reading.gallery, reading.gallery)
    assert compare.main([*pair, *small, "--checkpoint", str(student)]) == 4
    assert f"no thresholds for fusion sum: it is calibrated for fusion sum, gallery {reading.gallery}" in (
        capsys.readouterr().out
    )
    assert compare.main([*pair, *small, "--checkpoint", str(student), *beside, "--gallery_from=20"]) == 4
    for columns in ("first,second", "first,second,is_same,fold"):
        rows = [f"{a},{b},{int(a == b)},{a % 2}".replace(",", ".png,", 2) for a in range(4) for b in range(4)]
        rows = [",".join(row.split(",")[: columns.count(",") + 1]) for row in rows]
        csv = faces[0].parent / "pairs.csv"
        csv.write_text("\n".join([columns, *rows]))
        capsys.readouterr()
        verify.main([str(csv), "--checkpoint", str(student), *beside, "--resolutions=14", "--far=0.1", "--json"])
        listed = json.loads(capsys.readouterr().out)
        assert listed["pairs"][1]["hr_lr_14"] == pytest.approx(expected, abs=1e-5)
        assert listed["pairs"][1]["same_hr_lr_14"] in (0, 1)
    assert listed["report"]["sets"]["pairs"]["protocol"] == f"insightface, gallery={reading.gallery}"


def test_large_faces_that_a_model_leaves_to_another_are_told(models, faces, tmp_path, capsys):
    folder, name = faces[0].parent, "/".join(models["teacher"].parts[-2:])
    made = [f"--images={folder}", "--resize", f"--checkpoint={models['student']}"]
    faces[1].write_bytes(resize.encode_png(np.ascontiguousarray(FACES[1][: FROM - 1])))
    embed.main([*made, f"--output={tmp_path}/a.npz"])
    words = f"warning: 3 of 4 faces have {FROM} px or more, which {models['student']} was made to leave to {name}"
    assert words in capsys.readouterr().err
    embed.main([*made, f"--output={tmp_path}/b.npz", "--resolution=14"])
    embed.main([*made, f"--output={tmp_path}/c.npz", f"--gallery_checkpoint={models['teacher']}"])
    assert "warning" not in capsys.readouterr().err
    compare.main([str(faces[0]), str(faces[2]), f"--checkpoint={models['student']}", "--resolution=14"])
    assert "warning: 1 of 2 faces" in capsys.readouterr().err


def test_the_fusion_of_a_calibration_is_that_of_as_many_models(models, student):
    variables, metadata = checkpoint.load_backbone(student)
    card = model_card.of_checkpoint(student, variables=variables, metadata=metadata)
    gallery = of_gallery(open_model(models["teacher"]).weights, FROM)
    held = [entry("hr_hr", 112, fusion="none"), dataclasses.replace(entry("hr_hr", 112), gallery=gallery)]
    held = calibration.merge(calibration.merge([], held[:1]), held[1:])
    model_card.write(student, dataclasses.replace(card, thresholds=held))
    assert Embedder.load(student, fusion=None).fusion == "none"
    assert Embedder.load(student, fusion=None, gallery=models["teacher"]).fusion == "sum"


def test_the_card_says_whose_embeddings_a_model_fits_and_an_export_keeps_it(models, both, student, tmp_path):
    teacher = open_model(models["teacher"])
    for who, path in (("student", student), ("teacher", models["teacher"])):
        export.main(["--checkpoint", str(path), "--format", "npz", "--output", f"{tmp_path}/{who}.npz"])
    text = (tmp_path / "student.npz.card.md").read_text()
    name = "/".join(models["teacher"].parts[-2:])
    assert f"made for the embeddings of {name} (digest of the weights {teacher.weights})" in text
    assert f"this one reads faces of fewer than {FROM} px" in text
    assert "its embeddings fit no other model's, unless" in (tmp_path / "teacher.npz.card.md").read_text()
    two = Embedder.load(tmp_path / "student.npz", gallery=tmp_path / "teacher.npz")
    assert (two.gallery_from, two.fits) == (FROM, (teacher.weights,))
    np.testing.assert_allclose(
        two.embed(FACES, resolution=[112, 14, 112, 14]).vectors,
        both.embed(FACES, resolution=[112, 14, 112, 14]).vectors,
        atol=1e-5,
    )
    pretrained.main(["--source", f"{tmp_path}/student.npz", "--out", f"{tmp_path}/again"])
    assert checkpoint.load_metadata(tmp_path / "again")["compatible_with"]["digest"] == teacher.weights
    card = json.loads((tmp_path / "student.npz.card.json").read_text())
    card["compatible_with"]["resolution"] = "56"
    (tmp_path / "student.npz.card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"has compatible_with\.resolution='56', which must be a whole number"):
        Embedder.load(tmp_path / "student.npz")
