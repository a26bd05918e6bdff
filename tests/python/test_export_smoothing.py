"""Scales between activations and weights: exact in floats, even columns, one vector for all that read a tensor."""

from __future__ import annotations

import numpy as np

from lrengine.export.products import _quantize_blocks
from lrengine.export.smoothing import Product, RecordedProducts, smoothing_scales

RANDOM = np.random.default_rng(3)


def scales(written: dict[str, list[Product]], largest: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    names = {each.weight for products in written.values() for each in products}
    recorded = RecordedProducts(written, {name: np.ones(3) for name in names})
    return smoothing_scales(recorded, largest)


def test_columns_of_inputs_and_weights_get_the_same_range() -> None:
    recorded = RecordedProducts({"graph": [Product("x", "w", 3)]}, {"w": np.array([2.0, 1.0, 4.0])})
    found = smoothing_scales(recorded, {"graph": [np.array([200.0, 1.0, 9.0])]})["w"]
    shares = np.array([200.0, 1.0, 9.0]) / found / (np.array([2.0, 1.0, 4.0]) * found)
    np.testing.assert_allclose(shares, shares[0], rtol=1e-5)
    assert found.dtype == np.float32


def test_weights_that_read_one_tensor_in_any_graph_share_their_scales() -> None:
    written = {
        "encoder": [Product("x", "q", 3), Product("x", "k", 3), Product("y", "out", 3)],
        "decoder": [Product("a", "k", 3), Product("a", "v", 3)],
    }
    rows = [np.array([1.0, 4.0, 9.0]), np.array([1.0, 1.0, 1.0]), np.array([16.0, 1.0, 1.0])]
    found = scales(written, {"encoder": [rows[0], rows[0], rows[1]], "decoder": [rows[2], rows[2]]})
    np.testing.assert_array_equal(found["q"], found["k"])
    np.testing.assert_array_equal(found["q"], found["v"])
    np.testing.assert_allclose(found["q"] / found["q"][1], [2.0, 1.0, 1.5])  # of 16, 4, 9: the largest of both graphs
    np.testing.assert_allclose(found["out"], 1.0)


def test_columns_that_nothing_was_seen_in_stay_finite() -> None:
    found = scales({"graph": [Product("x", "w", 3)]}, {"graph": [np.array([0.0, 0.0, 5.0])]})["w"]
    assert np.isfinite(found).all() and (found > 0).all()
    np.testing.assert_allclose(scales({"graph": [Product("x", "w", 3)]}, {"graph": [np.zeros(3)]})["w"], 1.0)


def test_blocks_hold_zero_and_their_extremes() -> None:
    values = RANDOM.standard_normal((5, 4, 16)).astype(np.float32)
    values[0, 0] = 0
    values[1, 1] = np.abs(values[1, 1]) + 1
    levels, steps, zeros = _quantize_blocks(values)
    again = (levels.astype(np.float32) - zeros[..., None]) * steps[..., None]
    assert (np.abs(again - values).max(-1) <= steps * 1.001).all()
    assert (again[0, 0] == 0).all() and zeros[1, 1] == 0
    assert levels.dtype == zeros.dtype == np.uint8
