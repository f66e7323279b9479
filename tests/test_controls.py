"""The trivial controls, by numbers."""

import pytest
import torch

from sftgan.controls import CONTROLS, controls, linear_fit, linear_map, luminance
from sftgan.gan.examples import Examples, ExplainedImages


def explained_of(images, conditions, targets, predictions=None) -> ExplainedImages:
    n = len(images)
    classes = torch.zeros(n, dtype=torch.long) if predictions is None else torch.tensor(predictions)
    shown = Examples(images, conditions, targets)
    return ExplainedImages(
        shown, classes, classes, None, None, torch.zeros(3), torch.full_like(targets, 0.25)
    )


@pytest.fixture
def pair():
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0] = 1.0  # a red pixel: grey 0.299
    images[0, 1, 0, 1] = 1.0  # a green one: 0.587
    conditions = torch.zeros(2, 3, 2, 2)
    conditions[0, -1] = torch.tensor([[0.2, 0.4], [0.6, 0.6]])
    conditions[:, 0] = 0.9
    conditions[0, 0, 0, 0] = 0.0  # not the last CGMA: of no influence
    targets = torch.stack([torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])
    return explained_of(images, conditions, torch.full((2, 2, 2), 0.5)), explained_of(
        images, conditions, targets
    )


def test_values(pair):
    maps = controls(*pair, linear_fit([pair[1].examples]))
    assert tuple(maps) == CONTROLS
    assert torch.equal(maps["all ones"], torch.ones(2, 2, 2))
    torch.testing.assert_close(maps["luminance"][0], torch.tensor([[0.299 / 0.587, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(maps["last CGMA"][0], torch.tensor([[0.0, 0.5], [1.0, 1.0]]))
    torch.testing.assert_close(maps["mean of CGMAs"][0], torch.tensor([[0.0, 11 / 13], [1.0, 1.0]]))
    assert torch.equal(maps["mean activation"], torch.full((2, 2, 2), 0.25))
    for one in maps["mean map"]:
        assert torch.equal(one, torch.tensor([[0.5, 1.0], [0.25, 0.0]]))
    assert "linear" not in controls(*pair)


def test_flat_images_and_conditions_give_zeros_not_nan(pair):
    maps = controls(*pair)
    assert torch.equal(maps["luminance"][1], torch.zeros(2, 2))
    assert torch.equal(maps["last CGMA"][1], torch.zeros(2, 2))


def test_the_targets_of_the_test_examples_have_no_influence(pair):
    """But for the class mean map, which is an oracle."""
    test, train = pair
    shown, fit = test.examples, linear_fit([train.examples])
    other = explained_of(shown.images, shown.conditions, 1 - shown.targets**2)
    for name, maps in controls(test, train, fit).items():
        assert torch.equal(maps, controls(other, train, fit)[name]) == (name != "class mean map")


def test_the_class_mean_leaves_the_image_itself_out():
    targets = torch.tensor([0.0, 0.2, 0.4, 0.9])[:, None, None].expand(4, 2, 2).clone()
    images, conditions = torch.zeros(4, 3, 2, 2), torch.zeros(4, 1, 2, 2)
    test = explained_of(images, conditions, targets, predictions=[7, 7, 7, 3])
    train = explained_of(images, conditions, torch.full((4, 2, 2), 0.6))
    means = controls(test, train)["class mean map"][:, 0, 0]
    torch.testing.assert_close(means, torch.tensor([0.3, 0.2, 0.1, 0.6]))  # the last has no company


def test_the_linear_fit_finds_what_made_the_target():
    rng = torch.Generator().manual_seed(0)
    images, conditions = torch.rand(6, 3, 4, 4, generator=rng), torch.rand(6, 2, 4, 4, generator=rng)
    targets = 0.1 + 0.3 * conditions[:, 1] + 0.2 * images[:, 2]
    made = Examples(images, conditions, targets)
    coefficients = linear_fit([made.subset(torch.arange(3)), made.subset(torch.arange(3, 6))])
    expected = torch.tensor([0.0, 0.3, 0.0, 0.0, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(coefficients, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(linear_map(coefficients, made), targets)
    assert linear_map(10 * coefficients, made).max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_luminance_keeps_the_type_of_the_images(dtype):
    red_and_green = torch.eye(3, dtype=dtype)[None, :, None, :2]
    assert luminance(red_and_green).tolist() == [[[0.0, 1.0]]] and luminance(red_and_green).dtype == dtype
