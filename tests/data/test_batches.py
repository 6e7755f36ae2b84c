"""Orders of records: who is in a batch, from position, set and seed alone."""

import collections
import dataclasses

import grain
import numpy as np
import pytest

from lrfr_jax.data import batches, face_sets, labels
from lrfr_jax.errors import UserError


class Labels(face_sets.RecordSource):
    """Records that hold a label and nothing else."""

    def __init__(self, of_records):
        self._of_records = of_records

    def __len__(self):
        return len(self._of_records)

    def labels(self, indices):
        return [self._of_records[index] for index in indices]


def made_up(counts, *, seed=0):
    """A set with so many images of each identity, its records in any order."""
    of_records = np.repeat(np.arange(len(counts)), counts)
    of_records = np.random.default_rng(seed).permutation(of_records).tolist()
    return face_sets.TrainingSet(Labels(of_records), len(of_records), len(counts), "")


def source(training_set, *, order="identities", batch_size=12, images=3, seed=5, group="config.input"):
    return batches.make_source(
        training_set,
        order=order,
        batch_size=batch_size,
        images_per_identity=images,
        seed=seed,
        num_threads=2,
        group=group,
    )


def drawn(training_set, *, images=3, groups, first=0, **changes):
    """Record numbers [groups, images] and the identity of each group."""
    positions = np.arange(first * images, (first + groups) * images)
    numbers = source(training_set, images=images, **changes).order(positions).reshape(groups, images)
    of_records = np.asarray(training_set.source.labels(range(training_set.num_images)))
    who = of_records[numbers]
    assert (who == who[:, :1]).all()  # side by side
    return numbers, who[:, 0]


UNEVEN = [1, 2, 3, 5, 7, 9, 4, 12, 1, 6, 3]


def test_shuffled_has_the_numbers_of_all_earlier_runs():
    found = source(made_up([4, 5, 2]), order="shuffled", images=1, seed=3).order(np.arange(40))
    wanted = grain.MapDataset.range(11).seed(3).shuffle().repeat(reseed_each_epoch=True)
    assert found.tolist() == [int(wanted[position]) for position in range(40)]
    assert found[:11].tolist() == [4, 6, 9, 7, 5, 3, 1, 8, 10, 0, 2]


@pytest.mark.parametrize("images", [1, 2, 3, 4])
@pytest.mark.parametrize(("together", "num"), [(2, 11), (3, 11), (4, 11), (5, 11), (2, 3), (3, 5), (5, 9), (6, 11)])
def test_every_identity_once_a_pass_and_no_batch_has_one_twice(images, together, num):
    """Down to 2P - 1 identities, where an exchange may need the whole middle of a pass."""
    _, who = drawn(made_up(UNEVEN[:num]), groups=num * 60, images=images, batch_size=images * together)
    passes = who.reshape(60, num)
    assert (np.sort(passes) == np.arange(num)).all()
    assert len({tuple(one) for one in passes.tolist()}) > min(60, num) / 2
    whole = who[: len(who) // together * together].reshape(-1, together)
    assert all(len(set(batch)) == together for batch in whole.tolist())


def test_an_identity_may_be_twice_in_a_batch_that_most_of_the_set_fills():
    _, who = drawn(made_up([3] * 5), groups=5 * 60, images=1, batch_size=4)
    assert (np.sort(who.reshape(60, 5)) == np.arange(5)).all()
    assert 0 < sum(len(set(batch)) < 4 for batch in who.reshape(-1, 4).tolist()) < 75


def test_passes_start_with_every_identity_alike():
    """The exchange prefers nobody: 11 identities at the head of 1,000 passes, each 91 times give or take 9."""
    _, who = drawn(made_up(UNEVEN), groups=11 * 1000, images=1, batch_size=5)
    heads = np.bincount(who.reshape(1000, 11)[:, 0], minlength=11)
    assert abs(heads - 1000 / 11).max() < 5 * 9


def test_a_cycle_shows_every_image_at_most_once_and_leaves_out_the_rest_of_a_group_anew():
    training_set, images, cycles = made_up(UNEVEN), 3, 40
    numbers, who = drawn(training_set, groups=len(UNEVEN) * 4 * cycles)
    for identity, count in enumerate(UNEVEN):
        shown = numbers[who == identity]
        if count < images:
            assert all(len(set(group)) == count for group in shown.tolist())  # all of them, the first ones again
            assert all(max(collections.Counter(group).values()) <= -(-images // count) for group in shown.tolist())
            continue
        length = count // images
        whole = shown[: len(shown) // length * length].reshape(-1, length * images)
        assert all(len(set(cycle)) == length * images for cycle in whole.tolist())
        assert (len({frozenset(cycle) for cycle in whole.tolist()}) > 1) == (count % images > 0)
        assert len({tuple(cycle) for cycle in whole.tolist()}) > 1
        counts = np.unique(shown, return_counts=True)[1]
        assert len(counts) == count
        assert counts.min() > 0.6 * counts.mean()


def test_any_position_alone_is_what_it_is_among_others():
    training_set = made_up(UNEVEN)
    order = source(training_set).order
    whole = order(np.arange(600))
    assert [int(order(np.asarray([position]))[0]) for position in range(0, 600, 7)] == whole[::7].tolist()
    far = 10**12
    np.testing.assert_array_equal(order(np.arange(far, far + 50))[7:], order(np.arange(far + 7, far + 50)))
    fresh = source(training_set).order  # nothing asked before
    np.testing.assert_array_equal(fresh(np.arange(437, 600)), whole[437:])


NUMBERS = [8, 1, 4, 0, 5, 5, 9, 7, 5, 5, 7, 9, 6, 3, 2, 0]


def test_numbers_are_the_same_on_every_machine():
    """What a run of today drew, a run that continues it in years draws too."""
    training_set = made_up([2, 3, 1, 4])
    assert source(training_set, batch_size=4, images=2).order(np.arange(16)).tolist() == NUMBERS
    assert int(batches._mixed(0)[0]) == 0xE220A8397B1DCDAF  # the first number of SplitMix64 with the seed 0


def test_seeds_differ():
    training_set = made_up(UNEVEN)
    one, other = (source(training_set, seed=seed).order(np.arange(200)).tolist() for seed in (5, 6))
    assert one != other
    folded = {batches.folded(seed, number) for seed in range(50) for number in range(1, 3)}
    assert len(folded) == 100
    assert all(0 <= seed < 2**32 for seed in folded)


def test_labels_without_images_are_no_identities():
    training_set = made_up([3, 0, 0, 4, 2, 0, 2, 5])
    _, who = drawn(training_set, groups=15, images=2, batch_size=4)
    assert (np.sort(who.reshape(3, 5)) == [0, 3, 4, 6, 7]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"order": "sorted"}, r"config\.input\.order='sorted' is unknown: choose one of shuffled, identities"),
        ({"images": 0}, r"config\.input\.images_per_identity=0 must be at least 1"),
        ({"images": 5}, r"config\.input\.images_per_identity=5 does not divide the batch of 12 images"),
        ({"order": "shuffled"}, r"config\.input\.images_per_identity=3 needs config\.input\.order=identities"),
        ({"images": 1}, "images_per_identity=1 puts 12 identities into the batch of 12 images, and the set has 11"),
        (
            {"images": 5, "group": "config.input.second"},
            r"config\.input\.second\.images_per_identity=5 does not divide the batch of 12",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        source(made_up(UNEVEN), **changes)


def test_several_images_of_nobody_are_a_sentence():
    with pytest.raises(UserError, match=r"images_per_identity=3, and no identity of the set has two images: set it to"):
        source(made_up([1] * 9))
    assert source(made_up([1] * 9), images=1, batch_size=4)


def test_labels_lie_beside_the_shards_and_are_read_from_the_records_of_older_sets(generated_data, monkeypatch):
    training_set = face_sets.open_training_set(generated_data, "generated_train")
    wanted = [record["label"] for record in training_set.source]
    with monkeypatch.context() as patch:
        patch.setattr(face_sets.RecordSource, "labels", None)
        assert labels.read(training_set, num_threads=2).tolist() == wanted
    monkeypatch.setattr(labels, "CHUNK", 10)
    older = dataclasses.replace(training_set, path=None)
    for num_threads in (0, 1, 3):
        assert labels.read(older, num_threads=num_threads).tolist() == wanted


@pytest.mark.parametrize("content", [None, np.arange(48), np.zeros(47, np.int32), np.full(48, 6, np.int32)])
def test_a_damaged_file_of_labels_is_a_sentence(generated_data, tmp_path, content):
    training_set = dataclasses.replace(face_sets.open_training_set(generated_data, "generated_train"), path=tmp_path)
    path = tmp_path / "labels.npy"
    path.write_bytes(b"") if content is None else np.save(path, content)
    with pytest.raises(UserError, match=r"labels\.npy is .*: remove it, and the records are read instead"):
        labels.read(training_set, num_threads=1)


def test_a_damaged_record_is_named(generated_data):
    training_set = face_sets.open_training_set(generated_data, "generated_train")

    class Shards(list):
        pass

    stored = Shards(training_set.source._shards[number] for number in range(48))
    stored[17] = b"\xff\xff"
    Shards.__getitems__ = lambda self, indices: [self[index] for index in indices]
    damaged = dataclasses.replace(training_set, source=face_sets.RecordSource(stored, name="DIR"), path=None)
    with pytest.raises(UserError, match="record 17 of DIR is damaged"):
        labels.read(damaged, num_threads=1)
