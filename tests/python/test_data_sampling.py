"""Language sampling and the plan of a run."""

import numpy as np
import pytest

from lrengine.data.sampling import length_grouped_order, mixture, plan_run, task_probabilities


def test_the_exponent_flattens_as_published():
    sizes = [1000, 10]
    assert task_probabilities(sizes, 1.0) == pytest.approx([1000 / 1010, 10 / 1010])
    assert task_probabilities(sizes, 0.0) == pytest.approx([0.5, 0.5])
    big, small = (1000 / 1010) ** 0.3, (10 / 1010) ** 0.3
    assert task_probabilities(sizes, 0.3) == pytest.approx([big / (big + small), small / (big + small)])


def test_objectives_take_their_shares_and_languages_split_them():
    sizes = {"ug": 100, "bo": 100, "zh-ug": 5000}
    objectives = {"ug": "denoising", "bo": "denoising", "zh-ug": "translation"}
    assert mixture(sizes, objectives, 0.3, {}) == pytest.approx({"ug": 0.25, "bo": 0.25, "zh-ug": 0.5})
    chosen = mixture(sizes, objectives, 0.3, {"denoising": 1, "translation": 3})
    assert chosen == pytest.approx({"ug": 0.125, "bo": 0.125, "zh-ug": 0.75})


def test_drawn_shares_follow_the_probabilities():
    probabilities = task_probabilities([900, 90, 10], 0.3)
    tasks, _ = plan_run([900, 90, 10], list(probabilities), 60_000, seed=3)
    assert np.bincount(tasks) / 60_000 == pytest.approx(probabilities, abs=0.006)


def test_no_example_comes_twice_before_all_of_its_task_came():
    tasks, examples = plan_run([7, 3], [0.5, 0.5], 400, seed=1)
    for task, size in ((0, 7), (1, 3)):
        drawn = examples[tasks == task]
        for start in range(0, len(drawn) - size, size):
            assert sorted(drawn[start : start + size]) == list(range(size))
    first, second = (tuple(examples[tasks == 0][start : start + 7]) for start in (0, 7))
    assert first != second, "every pass has its own order"


def test_the_plan_depends_on_nothing_but_its_arguments():
    again = [plan_run([7, 3], [0.6, 0.4], 100, seed=5) for _ in range(2)]
    assert all((a == b).all() for a, b in zip(*again, strict=True))
    other = plan_run([7, 3], [0.6, 0.4], 100, seed=6)
    assert (again[0][1] != other[1]).any()


def test_length_groups_hold_each_entry_once_and_save_padding():
    lengths = np.random.default_rng(0).integers(1, 200, size=1003)
    order = length_grouped_order(lengths, 16, seed=0)
    assert sorted(order) == list(range(1003))

    def padded(indices):
        return sum(len(batch) * lengths[batch].max() for batch in np.array_split(indices, range(16, 1003, 16)))

    assert padded(order) < 0.65 * padded(np.arange(1003))


def test_a_task_without_examples_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        task_probabilities([3, 0], 0.3)
