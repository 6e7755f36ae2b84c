import numpy as np
import pytest

from lrfr_jax.data import records, synthetic
from lrfr_jax.prepare.checks import near_duplicates


def slow_pairs(hashes, groups):
    number = len(hashes)
    return {
        (i, j)
        for i in range(number)
        for j in range(i + 1, number)
        if groups[i] != groups[j] and bin(int(hashes[i] ^ hashes[j])).count("1") <= near_duplicates.RADIUS
    }


def flipped(value, bits):
    for bit in bits:
        value ^= np.uint64(1) << np.uint64(bit)
    return value


def test_all_pairs_within_the_radius_are_found_and_no_other():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 60, dtype=np.uint64)
    # Neighbors at every distance from 1 to 5, their bits spread over the bands, and crowded buckets.
    near = [flipped(hashes[i], random.choice(64, 1 + i % 5, replace=False)) for i in range(40)]
    crowd = [flipped(hashes[0], [bit]) for bit in range(0, 64, 3)]
    hashes = random.permutation(np.unique(np.concatenate([hashes, near, crowd]).astype(np.uint64)))
    for groups in (np.arange(len(hashes)), np.arange(len(hashes)) % 2):
        pairs, is_cut = near_duplicates.close_pairs(hashes, groups, limit=10_000)
        assert {tuple(pair) for pair in pairs.tolist()} == slow_pairs(hashes, groups)
        assert not is_cut
    pairs, is_cut = near_duplicates.close_pairs(hashes, np.arange(len(hashes)), limit=7)
    assert is_cut
    assert len(pairs) == 7


def test_copies_are_pairs_with_the_first_of_each_close_hash():
    hashes = np.array([5, 2**63, 5, 5, 2**63 + 2], np.uint64)  # the second is close to all, the last to it alone
    pairs, _ = near_duplicates.close_pairs(hashes, np.arange(5), limit=100)
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [1, 4]]
    assert near_duplicates.close_pairs(hashes[:0], np.arange(0), limit=1)[0].shape == (0, 2)


def test_equal_and_near_images_of_other_groups_are_pairs_whoever_is_first():
    pairs, is_cut = near_duplicates.close_pairs(np.array([5, 5, 7], np.uint64), np.array([0, 1, 0]), limit=100)
    assert (pairs.tolist(), is_cut) == ([[0, 1], [1, 2]], False)
    pairs, _ = near_duplicates.close_pairs(np.array([5, 5, 5, 7], np.uint64), np.array([0, 0, 1, 1]), limit=100)
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize("num_groups", [2, 3])
def test_every_image_with_a_close_one_in_another_group_is_in_a_pair(num_groups):
    random = np.random.default_rng(num_groups)
    for _ in range(30):
        centers = random.integers(0, 2**64, 8, dtype=np.uint64)
        pool = [flipped(center, random.choice(64, flips, replace=False)) for center in centers for flips in (0, 2, 2)]
        hashes = random.choice(np.array(pool, np.uint64), 30)
        groups = random.integers(0, num_groups, 30)
        pairs, is_cut = near_duplicates.close_pairs(hashes, groups, limit=10_000)
        found, wanted = {tuple(pair) for pair in pairs.tolist()}, slow_pairs(hashes, groups)
        assert found <= wanted
        assert {image for pair in found for image in pair} == {image for pair in wanted for image in pair}
        assert [list(pair) for pair in sorted(found)] == pairs.tolist()
        assert not is_cut


def test_copies_are_cut_at_the_limit():
    hashes, groups = np.full(1000, 7, np.uint64), np.arange(1000) % 2
    pairs, is_cut = near_duplicates.close_pairs(hashes, groups, limit=100)
    assert (len(pairs), is_cut) == (100, True)
    assert near_duplicates.close_pairs(hashes, groups, limit=999)[1] is False
    assert near_duplicates.close_pairs(hashes, groups, limit=998)[1] is True


def test_a_face_encoded_again_or_brighter_keeps_its_hash_and_others_have_another():
    faces = [synthetic.render_face(identity, 0, seed=0) for identity in range(60)]
    values = [near_duplicates.frequencies(face) for face in faces]
    thresholds = np.median(values, axis=0)
    hashes = np.array([near_duplicates.hash_of(one, thresholds) for one in values])
    again = [records.decode_image(records.encode_image(face, quality=75)) for face in faces]
    brighter = [np.clip(face.astype(int) + 10, 0, 255).astype(np.uint8) for face in faces]
    for others in (again, brighter):
        other = np.array([near_duplicates.hash_of(near_duplicates.frequencies(face), thresholds) for face in others])
        flips = np.bitwise_count(hashes ^ other)
        assert flips.mean() < 1
        assert (flips <= near_duplicates.RADIUS).mean() > 0.9
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])[~np.eye(60, dtype=bool)]
    assert apart.min() > near_duplicates.RADIUS
    assert apart.mean() == pytest.approx(32, abs=2)  # as of random bits
