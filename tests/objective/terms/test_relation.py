import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective.terms import relation
from tests.objective.terms.toy import close, compiled, in_double, make, value_and_slopes, value_of


def maps(*images):
    """Maps [b, 1, positions, channels] from matrices whose rows are channels."""
    return np.asarray(images, float).transpose(0, 2, 1)[:, None]


TEACHER = maps([[1, 0], [0, 2]], [[1, 1], [1, 0]])
STUDENT = maps([[1, 1], [0, 1]], [[0, 1], [1, 0]])
ALIKE = [[1, 0], [1, 1]]


@in_double
def test_published_values():
    value, (slope, of_teacher, _) = value_and_slopes(make("cross_relation"), STUDENT, TEACHER, ALIKE, labels=[3, 3])
    # The relation of i' to i is the transposed one of i to i', so both images have the value of the source's one.
    close(value, 0.3735477, digits=7)
    close(slope[0, 0].T.ravel(), (-0.022043, 0.279789, -0.246724, -0.257746))
    assert not of_teacher.any()
    high = relation._positions(jnp.asarray(TEACHER))
    close(relation._relation(high[:1], high[1:]), [[0.258199, 0.258199, 0.516398, 0]])
    close(value_of(make("hkd"), [[2, 1, 0]], [[1, 3, 0]]), 0.8811785, digits=7)
    close(value_of(make("attention_transfer"), STUDENT[:1], TEACHER[:1]), 0.0238129, digits=7)
    close(value_of(make("cosine", over="mean"), STUDENT[:1], TEACHER[:1]), 0.2254033, digits=7)


def by_loops(student, teacher, embedding, labels, size):
    def unit(x):
        x = x.reshape(-1, x.shape[-1])
        return x / np.linalg.norm(x)

    def apart(x, y):
        return 1 - np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)

    total = 0
    for i in range(len(student)):
        first = i // size * size
        ahead = [first + (i - first + step) % size for step in range(1, size)]
        mates = [j for j in ahead if labels[j] == labels[i] and embedding[i] @ embedding[j] > 0]
        j = mates[0] if mates else i
        low, low_partner, high, high_partner = (unit(x) for x in (student[i], student[j], teacher[i], teacher[j]))
        wanted = high @ high_partner.T
        total += (apart(wanted, high @ low_partner.T) + apart(wanted, low @ high_partner.T)) / 2
        total += apart(wanted, low @ low_partner.T)
    return total / len(student)


@in_double
@pytest.mark.parametrize("size", [1, 2, 3])
def test_cross_relation_equals_the_loops(size):
    """The partner is the next image with a cosine above 0, of the same identity, or the image itself."""
    rng = np.random.default_rng(size)
    student, teacher = rng.normal(size=(2, 12, 2, 3, 4))
    embedding, labels = rng.normal(size=(12, 3)), np.repeat(np.arange(12 // size), size)
    labels[0] = 77
    expected = by_loops(student, teacher, embedding, labels, size)
    term = make("cross_relation", images_per_identity=size)
    close(value_of(term, student, teacher, embedding, labels=labels), expected, digits=10)


@in_double
def test_an_image_without_a_partner_stands_for_itself():
    chosen = relation._partners(jnp.asarray([[1.0, 0], [-1, 0], [1, 0], [1, 0]]), jnp.asarray([1, 1, 2, 2]), 2)
    close(chosen, [[[1, 0], [0, 1]], [[0, 1], [1, 0]]])


@in_double
def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    for name, given in (
        ("cross_relation", (TEACHER, TEACHER, ALIKE)),
        ("hkd", (ALIKE, ALIKE)),
        ("attention_transfer", (TEACHER, TEACHER)),
    ):
        value, slopes = value_and_slopes(make(name), *given)
        close(value, 0, digits=12)
        assert all(np.abs(slope).max() < 1e-12 for slope in slopes)


@in_double
def test_only_the_student_has_a_gradient():
    assert value_and_slopes(make("hkd"), [[2, 1, 0]], [[1, 3, 0]])[1][0].any()
    assert not value_and_slopes(make("hkd"), [[2, 1, 0]], [[1, 3, 0]])[1][1].any()
    assert value_and_slopes(make("attention_transfer"), STUDENT, TEACHER)[1][0].any()
    assert not value_and_slopes(make("attention_transfer"), STUDENT, TEACHER)[1][1].any()


@pytest.mark.parametrize("name", ["cross_relation", "attention_transfer"])
def test_gradients_of_empty_maps_are_finite(name):
    empty, labels = jnp.zeros((4, 2, 2, 3)), (jnp.asarray([0, 0, 1, 1]),) * 3
    more = (jnp.zeros((4, 5)),) if name == "cross_relation" else ()
    value, slopes = compiled(make(name), (empty, empty, *more), labels[: 2 + len(more)], {})
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


@in_double
def test_refuses():
    with pytest.raises(ValueError, match="images_per_identity=0 must be above 0"):
        make("cross_relation", images_per_identity=0)
    with pytest.raises(ValueError, match="a batch of 2 is not made of identities with images_per_identity=3"):
        value_of(make("cross_relation", images_per_identity=3), STUDENT, TEACHER, ALIKE)
    with pytest.raises(ValueError, match="temperature=0 must be above 0"):
        make("hkd", temperature=0)
