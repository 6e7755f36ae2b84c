"""embed, compare, verify and search: what they write and print, how they end, what a wrong call gets."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest

from lrfr_jax import compare, embed, export, search, verify
from lrfr_jax.checkpoints import model_card
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.evals import calibration, evaluation
from lrfr_jax.pictures import resize
from lrfr_jax.trained import embeddings_file
from lrfr_jax.trained.embedder import Embedder
from tests.evals import made_up_sets
from tests.evals.test_thresholds import entry

FACES = np.random.default_rng(3).integers(0, 256, (6, 112, 112, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six faces: p0/1.png, p0/2.png, ... p2/2.png."""
    for place, face in enumerate(FACES):
        path = tmp_path / "faces" / f"p{place // 2}" / f"{place % 2 + 1}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(resize.encode_png(face))
    return tmp_path / "faces"


@pytest.fixture
def embedder(tiny_checkpoint):
    return Embedder.load(tiny_checkpoint)


@pytest.fixture
def call(tiny_checkpoint, capsys):
    """Runs a command; returns its exit status (None counts as 0), stdout and stderr."""

    def run(command, *arguments):
        status = command.main([*map(str, arguments), f"--checkpoint={tiny_checkpoint}"]) or 0
        return status, *capsys.readouterr()

    return run


def test_embed_writes_what_the_model_says(call, folder, embedder, tmp_path):
    status, out, _ = call(embed, f"--images={folder}", f"--output={tmp_path}/new/f.npz", "--resolution=20")
    assert status == 0
    assert "6 embeddings of 16 numbers are in" in out
    held = embeddings_file.read(f"{tmp_path}/new/f.npz", flag="--gallery")
    assert held.paths == [f"p{k}/{i}.png" for k in range(3) for i in (1, 2)]
    expected = embedder.embed(FACES, resolution=20)
    np.testing.assert_allclose(held.embeddings, expected.vectors, atol=1e-6)
    np.testing.assert_allclose(held.norms, expected.norms, rtol=1e-6)
    assert (held.model, held.fusion, held.resolution) == (embedder.digest, "sum", 20)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["f.npz"]


def test_embed_lists_what_it_left_out(call, folder, embedder, tmp_path):
    (folder / "p1/1.png").write_bytes(b"<html>")
    (folder / "p0/0.jpg").symlink_to("nowhere")
    status, out, _ = call(embed, f"--images={folder}", f"--output={tmp_path}/f.npz", "--json")
    assert status == 3
    said = json.loads(out)
    assert said["embedded"] == 5
    assert said["unreadable"].keys() == {"p1/1.png", "p0/0.jpg"}
    held = embeddings_file.read(f"{tmp_path}/f.npz", flag="--gallery")
    assert dict(zip(held.unreadable, held.reasons, strict=True)) == said["unreadable"]
    assert said["unreadable"]["p0/0.jpg"] == "is a link to nothing"
    np.testing.assert_allclose(held.embeddings, embedder.embed(FACES[[0, 1, 3, 4, 5]]).vectors, atol=1e-6)
    status, _, err = call(embed, f"--images={folder}", f"--output={tmp_path}/g.npz")
    assert "left out: p1/1.png is not an image in a known format" in err


def damaged(face):
    """A PNG whose header is right."""
    encoded = bytearray(resize.encode_png(face))
    encoded[60:-20] = bytes(len(encoded) - 80)
    return bytes(encoded)


def test_what_shows_only_when_decoded_is_left_out_too(call, folder, embedder, tmp_path):
    (folder / "p1/1.png").write_bytes(damaged(FACES[2]))
    status, out, err = call(embed, f"--images={folder}", f"--output={tmp_path}/f.npz", "--fusion=concat")
    assert (status, "5 embeddings of 32 numbers" in out) == (3, True)
    assert "left out: p1/1.png cannot be decoded" in err
    held = embeddings_file.read(f"{tmp_path}/f.npz", flag="--gallery")
    assert (len(held.paths), held.unreadable) == (5, ["p1/1.png"])
    status, out, _ = call(search, f"--gallery={folder}", f"--probes={folder}/p1", "--top=1", "--json")
    said = json.loads(out)
    assert (status, [hit["gallery"] for hit in said["hits"]]) == (3, ["p1/2.png"])
    assert said["unreadable"].keys() == {"gallery", "probes"}


def test_embed_holds_a_batch_and_not_the_folder(call, folder, tmp_path, monkeypatch):
    parts = []
    add = embeddings_file.Writer.add
    monkeypatch.setattr(embed.embeddings_file.Writer, "add", lambda *args: (parts.append(len(args[1])), add(*args)))
    monkeypatch.setattr("lrfr_jax.evals.embed.embed_records", None)  # which holds all features
    for number in range(20):
        (folder / f"{number}.png").write_bytes(resize.encode_png(FACES[0]))
    assert call(embed, f"--images={folder}", f"--output={tmp_path}/f.npz", "--batch_size=8")[0] == 0
    assert parts == [8, 8, 8, 2]


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (verify, ["{folder}/pairs.csv", "--root=nowhere"], "nowhere/p0/1.png does not exist; 2 more of 3 pictures"),
        (verify, ["{folder}/pairs.csv", "--output={folder}/pairs.csv/x"], "--output .*/pairs.csv is a file"),
        (embed, ["--images={folder}/small", "--output=f.npz"], "small/0.png is 64x64, not 112x112: .*; 1 more of 2"),
        (embed, ["--images={folder}", "--output={folder}/pairs.csv/f.npz"], "--output .*/pairs.csv is a file"),
        (search, ["--gallery={folder}", "--probes={folder}/small"], "small/0.png is 64x64, not 112x112"),
        (search, ["--gallery={folder}", "--probes=nowhere"], "--probes nowhere does not exist"),
        (
            search,
            ["--gallery={folder}", "--probes={folder}", "--sheet={folder}/pairs.csv/x.png"],
            "--sheet .*is a file",
        ),
        (compare, ["{folder}/p0/1.png", "{folder}/small/1.png"], "small/1.png is 64x64"),
    ],
)
def test_what_cannot_be_used_is_told_before_the_model_is_loaded(
    call, folder, monkeypatch, command, arguments, sentence
):
    (folder / "small").mkdir()
    for number in range(2):
        (folder / f"small/{number}.png").write_bytes(resize.encode_png(np.ascontiguousarray(FACES[number, :64, :64])))
    (folder / "pairs.csv").write_text("first,second\np0/1.png,p0/2.png\np0/1.png,p1/2.png\n")
    monkeypatch.setattr(Embedder, "load", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match=sentence):
        call(command, *(argument.format(folder=folder) for argument in arguments))


def test_a_wrong_model_is_told_before_a_million_pictures_are_looked_at(folder, monkeypatch):
    monkeypatch.setattr("lrfr_jax.pictures.faces.Faces.look", lambda faces: pytest.fail("pictures were looked at"))
    with pytest.raises(UserError, match="nowhere is no checkpoint"):
        embed.main([f"--images={folder}", "--output=f.npz", "--checkpoint=nowhere"])


@pytest.mark.parametrize("argument", ["--resolution=0", "--resolution=113", "--resolution=x", "--batch_size=0"])
def test_numbers_are_looked_at_first(call, capsys, argument):
    with pytest.raises(SystemExit, match="2"):
        call(compare, "a.png", "b.png", argument)
    assert "must be" in capsys.readouterr().err


def test_pictures_of_any_format_and_name_are_embedded_and_other_files_are_told(call, folder, embedder, tmp_path):
    (folder / "p0/1.png").unlink()
    (folder / "p0/1.TIFF").write_bytes(cv2.imencode(".tiff", FACES[0][..., ::-1])[1].tobytes())
    (folder / "p0/2.png").rename(folder / "p0/2")
    (folder / "p0/notes.txt").write_text("hello")
    (folder / "p0/.hidden.png").write_bytes(b"")
    status, _, err = call(embed, f"--images={folder}", f"--output={tmp_path}/f.npz")
    assert status == 0
    assert f"passed over in --images {folder}: 2 hidden files, texts and the like" in err
    held = embeddings_file.read(f"{tmp_path}/f.npz", flag="--gallery")
    assert held.paths[:2] == ["p0/1.TIFF", "p0/2"]
    np.testing.assert_allclose(held.embeddings, embedder.embed(FACES).vectors, atol=1e-6)
    (folder / "p0/film.mov").write_bytes(b"what is this")
    (folder / "p0/3.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    status, _, err = call(embed, f"--images={folder}", f"--output={tmp_path}/g.npz")
    assert status == 3
    assert "left out: p0/film.mov is no picture" in err
    assert "left out: p0/3.heic is HEIC, which is not read here" in err


def test_compare(call, folder, embedder):
    a, b = folder / "p0/1.png", folder / "p1/2.png"
    vectors = embedder.embed(FACES[[0, 3]], resolution=[112, 14]).vectors
    similarity = float(vectors[0] @ vectors[1])
    status, out, _ = call(compare, a, b, "--resolution=14", "--json")
    said = json.loads(out)
    assert (status, said["threshold"], said["is_same"], said["calibration"]) == (4, None, None, None)
    assert said["no_decision"] in call(compare, a, b)[1]
    assert said["similarity"] == pytest.approx(similarity, abs=1e-6)
    assert len(said["norms"]) == 2
    status, out, _ = call(compare, a, b)
    assert (status, out.startswith("no decision: similarity ")) == (4, True)
    for threshold, ends, words in (
        (similarity - 0.01, 0, ": the same person:"),
        (similarity + 0.01, 3, ": not the same person:"),
    ):
        status, out, _ = call(compare, a, b, "--resolution=14", f"--threshold={threshold}")
        assert status == ends
        assert words in f": {out}"


def calibrate(embedder, held):
    card = model_card.of_checkpoint(embedder.path, variables=embedder.variables, metadata=embedder.metadata)
    return model_card.write(embedder.path, dataclasses.replace(card, thresholds=held))


def test_compare_by_the_models_own_thresholds(call, folder, embedder):
    a, b = folder / "p0/1.png", folder / "p1/2.png"
    vectors = embedder.embed(FACES[[0, 3]], resolution=[112, 14]).vectors
    similarity = float(vectors[0] @ vectors[1])
    held = [entry("hr_lr", 14, threshold=similarity + 0.01), entry("hr_lr", 7, threshold=-1.0)]
    path = calibrate(embedder, held)
    try:
        status, out, _ = call(compare, a, b, "--resolution=14")
        assert status == 3
        assert out.startswith("not the same person: similarity")
        assert (
            "for a false accept rate of 0.01 (0.005 to 0.015) at 14 px, HR-LR, from 3,000 impostor pairs of lfw" in out
        )
        status, out, _ = call(compare, a, b, "--resolution=8", "--far=0.01", "--json")
        said = json.loads(out)
        assert (status, said["is_same"], said["calibration"]["resolution"], said["sizes"]) == (0, True, 7, [112, 8])
        status, out, _ = call(compare, a, b, "--resolution=6")
        assert status == 4
        assert "a face of 6 px is smaller than anything that this model was calibrated on" in out
        small = folder / "small.png"
        small.write_bytes(resize.encode_png(FACES[3][:15, :30]))
        assert json.loads(call(compare, a, small, "--resize", "--json")[1])["sizes"] == [112, 15]
        assert call(compare, a, b, "--resolution=6", "--threshold=-1")[0] == 0  # one's own threshold needs no card
    finally:
        path.unlink()
    with pytest.raises(UserError, match="this model has no thresholds for fusion sum"):
        call(compare, a, b, "--far=0.01")


def test_compare_names_the_range_over_all_populations(call, folder, embedder):
    a, b = folder / "p0/1.png", folder / "p1/2.png"
    vectors = embedder.embed(FACES[[0, 3]]).vectors
    similarity = float(vectors[0] @ vectors[1])
    held = [entry("hr_hr", 112, threshold=similarity + by, set=name) for name, by in (("near", 0.01), ("far", -0.01))]
    path = calibrate(embedder, held)
    try:
        _, out, _ = call(compare, a, b)
        assert "of the 2 sets that it is calibrated on, thresholds for this rate reach from" in out
        assert "(far)" in out
        assert "(near), and the answer depends on which of them the two are like" in out
        said = json.loads(call(compare, a, b, "--json")[1])["populations"]
        assert said == {"far": held[1].threshold, "near": held[0].threshold}
        assert json.loads(call(compare, a, b, "--threshold=0", "--json")[1])["populations"] == {}
    finally:
        path.unlink()


def test_compare_takes_the_fusion_and_the_set_of_the_last_calibration(call, folder, embedder):
    a, b = folder / "p0/1.png", folder / "p1/2.png"
    held = [entry("hr_hr", 112, threshold=1.0), entry("hr_hr", 112, threshold=-1.0, fusion="none", set="own")]
    held = calibration.merge(calibration.merge([], held[:1]), held[1:])
    path = calibrate(embedder, held)
    vectors = Embedder.load(embedder.path, fusion="none").embed(FACES[[0, 3]]).vectors
    try:
        status, out, _ = call(compare, a, b)
        assert status == 0
        assert "from 3,000 impostor pairs of own, fusion none" in out
        said = json.loads(call(compare, a, b, "--json")[1])
        assert said["similarity"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
        assert (said["fusion"], said["calibration"]["set"], said["no_decision"]) == ("none", "own", "")
        status, out, _ = call(compare, a, b, "--fusion=sum")
        assert status == 3
        assert "of lfw, fusion sum" in out
        status, out, _ = call(compare, a, b, "--fusion=concat")
        assert status == 4
        assert "this model has no thresholds for fusion concat: it is calibrated for fusion sum (lfw: HR-HR" in out
        status, out, _ = call(compare, a, b, "--resolution=20")
        assert status == 4
        assert "not calibrated for HR-LR, only for fusion none (own: HR-HR 112 px)" in out
        also = "it is also calibrated for fusion sum (lfw: HR-HR 112 px): see --calibrated_on, --fusion, --score and"
        assert also in out
        for options, sentence in (
            (["--calibrated_on=lfw"], "was not calibrated on lfw for fusion none"),
            (["--calibrated_on=own", "--threshold=0"], "--calibrated_on does nothing with --threshold"),
        ):
            with pytest.raises(UserError, match=sentence):
                call(compare, a, b, *options)
        assert call(compare, a, b, "--fusion=sum", "--calibrated_on=lfw")[0] == 3
    finally:
        path.unlink()


@pytest.fixture
def labeled(tmp_path):
    """The pairs of the made-up set as files and a csv: (csv, the same as a prepared set, its data_dir)."""
    made_up_sets.write(tmp_path / "data", "made", made_up_sets.verification())
    test_set = face_sets.open_test_set(str(tmp_path / "data"), "made")
    (tmp_path / "images").mkdir()
    for place, record in enumerate(test_set.source):
        (tmp_path / f"images/{place}.png").write_bytes(record["image"])
    stored = test_set.protocol
    lines = [f"images/{a}.png,images/{b}.png" for a, b in stored.pairs]
    truth = [f"{int(same)},{fold}" for same, fold in zip(stored.is_same, stored.fold, strict=True)]
    (tmp_path / "made.csv").write_text("\n".join(["first,second", *lines]))
    (tmp_path / "labeled.csv").write_text(
        "\n".join(["first,second,is_same,fold", *map(",".join, zip(lines, truth, strict=True))])
    )
    return tmp_path


def test_verify_is_evaluate(call, labeled, embedder):
    """To the last digit, with folds and labels; and without them the same similarities."""
    arguments = ("--resolutions=14,7", "--protocol=released")
    status, out, _ = call(verify, labeled / "labeled.csv", *arguments, "--json", f"--output={labeled}/scores.csv")
    assert status == 0
    planned = evaluation.plan(labeled / "data", {"made": {"protocol": "released", "resolutions": (14, 7)}})
    concat = Embedder.load(embedder.path, fusion="concat")
    results = evaluation.run(
        planned,
        concat.program(evaluation.sizes_of(planned)),
        concat.variables,
        rounding="uint8",
        batch_size=concat.batch_sizes[1],
        num_threads=1,
        cache=None,
    )
    said = json.loads(out)
    comparisons = results["made"].outcome.comparisons
    assert len(comparisons) == 5
    for told, expected in zip(said["report"]["sets"]["labeled"]["results"], comparisons, strict=True):
        assert (told["mode"], told["resolution"]) == (expected.mode, expected.resolution)
        assert told["fold_accuracies"] == expected.accuracy.fold_accuracies.tolist()
        assert told["auc"] == expected.auc
        name = f"{expected.mode}_{expected.resolution}"
        assert [pair[name] for pair in said["pairs"]] == expected.cosines.tolist()
    with open(labeled / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["hr_lr_7"]) for row in rows] == [pair["hr_lr_7"] for pair in said["pairs"]]
    truth = made_up_sets.verification().is_same.astype(int).tolist()
    assert [pair["is_same"] for pair in said["pairs"]] == [int(row["is_same"]) for row in rows] == truth
    unlabeled = json.loads(call(verify, labeled / "made.csv", *arguments, "--json")[1])
    for pair in said["pairs"]:
        del pair["is_same"]
    assert unlabeled == {"report": {}, "pairs": said["pairs"]}


def test_verify_measures_an_exported_file(labeled, embedder, capsys):
    exported = labeled / "net.stablehlo"
    export.main(["--checkpoint", str(embedder.path), "--format", "stablehlo", "--output", str(exported)])
    capsys.readouterr()

    def said(model):
        verify.main([str(labeled / "labeled.csv"), "--resolutions=14", "--json", f"--checkpoint={model}"])
        return json.loads(capsys.readouterr().out)

    file, checkpoint = said(exported), said(embedder.path)
    results = zip(*(one["report"]["sets"]["labeled"]["results"] for one in (file, checkpoint)), strict=True)
    for of_file, of_checkpoint in results:
        assert of_file["accuracy"] == of_checkpoint["accuracy"]
    for pair, expected in zip(file["pairs"], checkpoint["pairs"], strict=True):
        assert pair == pytest.approx(expected, abs=1e-5)


def test_verify_decides_by_the_sizes_of_each_pair(call, labeled, embedder):
    images = [cv2.imread(str(labeled / f"images/{place}.png"))[..., ::-1] for place in range(40)]
    (labeled / "images/1.png").write_bytes(resize.encode_png(np.ascontiguousarray(images[1][:10, :10])))
    held = [entry("hr_hr", 112, threshold=0.9), entry("hr_lr", 14, threshold=1.0), entry("hr_lr", 5, threshold=-1.0)]
    path = calibrate(embedder, held)
    try:
        arguments = (labeled / "made.csv", "--resize", "--far=0.01", "--json")
        pairs = json.loads(call(verify, *arguments)[1])["pairs"]
        small = ["images/1.png" in (pair["first"], pair["second"]) for pair in pairs]
        assert 0 < sum(small) < 5
        for pair, is_small in zip(pairs, small, strict=True):
            assert pair["same_hr_hr_112"] == (is_small or pair["hr_hr_112"] > 0.9)
        assert {pair["same_hr_hr_112"] for pair in pairs} == {0, 1}
        with pytest.raises(UserError, match="was not calibrated for LR-LR"):
            call(verify, *arguments, "--resolutions=20")
    finally:
        path.unlink()


def test_verify_measures_what_the_calibrated_thresholds_accept_of_labeled_pairs(call, labeled, embedder):
    similarities = [
        (pair["hr_hr_112"], pair["is_same"])
        for pair in json.loads(call(verify, labeled / "labeled.csv", "--fusion=none", "--json")[1])["pairs"]
    ]
    impostors = sorted(similarity for similarity, is_same in similarities if not is_same)
    limit = (impostors[-6] + impostors[-5]) / 2  # five of 20 are accepted
    genuine = sum(similarity > limit for similarity, is_same in similarities if is_same)
    path = calibrate(embedder, [entry("hr_hr", 112, threshold=limit, fusion="none")])
    try:
        status, out, err = call(verify, labeled / "labeled.csv", "--far=0.01", f"--output={labeled}/decided.csv")
        assert status == 0
        assert "protocol insightface, fusion=none" in out  # the card's own
        assert "by thresholds fitted to these very pairs" in out
        assert "for a false accept rate of 1.00 %, on these pairs" in out
        assert f"FAR 25.00 % (11.19 to 46.87) of 20 impostor pairs, TAR {5 * genuine:.2f} % (" in out
        assert f"threshold {limit:.4f} from 3,000 impostor pairs of lfw, fusion none" in out
        assert "warning: HR-HR 112 px: the thresholds accept 25.00 % (11.19 to 46.87) of these impostor pairs" in err
        with open(labeled / "decided.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["first", "second", "is_same", "hr_hr_112", "same_hr_hr_112"]
        assert sum(row["same_hr_hr_112"] == "1" for row in rows if row["is_same"] == "0") == 5
        measured = json.loads(call(verify, labeled / "labeled.csv", "--far=0.01", "--json")[1])["thresholds"]
        assert (measured["hr_hr_112"]["far"], measured["hr_hr_112"]["tar"]) == (0.25, genuine / 20)
        # A protocol that is named brings its own fusion.
        with pytest.raises(UserError, match="no thresholds for fusion concat: it is calibrated for fusion none"):
            call(verify, labeled / "labeled.csv", "--far=0.01", "--protocol=released")
        with pytest.raises(UserError, match="--calibrated_on does nothing without --far"):
            call(verify, labeled / "labeled.csv", "--calibrated_on=lfw")
        assert "warning" not in call(verify, labeled / "labeled.csv")[2]
    finally:
        path.unlink()


def test_verify_says_which_pairs_it_could_not_decide(call, labeled, embedder):
    images = [cv2.imread(str(labeled / f"images/{place}.png"))[..., ::-1] for place in range(40)]
    path = calibrate(embedder, [entry("hr_hr", 112, threshold=0.9), entry("hr_lr", 14, threshold=0.5)])
    arguments = (labeled / "made.csv", "--resize", "--far=0.01", "--json")
    try:
        for number, ends in ((1, 3), (40, 4)):
            for place in range(number):
                small = np.ascontiguousarray(images[place][:10, :10])
                (labeled / f"images/{place}.png").write_bytes(resize.encode_png(small))
            status, out, err = call(verify, *arguments)
            assert status == ends
            undecided = [pair["same_hr_hr_112"] is None for pair in json.loads(out)["pairs"]]
            assert 0 < sum(undecided) == (2 if number == 1 else 40)
            assert f"warning: HR-HR 112 px: {sum(undecided)} pairs have no decision" in err
    finally:
        path.unlink()


def test_verify_looks_for_thresholds_before_it_embeds(call, labeled, embedder, monkeypatch):
    path = calibrate(embedder, [entry("hr_hr", 112)])
    monkeypatch.setattr(verify.evaluation, "run", None)
    try:
        with pytest.raises(UserError, match="not calibrated for HR-LR, only for fusion sum"):
            call(verify, labeled / "labeled.csv", "--far=0.01", "--resolutions=14")
    finally:
        path.unlink()


def test_verify_shows_a_table_or_the_scores(call, labeled):
    assert "HR-LR" in call(verify, labeled / "labeled.csv", "--resolutions=14")[1]
    printed = call(verify, labeled / "made.csv")[1].splitlines()
    assert printed[0] == "first,second,hr_hr_112"
    assert len(printed) == 41


def test_search_finds_each_image_first_among_its_own(call, folder, tmp_path):
    arguments = (f"--gallery={folder}", f"--probes={folder}/p1", "--top=4", "--resolution=56")
    status, _, _ = call(search, *arguments, f"--output={tmp_path}/hits.csv", f"--sheet={tmp_path}/hits.png")
    assert status == 0
    with open(tmp_path / "hits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"] * 2
    assert [row["gallery"] for row in rows if row["rank"] == "1"] == ["p1/1.png", "p1/2.png"]
    similarities = [float(row["similarity"]) for row in rows]
    assert similarities[:4] == sorted(similarities[:4], reverse=True)
    assert (tmp_path / "hits.png").stat().st_size > 1000
    assert call(search, *arguments)[1].splitlines()[0] == "probe,rank,gallery,similarity"


def test_search_takes_embeddings_of_the_same_model(call, folder, tmp_path):
    call(embed, f"--images={folder}", f"--output={tmp_path}/g.npz")
    call(embed, f"--images={folder}", f"--output={tmp_path}/other.npz", "--fusion=none")
    from_folder = json.loads(call(search, f"--gallery={folder}", f"--probes={folder}", "--json")[1])
    assert json.loads(call(search, f"--gallery={tmp_path}/g.npz", f"--probes={folder}", "--json")[1]) == from_folder
    assert len(from_folder["hits"]) == 6 * 5
    with pytest.raises(UserError, match=r"other\.npz were not embedded by the same model, fusion and centering"):
        search.main([f"--gallery={tmp_path}/g.npz", f"--probes={tmp_path}/other.npz"])
    with pytest.raises(UserError, match="--sheet shows pictures: give folders"):
        call(search, f"--gallery={tmp_path}/g.npz", f"--probes={folder}", f"--sheet={tmp_path}/s.png")


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (embed, ["--images=nosuch", "--output=f.npz"], "--images nosuch does not exist: give a folder or a tar"),
        (embed, ["--images={folder}/empty", "--output=f.npz"], "empty holds no image, as it is empty"),
        (embed, ["--images={folder}", "--output=gs://bucket/f.npz"], "--output gs://bucket/f.npz"),
        (embed, ["--images={folder}", "--output=f.txt"], "--output f.txt must end in .npz"),
        (embed, ["--images={folder}", "--output={folder}/there.npz"], "there.npz is there already: choose another"),
        (embed, ["--images={folder}/bad", "--output=f.npz"], "bad/1.png is not an image in a known format"),
        (embed, ["--images={folder}", "--output=f.npz", "--resize", "--align"], "give resize or align, not both"),
        (compare, ["{folder}/p0/1.png", "{folder}/bad/1.png"], "bad/1.png is not an image in a known format"),
        (compare, ["{folder}/p0/1.png", "{folder}/p0/2.png", "--threshold=40"], "--threshold 40.0 must be a cosine"),
        (search, ["--gallery={folder}", "--probes={folder}", "--top=0"], "--top 0 must be at least 1"),
        (search, ["--gallery={folder}", "--probes={folder}", "--sheet_probes=0"], "--sheet_probes 0 must be"),
        (
            search,
            ["--gallery={folder}", "--probes=p.npz", "--resolution=20"],
            "--resolution does nothing with .* --probes",
        ),
        (
            search,
            ["--gallery=g.npz", "--probes=p.npz", "--resize"],
            "--resize does nothing with embeddings as --gallery",
        ),
        (search, ["--gallery=g.npz", "--probes=p.npz", "--align"], "--align does nothing with embeddings as --gallery"),
        (search, ["--gallery=g.npz", "--probes=p.npz", "--fusion=none"], "--fusion does nothing with embeddings"),
        (search, ["--gallery={folder}", "--probes=p.npz", "--resize", "--fusion=none"], "p.npz cannot be read"),
        (search, ["--gallery=g.npz", "--probes=p.npz", "--batch_size=7"], "--batch_size does nothing with embeddings"),
        (search, ["--gallery=g.npz", "--probes=p.npz", "--checkpoint=c"], "--checkpoint does nothing with embeddings"),
        (
            search,
            ["--gallery={folder}", "--probes={folder}", "--output=x.png", "--sheet=./x.png"],
            "--output and --sheet name one file",
        ),
        (verify, ["{folder}/alike.csv"], "alike.csv: all of its pairs show the same person"),
        (verify, ["{folder}/good.csv", "--far=0.01"], "this model has no thresholds for fusion sum"),
        (search, ["--gallery={folder}", "--probes={folder}/there.npz"], "there.npz cannot be read as a file of"),
        (search, ["--gallery={folder}", "--probes={folder}", "--output={folder}/there.npz"], "there already"),
        (search, ["--gallery={folder}/nosuch", "--probes={folder}"], "--gallery .*nosuch does not exist"),
        (verify, ["{folder}/nosuch.csv"], "nosuch.csv cannot be read as csv"),
        (verify, ["{folder}/pairs.csv"], "gone.png does not exist"),
    ],
)
def test_bad_call_is_a_sentence_and_leaves_nothing(call, folder, tmp_path, monkeypatch, command, arguments, sentence):
    for name in ("empty", "bad"):
        (folder / name).mkdir()
    (folder / "bad/1.png").write_bytes(b"<html>")
    (folder / "there.npz").write_bytes(b"")
    (folder / "pairs.csv").write_text("first,second\np0/1.png,gone.png\n")
    (folder / "good.csv").write_text("first,second\np0/1.png,p0/2.png\n")
    (folder / "alike.csv").write_text("first,second,is_same\n" + "p0/1.png,p0/2.png,1\n" * 20)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=sentence):
        call(command, *(argument.format(folder=folder) for argument in arguments))
    assert sorted(tmp_path.rglob("*")) == before
