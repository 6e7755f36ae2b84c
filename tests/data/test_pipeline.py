"""The k-th batch is a function of dataset, seed, batch size and k."""

import dataclasses
import itertools

import numpy as np
import pytest

from lrfr_jax.data import batches, face_sets, pipeline
from lrfr_jax.errors import UserError

READING = {"num_threads": 2, "prefetch_images": 8}


# How the 48 images of 6 identities are drawn, beside the usual order.
ORDERS = {"shuffled": {}, "identities": {"order": "identities", "images_per_identity": 2}}


def take(training_set, count, *, of=pipeline.training_batches, start_batch=0, **changes):
    which = {"batch_size": 10, "seed": 0, "order": "shuffled", "images_per_identity": 1}
    which |= {name: changes.pop(name) for name in which.keys() & changes.keys()}
    source = batches.make_source(training_set, **which, num_threads=1, group="config.input")
    reading = READING if of is pipeline.training_batches else {}
    share = {"process_index": 0, "process_count": 1} | changes
    return list(itertools.islice(of(source, start_batch=start_batch, **share, **reading), count))


def numbers(training_set, count, **changes):
    return [batch["record"] for batch in take(training_set, count, of=pipeline.training_numbers, **changes)]


def images_of(taken):
    return [image.tobytes() for batch in taken for image in batch["image"]]


@pytest.fixture(scope="module")
def training_set(generated_data):
    return face_sets.open_training_set(generated_data, "generated_train")


def test_batches_have_the_declared_form(training_set):
    (batch,) = take(training_set, 1)
    assert (batch["image"].shape, batch["image"].dtype) == ((10, 112, 112, 3), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((10,), np.int32)


@pytest.mark.parametrize("reading", [(0, 8), (4, 0), (4, 8), (1, 100)])
def test_threads_and_waiting_images_change_no_batch_and_bring_no_warning(training_set, monkeypatch, caplog, reading):
    wanted = images_of(take(training_set, 3, batch_size=30))  # in turns of 15
    monkeypatch.setattr(f"{__name__}.READING", dict(zip(READING, reading, strict=True)))
    assert images_of(take(training_set, 3, batch_size=30)) == wanted
    assert "prefetch_buffer_size" not in caplog.text


@pytest.mark.parametrize(("prefetch_images", "turn"), [(59, 15), (60, 30)])
def test_a_thread_reads_a_whole_batch_if_every_thread_can_have_one_waiting(
    training_set, monkeypatch, prefetch_images, turn
):
    sizes, read = set(), pipeline._read

    def noting(source, numbers):
        numbers = list(numbers)
        sizes.add(len(numbers))
        return read(source, numbers)

    monkeypatch.setattr(pipeline, "_read", noting)
    monkeypatch.setattr(f"{__name__}.READING", {"num_threads": 2, "prefetch_images": prefetch_images})
    take(training_set, 1, batch_size=30)
    assert sizes == {turn}


@pytest.mark.parametrize("reading", [(-1, 8), (2, -50)])
def test_less_than_no_thread_is_told(training_set, monkeypatch, reading):
    monkeypatch.setattr(f"{__name__}.READING", dict(zip(READING, reading, strict=True)))
    with pytest.raises(UserError, match=r"input\.num_threads and input\.prefetch_images must be at least 0"):
        take(training_set, 1)


def test_an_epoch_holds_every_image_once_and_the_next_is_shuffled_anew(training_set):
    images = images_of(take(training_set, 48, batch_size=2))
    first, second = images[:48], images[48:96]
    assert len(set(first)) == 48
    assert sorted(first) == sorted(second)
    assert first != second


def test_labels_stay_with_their_images(training_set):
    stored = {pipeline.records.decode_image(r["image"]).tobytes(): r["label"] for r in training_set.source}
    for batch in take(training_set, 3):
        for image, label in zip(batch["image"], batch["label"], strict=True):
            assert stored[image.tobytes()] == label


def test_same_seed_same_order_other_seed_other_order(training_set):
    assert images_of(take(training_set, 3)) == images_of(take(training_set, 3))
    assert images_of(take(training_set, 3)) != images_of(take(training_set, 3, seed=1))


@pytest.mark.parametrize("order", ORDERS)
def test_a_later_start_continues_across_epochs(training_set, order):
    # 7 batches of 10 cross the end of the 48 images twice.
    later = take(training_set, 7, start_batch=5, **ORDERS[order])
    assert images_of(take(training_set, 12, **ORDERS[order])[5:]) == images_of(later)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("process_count", [2, 5])
def test_shares_of_processes_join_to_the_same_batch(training_set, process_count, order):
    """Also where a share of 5 ends between the images of an identity."""
    whole = take(training_set, 6, **ORDERS[order])
    ones = [{"process_index": number, "process_count": process_count} for number in range(process_count)]
    shares = [take(training_set, 6, **one, **ORDERS[order]) for one in ones]
    for number, batch in enumerate(whole):
        for key in ("image", "label"):
            joined = np.concatenate([share[number][key] for share in shares])
            np.testing.assert_array_equal(joined, batch[key])


@pytest.mark.parametrize("process", [(0, 1), (1, 2), (4, 5)])
@pytest.mark.parametrize("start_batch", [0, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_numbers_are_those_of_the_images(training_set, order, start_batch, process):
    which = {"seed": 2, "start_batch": start_batch, "process_index": process[0], "process_count": process[1]}
    which |= ORDERS[order]
    # 7 batches of 10 cross the end of the 48 images.
    for drawn, batch in zip(numbers(training_set, 7, **which), take(training_set, 7, **which), strict=True):
        assert drawn.dtype == np.int32
        stored = [training_set.source[number] for number in drawn.tolist()]
        np.testing.assert_array_equal(batch["label"], [record["label"] for record in stored])
        np.testing.assert_array_equal(batch["image"], [pipeline.records.decode_image(r["image"]) for r in stored])


@pytest.mark.parametrize("batch_size", [7, 32, 48, 100])
def test_stored_batches_hold_every_image_once_in_order(training_set, batch_size):
    taken = list(pipeline.stored_batches(training_set, batch_size=batch_size, **READING))
    sizes = [len(batch["label"]) for batch in taken]
    assert sizes[:-1] == [batch_size] * (48 // batch_size - (48 % batch_size == 0))
    stored = [pipeline.records.decode_image(record["image"]).tobytes() for record in training_set.source]
    assert images_of(taken) == stored
    labels = np.concatenate([batch["label"] for batch in taken])
    np.testing.assert_array_equal(labels, [record["label"] for record in training_set.source])


@pytest.mark.parametrize("draw", [take, numbers])
def test_uneven_share_is_a_sentence(training_set, draw):
    with pytest.raises(UserError, match="over 3 processes"):
        draw(training_set, 1, process_count=3)


def test_damaged_record_is_a_sentence(training_set):
    class Damaged(face_sets.RecordSource):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"image": b"no image", "label": 3}

    with pytest.raises(UserError, match="label 3"):
        take(dataclasses.replace(training_set, source=Damaged([], name="damaged")), 1, batch_size=2)


def test_a_batch_of_identities_holds_each_with_its_images_side_by_side(training_set):
    for batch in take(training_set, 10, **ORDERS["identities"]):
        pairs = batch["label"].reshape(5, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert len(set(images_of([batch]))) == 10
