"""The maps of the sample photos, compared with those recorded: notices a change, not a new CPU."""

import numpy as np
import pytest

from helpers import SAMPLES

from .record import RECORD, digest, explain


@pytest.fixture(scope="module")
def recorded():
    if not RECORD.exists():
        pytest.fail("nothing recorded yet: python -m tests.record")
    with np.load(RECORD) as file:
        record = dict(file)
    assert str(record["sha256"]) == digest(), (
        "the weights have changed: look at the maps, then python -m tests.record"
    )
    return record


@pytest.mark.parametrize("name", SAMPLES)
def test_maps_are_those_recorded(embedded, recorded, name):
    _, maps = explain(embedded, name, embedded.class_index(str(recorded[f"{name}/class"])))
    assert {f"{name}/{method}" for method in maps} | {f"{name}/class"} == {
        key for key in recorded if key.startswith(name)
    }
    for method, got in maps.items():
        want = recorded[f"{name}/{method}"]
        np.testing.assert_allclose(
            got, want, rtol=0, atol=0.05 * np.abs(want).max(), err_msg=method
        )
        assert np.abs(want).max() > 0 and np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.99, (
            method
        )
