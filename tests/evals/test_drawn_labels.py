"""Pairs of labeled faces: who is with whom, and how many."""

import numpy as np

from lrfr_jax.evals import drawn_labels

LABELS = np.array([3, 0, 3, 1, 3, 0, 3, 7, 3])  # five of 3, two of 0, one each of 1 and 7


def test_all_pairs_of_some_images_and_impostors_for_each_end():
    pairs, is_same = drawn_labels.draw(LABELS, images_per_identity=4, impostors_per_image=5, seed=0)
    genuine, impostors = pairs[is_same], pairs[~is_same]
    assert len(genuine) == 6 + 1  # of four images of 3, and of two of 0
    assert len({tuple(sorted(pair)) for pair in genuine.tolist()}) == 7
    assert (LABELS[genuine[:, 0]] == LABELS[genuine[:, 1]]).all()
    assert len(impostors) == 2 * 7 * 5
    assert (LABELS[impostors[:, 0]] != LABELS[impostors[:, 1]]).all()
    assert np.bincount(impostors[:, 0], minlength=9).sum() == 70
    np.testing.assert_array_equal(
        np.bincount(genuine.ravel(), minlength=9) * 5, np.bincount(impostors[:, 0], minlength=9)
    )


def test_every_other_face_is_an_impostor_sometimes_and_a_seed_repeats():
    wanted = {"images_per_identity": 10, "impostors_per_image": 50}
    pairs, is_same = drawn_labels.draw(LABELS, **wanted, seed=1)
    others = pairs[~is_same]
    assert set(others[LABELS[others[:, 0]] == 3][:, 1].tolist()) == {1, 3, 5, 7}
    np.testing.assert_array_equal(drawn_labels.draw(LABELS, **wanted, seed=1)[0], pairs)
    assert not np.array_equal(drawn_labels.draw(LABELS, **wanted, seed=2)[0], pairs)


def test_without_two_images_of_one_there_are_none():
    for labels in (np.arange(5), np.zeros(5, int), np.zeros(0, int)):
        pairs, is_same = drawn_labels.draw(labels, images_per_identity=2, impostors_per_image=2, seed=0)
        assert pairs.shape == (0, 2)
        assert is_same.shape == (0,)
