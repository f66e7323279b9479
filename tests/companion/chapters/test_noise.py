"""Salt and pepper: exactly as much as asked for, half each way."""

import pytest
import torch

from sftgan.companion.chapters.noise import salt_and_pepper
from sftgan.errors import InputError

GREY = torch.full((3, 3, 10, 11), 0.5)


@pytest.mark.parametrize(
    "density, salt, pepper", [(0, 0, 0), (0.01, 1, 0), (0.05, 3, 3), (0.5, 28, 27), (1, 55, 55)]
)
def test_exactly_that_share_of_the_pixels_half_of_them_each_way(density, salt, pepper):
    noisy = salt_and_pepper(GREY, density)
    for image in noisy:
        assert (image == 1).all(0).sum() == salt and (image == 0).all(0).sum() == pepper
        assert (image == 0.5).all(0).sum() == 110 - salt - pepper, "all channels of a pixel or none"


def test_images_get_different_noise_and_the_seed_decides():
    noisy = salt_and_pepper(GREY, 0.3, seed=4)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(noisy, salt_and_pepper(GREY, 0.3, seed=4))
    assert not torch.equal(noisy, salt_and_pepper(GREY, 0.3, seed=5))
    assert (GREY == 0.5).all(), "the images given are left alone"


def test_an_image_gets_the_same_noise_alone_as_among_others():
    assert torch.equal(salt_and_pepper(GREY[:1], 0.3), salt_and_pepper(GREY, 0.3)[:1])


def test_more_noise_contains_less_noise():
    low, high = (salt_and_pepper(GREY, density) for density in (0.1, 0.4))
    changed = low != 0.5
    assert torch.equal(low[changed], high[changed])


@pytest.mark.parametrize("density", [-0.1, 1.01, "0.5", None, True, float("nan")])
def test_a_density_outside_0_to_1_is_refused(density):
    with pytest.raises(InputError, match="the noise density is .*: give the share of pixels, from 0 to 1"):
        salt_and_pepper(GREY, density)
