"""Expensive maps: what RISE's masks are, and that each teacher finds the pixel that a known model looks at."""

import pytest
import torch
from torch import nn

from sftgan import InputError
from sftgan.companion.study.methods import CELLS, KEPT, TEACHERS, rise_masks, teacher_maps


class LooksAt(nn.Module):
    """The logit of class 1 is eight times the mean of a 4 x 4 patch; class 0 has a constant logit."""

    def __init__(self, top=4, left=8):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        nn.init.constant_(self.conv.weight, 1 / 3)
        nn.init.zeros_(self.conv.bias)
        self.patch = slice(top, top + 4), slice(left, left + 4)

    def forward(self, images):
        seen = self.conv(images).relu()[:, 0]
        seen = seen[:, *self.patch].mean((1, 2))
        return torch.stack([torch.full_like(seen, 0.1), 8 * seen], 1)


@pytest.mark.parametrize("shape", [(32, 32), (20, 33)])
def test_masks_are_soft_random_and_half_open(shape):
    torch.manual_seed(0)
    masks = torch.cat([rise_masks(64, *shape) for _ in range(8)])
    assert masks.shape == (512, *shape) and masks.min() >= 0 and masks.max() <= 1
    assert abs(masks.mean().item() - KEPT) < 0.02
    assert masks.mean(0).sub(KEPT).abs().max() < 0.15, "no place is favoured"
    assert len(masks.unique(dim=0)) == 512
    cell = -(-shape[1] // CELLS)
    assert (masks.diff(dim=2).abs() <= 1 / cell + 1e-6).all(), "bilinear: a cell wide from 0 to 1"


@pytest.mark.parametrize(("name", "samples"), [("SmoothGrad", 8), ("RISE", 1500), ("input gradient", None)])
def test_the_patch_that_decides_is_found(name, samples):
    model = LooksAt()
    patch = torch.zeros(16, 16, dtype=torch.bool)
    patch[model.patch] = True
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.5), name, samples)
    assert found.shape == (16, 16) and found.min() == 0 and found.max() == 1
    assert found[patch].min() > found[~patch].max() or (name == "RISE" and found[patch].mean() > 0.8)
    assert patch.flatten()[found.flatten().argmax()]


def test_smoothgrad_of_a_linear_patch_is_exact():
    model = LooksAt()
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.9), "SmoothGrad", 2)
    expected = torch.zeros(16, 16)
    expected[model.patch] = 1
    assert torch.equal(found, expected)


class Weighted(nn.Module):
    """The logit of class 1 weighs the left half of 16 x 16 pixels by 2, the right half by 1, and one pixel by 500."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        self.weights = torch.ones(16, 16)
        self.weights[:, :8] = 2
        self.weights[3, 12] = 500

    def forward(self, images):
        seen = (self.conv(images)[:, 0] * 0 + images.mean(1) * self.weights).mean((1, 2))
        return torch.stack([seen * 0, seen], 1)


def test_one_outlying_pixel_does_not_take_up_the_scale_of_smoothgrad():
    model = Weighted()
    (found,) = teacher_maps(model, model.conv, torch.full((1, 3, 16, 16), 0.5), "SmoothGrad", 2)
    assert (found[:, :8] == 1).all() and found[3, 12] == 1
    assert found[:, 8:].sum() == 1


def test_more_masks_agree_better_and_seeds_draw_other_ones():
    model, images = LooksAt(), torch.full((2, 3, 16, 16), 0.5)
    few, again, other = (teacher_maps(model, model.conv, images, "RISE", 20, seed) for seed in (0, 0, 1))
    assert torch.equal(few, again) and not torch.equal(few, other)
    assert not torch.equal(few[0], few[1]), "each image has masks of its own"
    many, other_many = (teacher_maps(model, model.conv, images, "RISE", 400, seed) for seed in (0, 1))
    assert (many - other_many).abs().mean() < 0.5 * (few - other).abs().mean()


def test_the_models_mode_and_the_random_state_are_left_alone():
    model, before = LooksAt().train(), torch.get_rng_state()
    teacher_maps(model, model.conv, torch.rand(1, 3, 16, 16, generator=torch.Generator()), "RISE", 2)
    assert model.training and torch.equal(torch.get_rng_state(), before)


def test_bad_requests_are_refused():
    model, images = LooksAt(), torch.rand(1, 3, 16, 16)
    with pytest.raises(InputError, match="did you mean 'RISE'"):
        teacher_maps(model, model.conv, images, "RISSE", 4)
    for samples in (None, 0):
        with pytest.raises(InputError, match="whole number of at least 1"):
            teacher_maps(model, model.conv, images, "SmoothGrad", samples)
    assert TEACHERS == ("SmoothGrad", "RISE", "Score-CAM")
