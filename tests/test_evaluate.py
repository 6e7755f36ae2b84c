import json

import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import evaluate, export, models
from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import protocols, result_figures, set_options
from tests.evals.made_up_sets import TinyBackbone, identification, templates, variables, verification, write
from tests.exports.networks import arguments

MODEL = arguments("tiny", embedding_size=16)
OWN = {"protocol": "insightface", "resolutions": [14], "fars": [0.1]}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("one", "two"):
        write(folder, name, verification(num_folds=2))
    write(folder, "cams", identification(), arguments={"kind": "scface", "partial": True})
    write(folder, "videos", templates(), arguments={"kind": "ijb"})
    return str(folder)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """A run with two checkpoints, whose network is tiny but saved and read as every other."""
    monkeypatch.setattr(models, "create_backbone", lambda **model: {"tiny": TinyBackbone()}[model["backbone"]])
    manager = checkpoint.create_manager(tmp_path / "run", keep=2)
    for step in (5, 10):
        metadata = {"step": step, "model": MODEL, "evals": {"one": OWN}, "degradation_rounding": "uint8"}
        training = {"x": jnp.zeros(())}
        checkpoint.save(manager, step, backbone=dict(variables()), training=training, metadata=metadata)
    manager.close()
    return tmp_path / "run"


def test_newest_checkpoint_by_the_runs_own_settings(workdir, data_dir, capsys):
    evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir])
    made = json.loads((workdir / "eval" / "10.json").read_text())
    assert (made["step"], list(made["sets"])) == (10, ["one"])
    assert made["checkpoint"].endswith("checkpoints/10")
    assert made["sets"]["one"]["protocol"] == "insightface"
    modes = [(result["mode"], result["resolution"]) for result in made["sets"]["one"]["results"]]
    assert modes == [("hr_hr", 112), ("hr_lr", 14), ("lr_lr", 14)]
    drawn = {path.name for path in (workdir / "eval" / "10").iterdir()}
    assert drawn == {"accuracy_by_resolution.png", "one_roc_hr_lr.png", "one_roc_lr_lr.png", "one_similarities.png"}
    printed = capsys.readouterr().out
    for part in ("HR-LR", "112 px", "10.json", str(workdir / "eval" / "10")):
        assert part in printed
    assert len(list(workdir.glob("embeddings/*/one-*/*.npz"))) == 2


def test_options_change_the_settings_of_the_sets_that_have_them(workdir, data_dir, tmp_path, capsys):
    options = ["--sets", "videos,one,two,cams", "--protocol", "released", "--fusion", "none", "--fars", "0.2"]
    options += ["--comparisons", "hr_lr,matrix", "--ssim", "--split", "half", "--ranks", "1,2", "--fpirs", "0.5"]
    places = ["--output", str(tmp_path / "x" / "e.json"), "--plots", str(tmp_path / "figures")]
    path = str(workdir / "checkpoints" / "5")
    options += ["--batch_size", "13", "--resolutions", "20"]
    with pytest.raises(UserError, match=r"evals\.videos\.resolutions must be empty"):
        evaluate.main(["--checkpoint", path, "--data_dir", data_dir, *options, *places])
    options[1] = "one,two,cams"
    with pytest.raises(UserError, match=r"test set cams: fpirs=\(0\.5,\) need probes without a mate"):
        evaluate.main(["--checkpoint", path, "--data_dir", data_dir, *options, *places])
    del options[options.index("--fpirs") : options.index("--fpirs") + 2]
    evaluate.main(["--checkpoint", path, "--data_dir", data_dir, *options, *places])
    made = json.loads((tmp_path / "x" / "e.json").read_text())
    assert (made["step"], list(made["sets"])) == (5, ["one", "two", "cams"])
    for name in ("one", "two"):
        assert made["sets"][name]["protocol"] == "released, fusion=none"
        modes = [(r["mode"], r["first_resolution"], r["resolution"]) for r in made["sets"][name]["results"]]
        matrix = [("matrix", a, b) for a in (112, 20) for b in (112, 20)]
        assert modes == [("hr_hr", 112, 112), ("hr_lr", 112, 20), *matrix]
        assert list(made["sets"][name]["results"][0]["tar"]) == ["0.2"]
        assert made["sets"][name]["ssim"].keys() == {"112", "20"}
    cams = made["sets"]["cams"]
    assert (cams["protocol"], cams["is_partial"]) == ("scface, split=half", True)
    assert {(r["name"], r["group"], r["resolution"]) for r in cams["results"]} == {
        (f"rank{k}", group, r) for k in (1, 2) for group in ("even", "odd") for r in (112, 20)
    }
    assert "cams (partial), %" in capsys.readouterr().out
    # The matrix holds LR-LR as well.
    assert len(list((tmp_path / "figures").iterdir())) == 7
    assert not (workdir / "eval").exists()
    assert not (workdir / "embeddings").exists()


def write_many(folder, name="many"):
    """A set of all 780 pairs of 40 images, 760 of them of two persons."""
    every = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2)
    every = every[every[:, 0] < every[:, 1]]
    same = every[:, 0] // 2 == every[:, 1] // 2
    write(folder, name, protocol_arrays.VerificationProtocol(every, same, np.arange(len(every)) % 2))


def test_an_exported_file_gives_the_numbers_of_its_checkpoint(workdir, tmp_path):
    write_many(tmp_path)
    file = tmp_path / "net.stablehlo"
    export.main(["--checkpoint", str(workdir), "--format", "stablehlo", "--output", str(file)])
    made = []
    for number, path in enumerate((workdir / "checkpoints" / "10", file)):
        arguments = ["--checkpoint", str(path), "--data_dir", str(tmp_path), "--sets", "many", "--resolutions", "14"]
        kept = ["--embeddings", str(tmp_path / "kept"), "--output", str(tmp_path / f"{number}.json")]
        evaluate.main([*arguments, "--calibrate", *kept])
        made.append(json.loads((tmp_path / f"{number}.json").read_text()))
        cards = json.loads(model_card.path_of(path).read_text())
        made[number]["thresholds"] = [one["threshold"] for one in cards["thresholds"]]
    of_checkpoint, of_file = made
    assert (of_file["step"], of_file["checkpoint"]) == (10, str(file))
    for one, other in zip(*(each["sets"]["many"]["results"] for each in made), strict=True):
        assert other["accuracy"] == pytest.approx(one["accuracy"], abs=1e-6)
    assert of_file["thresholds"] == pytest.approx(of_checkpoint["thresholds"], abs=1e-5)
    assert len(of_file["thresholds"]) == 2 * 3  # with and without centering
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_calibration_goes_beside_the_checkpoint(workdir, data_dir, tmp_path, capsys):
    write_many(tmp_path)
    arguments = ["--workdir", str(workdir), "--data_dir", str(tmp_path), "--sets", "many", "--resolutions", "14"]
    evaluate.main([*arguments, "--calibrate", "--fusion", "none"])
    path = workdir / "checkpoints/10/card.json"
    assert f"card: {path}" in capsys.readouterr().out
    weights = checkpoint.model_digest(dict(variables()), MODEL)
    card = model_card.read(path.parent, weights=weights)
    # 760 impostor pairs show a rate of 0.1 alone.
    described = [
        (one.mode, one.resolution, one.far, one.impostor_pairs, one.set, one.fusion, one.centering)
        for one in card.thresholds
    ]
    assert card.results["many"]["pairs"] == 780
    assert "many" in path.with_suffix(".md").read_text()
    expected = [("hr_hr", 112), ("hr_lr", 14), ("lr_lr", 14)]
    assert described == [
        (*which, 0.1, 760, "many", "none", tried) for tried in ("none", "per_resolution") for which in expected
    ]
    evaluate.main([*arguments, "--fusion", "none"])  # orbax reads the checkpoint as before


def test_calibration_on_two_sets_tells_what_the_thresholds_of_one_accept_of_the_other(workdir, tmp_path, capsys):
    for name in ("many", "more"):
        write_many(tmp_path, name)
    arguments = ["--workdir", str(workdir), "--data_dir", str(tmp_path), "--sets", "many,more", "--resolutions", "14"]
    evaluate.main(arguments)
    assert "impostor pairs of another" not in capsys.readouterr().out
    evaluate.main([*arguments, "--calibrate"])
    printed = capsys.readouterr().out
    assert "thresholds of one set on the impostor pairs of another:" in printed
    assert "| many | more | HR-LR | 14 | 0.1 |" in printed
    rows = json.loads((workdir / "eval/10.json").read_text())["sets"]["more"]["carried_over"]
    assert {(row["set"], row["far"]) for row in rows} == {("many", 0.1)}
    # The same pairs under two names: the threshold accepts of the one what it does of the other.
    assert all(row["accepted"] <= 0.1 for row in rows)


def test_what_cannot_be_calibrated_or_kept_in_the_card_is_told_before_anything_is_embedded(
    workdir, data_dir, tmp_path, monkeypatch
):
    write_many(tmp_path)
    monkeypatch.setattr(evaluate.evaluation, "run", None)
    with pytest.raises(UserError, match="nothing to calibrate on"):
        evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, "--calibrate"])
    arguments = ["--workdir", str(workdir), "--data_dir", str(tmp_path), "--sets", "many", "--calibrate"]
    model = evaluate.open_model(workdir)
    path = model_card.write(model.path, evaluate.card_of(model))
    plain = json.loads(path.read_text())
    for change, sentence in (
        ({"results": {"many": {"kind": 3}}}, r"the results in .*card\.json are not what `evaluate` writes"),
        ({"results": {"many": {"kind": "verification", "results": "x"}}}, r"the results in .*card\.json are not"),
        ({"thresholds": [{"threshold": "high"}]}, r"card\.json "),
    ):
        path.write_text(json.dumps(plain | change))
        with pytest.raises(UserError, match=sentence):
            evaluate.main(arguments)


def test_calibrations_add_up_and_a_matrix_gives_what_its_cells_are(workdir, tmp_path, capsys):
    """HR-LR and LR-LR of a matrix are those that are measured by themselves, to the last digit."""
    write_many(tmp_path)
    arguments = ["--workdir", str(workdir), "--data_dir", str(tmp_path), "--sets", "many", "--calibrate"]

    def thresholds(*options):
        evaluate.main([*arguments, *options])
        card = json.loads((workdir / "checkpoints/10/card.json").read_text())
        plain = (one for one in card["thresholds"] if one["centering"] == "none")
        return {(one["fusion"], one["mode"], one["resolution"]): one["threshold"] for one in plain}

    by_default = thresholds("--resolutions", "14")
    assert list(by_default) == [("sum", "hr_hr", 112), ("sum", "hr_lr", 14), ("sum", "lr_lr", 14)]
    assert thresholds("--resolutions", "14", "--comparisons", "matrix") == by_default
    both = thresholds("--resolutions", "20", "--fusion", "none")
    assert both.items() > by_default.items()
    assert list(both)[3:] == [("none", "hr_hr", 112), ("none", "hr_lr", 20), ("none", "lr_lr", 20)]
    text = (workdir / "checkpoints/10/card.md").read_text()
    for words in (
        "take fusion none and many, unless --fusion or --calibrated_on is given",
        "Fusion none, from many, insightface",
        "Fusion sum, from many, insightface",
        "many: kept in the json beside these: protocol insightface, ",
    ):
        assert words in text
    card = json.loads((workdir / "checkpoints/10/card.json").read_text())
    assert [one["protocol"] for one in (card["results"]["many"], *card["results"]["many"]["beside"])] == [
        "insightface, fusion=none",
        "insightface, fusion=none, centering=per_resolution",
        "insightface",
        "insightface, centering=per_resolution",
    ]


def test_results_of_earlier_calls_are_kept(workdir, data_dir, tmp_path, capsys, monkeypatch):
    arguments = ["--workdir", str(workdir), "--data_dir", data_dir]
    evaluate.main([*arguments, "--sets", "one,two"])
    capsys.readouterr()
    figure = []
    monkeypatch.setattr(
        result_figures.plots, "accuracy_by_resolution", lambda path, *args, sets: figure.extend((*args, sets))
    )
    evaluate.main([*arguments, "--sets", "one", "--resolutions", "20"])
    [shown, names] = figure
    assert (names, len(shown["step 10"]["sets"]["one"]["results"])) == (["one", "two"], 5)
    printed = capsys.readouterr().out
    assert "one: kept 2 results that were measured before and not now" in printed
    made = json.loads((workdir / "eval" / "10.json").read_text())
    assert list(made["sets"]) == ["one", "two"]
    assert [result["resolution"] for result in made["sets"]["one"]["results"]] == [112, 20, 14, 20, 14]
    assert made["weights"] == checkpoint.model_digest(dict(variables()), MODEL)
    named = tmp_path / "named.json"
    for name in ("two", "one"):
        evaluate.main([*arguments, "--sets", name, "--output", str(named)])
    assert list(json.loads(named.read_text())["sets"]) == ["two", "one"]
    # Of another step nothing is mixed in, and nothing lost.
    other = ["--checkpoint", str(workdir / "checkpoints/5"), "--data_dir", data_dir, "--sets", "one"]
    evaluate.main([*other, "--output", str(named)])
    assert "named.json held other results (of step 10): they are in named.earlier1.json now" in capsys.readouterr().out
    assert [json.loads(path.read_text())["step"] for path in (named, tmp_path / "named.earlier1.json")] == [5, 10]


def test_rates_that_the_pairs_cannot_show_are_told(workdir, data_dir, capsys):
    arguments = ["--workdir", str(workdir), "--data_dir", data_dir, "--sets", "one,videos", "--no_cache"]
    evaluate.main([*arguments, "--fars", "0.1,0.00001"])
    printed = capsys.readouterr().out
    for name in ("one", "videos"):
        assert f"{name}: no TAR at FAR 0.00001, as it has 20 impostor pairs" in printed
    made = json.loads((workdir / "eval/10.json").read_text())
    assert list(made["sets"]["one"]["results"][0]["tar"]) == ["0.1"]


def test_no_figures_are_claimed_where_there_is_nothing_to_draw(workdir, data_dir, capsys):
    evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, "--sets", "cams", "--split", "half"])
    assert "plots:" not in capsys.readouterr().out
    assert not (workdir / "eval/10").exists()


def test_a_failure_to_write_loses_no_number(workdir, data_dir, tmp_path, capsys, monkeypatch):
    write_many(tmp_path)
    arguments = ["--workdir", str(workdir), "--data_dir", str(tmp_path), "--sets", "many", "--no_cache", "--calibrate"]

    def fail(*unused, **ignored):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate.paths, "write_text", fail)
        with pytest.raises(UserError, match=r"eval/10\.json cannot be written"):
            evaluate.main(arguments)
    assert "many" in capsys.readouterr().out
    monkeypatch.setattr(result_figures.plots.plt.Figure, "savefig", fail)
    with pytest.raises(UserError, match=r"figures cannot be written to .*eval/10 \(.*No space left"):
        evaluate.main(arguments)
    assert f"card: {workdir / 'checkpoints/10/card.json'}" in capsys.readouterr().out


def test_bad_places_are_told_before_anything_is_embedded(workdir, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "open_model", lambda path: pytest.fail("the model was loaded"))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    for option, name, sentence in (
        ("--output", "x.txt", r"--output .*x\.txt must end in \.json"),
        ("--output", ".json", r"\.json must end in \.json"),
        ("--output", "folder.json", r"--output .*folder\.json is a folder"),
        ("--output", "file.json", "--plots cannot be written, as .*file is a file: name a folder"),
        ("--output", "file/x.json", "--output cannot be written, as .*file is a file: name a folder"),
        ("--plots", "file", "--plots cannot be written, as .*file is a file: name a folder"),
        ("--plots", "file/x", "--plots cannot be written, as .*file is a file: name a folder"),
        ("--embeddings", "file", "--embeddings cannot be written, as .*file is a file: name a folder"),
        ("--sets", "absent", "no set named"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, option, str(tmp_path / name)])


def test_each_set_is_told_as_it_is_done_beside_the_results(workdir, data_dir, capsys):
    evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, "--sets", "one,two"])
    out, err = capsys.readouterr()
    assert "one: " in err
    assert "two: " not in err  # the table follows at once
    for name in ("one", "two"):
        assert out.count(f"\n{name}: ") == 1
    evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, "--sets", "one"])
    assert "one: " not in capsys.readouterr().err


def test_a_set_that_the_run_does_not_know_gets_the_settings_of_its_kind(workdir, data_dir):
    evaluate.main(
        ["--workdir", str(workdir), "--data_dir", data_dir, "--sets", "videos,two", "--no_cache", "--no-use_faceness"]
    )
    made = json.loads((workdir / "eval" / "10.json").read_text())
    assert made["sets"]["videos"]["protocol"] == "ijb, use_faceness=False"
    assert made["sets"]["two"]["protocol"] == "insightface"
    assert not (workdir / "embeddings").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sets", "absent"], "no set named absent"),
        (["--resolutions", "300"], r"must be whole pixels in 1\.\.112"),
        (["--batch_size", "0"], "--batch_size=0 must be at least 1"),
        (["--ranks", "1"], r"--ranks \(1,\) fits none of the sets one \(verification\)"),
        (["--protocol", "tinyface"], "--protocol tinyface fits none of the sets"),
        (["--size_lists", "low"], "test set one: the set holds no size list 'low'"),
    ],
)
def test_bad_options_are_told(workdir, data_dir, options, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, *options])
    assert not (workdir / "eval").exists()


def test_a_run_without_checkpoint_is_told(tmp_path, data_dir):
    with pytest.raises(UserError, match="holds no checkpoint"):
        evaluate.main(["--workdir", str(tmp_path), "--data_dir", data_dir])


def test_command_line(capsys):
    for argv in ([], ["--workdir", "a", "--checkpoint", "b", "--data_dir", "c"], ["--workdir", "a", "--data_dir", "c"]):
        extra = ["--resolutions", "x"] if len(argv) == 4 else []
        with pytest.raises(SystemExit):
            evaluate.main([*argv, *extra])
    assert "comma-separated int" in capsys.readouterr().err


def test_every_setting_of_every_kind_has_its_option():
    assert set(set_options.SETTINGS) == set().union(*map(protocols.settings_of, protocols.KIND_RULES))
    options = vars(evaluate._parser().parse_args(["--workdir", "a", "--data_dir", "b"]))
    assert all(options[key] is None for key in set_options.SETTINGS)
