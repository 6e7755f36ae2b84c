import pytest

from lrfr_jax.data import face_sets
from lrfr_jax.prepare.__main__ import main
from tests.prepare import layouts

# Every picture has its own color: (identity, image, source). `b` is in both sources, `d` has a single image.
_FIRST = {f"set/{name}/{k}.png": layouts.flat(i, k, 1) for i, name in enumerate("ab") for k in (2, 10)}
_SECOND = {"b/1.png": layouts.flat(1, 1, 2), "d/1.png": layouts.flat(3, 1, 2)}
_TENS = {f"{name}/{k}.png": layouts.flat(i, k, 2) for i, name in ((5, "n10"), (4, "n9")) for k in (1, 2)}


@pytest.fixture
def command(tmp_path):
    """The flags that name two sources, in which a, b, n9 and n10 have two images or more."""
    first = layouts.write(tmp_path / "one", _FIRST)
    second = layouts.write(tmp_path / "two", _SECOND | _TENS)
    return ["gallery", "--source", first, "--source", second, "--data_dir", str(tmp_path / "sets")]


def _opened(tmp_path, name):
    """Reads a set back: [(label, color)] of its gallery and of its probes, and the set."""
    opened = face_sets.open_test_set(str(tmp_path / "sets"), name)
    protocol = opened.protocol
    colors = [layouts.color(record["image"]) for record in opened.source]
    gallery = [(label, colors[row]) for row, label in zip(protocol.gallery, protocol.gallery_labels, strict=True)]
    probes = [(label, colors[row]) for row, label in zip(protocol.probes, protocol.probe_labels, strict=True)]
    return gallery, probes, opened


def _refused(capsys, tmp_path, command):
    with pytest.raises(SystemExit) as status:
        main([*command, "--name", "bad"])
    assert status.value.code == 1
    assert not list(tmp_path.glob("sets/bad/*"))
    return capsys.readouterr().err


def test_the_first_image_of_each_identity_with_two_is_in_the_gallery(tmp_path, command, capsys):
    main([*command, "--name", "all"])
    gallery, probes, opened = _opened(tmp_path, "all")
    assert gallery == [(0, (0, 2, 1)), (1, (1, 2, 1)), (2, (4, 1, 2)), (3, (5, 1, 2))]
    assert probes == [(0, (0, 10, 1)), (1, (1, 10, 1)), (1, (1, 1, 2)), (2, (4, 2, 2)), (3, (5, 2, 2))]
    assert (opened.protocol.groups, opened.is_partial) == (("",), False)
    assert (opened.path / "identities.txt").read_text() == "a\nb\nn9\nn10\n"
    assert capsys.readouterr().out.startswith("4 gallery images, 5 probes, 4 identities, complete")


def test_no_identity_gives_more_than_the_largest_number_of_images(tmp_path, command, capsys):
    main([*command, "--name", "few", "--max_images", "2"])
    _, probes, _ = _opened(tmp_path, "few")
    assert probes == [(0, (0, 10, 1)), (1, (1, 10, 1)), (2, (4, 2, 2)), (3, (5, 2, 2))]
    assert "--max_images must be at least 2, it is 1" in _refused(capsys, tmp_path, [*command, "--max_images", "1"])


def test_listed_identities_are_taken_and_a_second_run_changes_nothing(tmp_path, command, capsys):
    (tmp_path / "some.txt").write_text("n10\nd\nb\n")
    some = [*command, "--identities", str(tmp_path / "some.txt"), "--name", "some"]
    main(some)
    gallery, probes, _ = _opened(tmp_path, "some")
    assert gallery == [(0, (1, 2, 1)), (1, (5, 1, 2))]
    assert probes == [(0, (1, 10, 1)), (0, (1, 1, 2)), (1, (5, 2, 2))]
    capsys.readouterr()
    main(some)
    assert "is complete already" in capsys.readouterr().out
    (tmp_path / "some.txt").write_text("b\n")
    with pytest.raises(SystemExit):
        main(some)
    assert "was prepared with identities=" in capsys.readouterr().err


def test_bad_images_end_the_command_or_make_a_partial_set_in_which_every_probe_has_a_mate(tmp_path, command, capsys):
    layouts.write(tmp_path / "one", {"set/b/2.png": b"text", "set/a/10.png": layouts.flat(0, 0, 0)[:-30]})
    assert "a/10.png is truncated" in _refused(capsys, tmp_path, command)
    main([*command, "--allow_partial", "--name", "partial"])
    gallery, probes, opened = _opened(tmp_path, "partial")
    assert gallery[0] == (0, (1, 10, 1))  # of a, one image is left
    assert probes[0] == (0, (1, 1, 2))
    assert opened.is_partial
    assert capsys.readouterr().out.startswith("3 gallery images, 3 probes, 3 identities, 2 left out, partial")
    skipped = (opened.path / "skipped.txt").read_text().splitlines()
    assert [line.split("/set/")[1][:8] for line in skipped] == ["a/10.png", "b/2.png "]


def test_an_unknown_identity_and_no_pair_of_images_end_the_command(tmp_path, command, capsys):
    (tmp_path / "names.txt").write_text("b\nnobody\n")
    names = [*command, "--identities", str(tmp_path / "names.txt")]
    assert "names.txt names nobody, of whom" in _refused(capsys, tmp_path, names)
    (tmp_path / "names.txt").write_text("d\n")
    assert "has two usable images: a probe needs a mate" in _refused(capsys, tmp_path, names)
    (tmp_path / "names.txt").write_text("\n")
    assert "--identities" in _refused(capsys, tmp_path, names)
