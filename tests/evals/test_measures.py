from lrfr_jax.evals.measures import in_full


def test_rates_are_written_in_full():
    assert [in_full(rate) for rate in (1.0, 0.3, 0.0001, 1e-6)] == ["1", "0.3", "0.0001", "0.000001"]
