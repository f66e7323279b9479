"""The trivial controls, by numbers."""

import pytest
import torch

from sftgan.baselines import CONTROLS, controls
from sftgan.training import Examples


@pytest.fixture
def examples():
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0] = 1.0  # a red pixel: grey 0.299
    images[0, 1, 0, 1] = 1.0  # a green one: 0.587
    conditions = torch.zeros(2, 3, 2, 2)
    conditions[0, -1] = torch.tensor([[0.2, 0.4], [0.6, 0.6]])
    conditions[:, 0] = 0.9
    conditions[0, 0, 0, 0] = 0.0  # not the last CGMA: of no influence
    test = Examples(images, conditions, torch.full((2, 2, 2), 0.5))
    targets = torch.stack([torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    return test, Examples(images, conditions, targets)


def test_values(examples):
    maps = controls(*examples)
    assert tuple(maps) == CONTROLS
    assert torch.equal(maps["all ones"], torch.ones(2, 2, 2))
    torch.testing.assert_close(maps["luminance"][0], torch.tensor([[0.299 / 0.587, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(maps["last CGMA"][0], torch.tensor([[0.0, 0.5], [1.0, 1.0]]))
    for one in maps["mean map"]:
        assert torch.equal(one, torch.tensor([[0.5, 1.0], [0.25, 0.0]]))


def test_flat_images_and_conditions_give_zeros_not_nan(examples):
    maps = controls(*examples)
    assert torch.equal(maps["luminance"][1], torch.zeros(2, 2))
    assert torch.equal(maps["last CGMA"][1], torch.zeros(2, 2))


def test_the_targets_of_the_test_examples_have_no_influence(examples):
    test, train = examples
    other = Examples(test.images, test.conditions, 1 - test.targets**2)
    for name, maps in controls(test, train).items():
        assert torch.equal(maps, controls(other, train)[name])
