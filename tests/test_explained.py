import pytest
import torch

from sftgan.explained import resized_masks


def test_a_mask_of_solid_parts_keeps_what_is_more_than_half_covered():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:6, 2:6] = True
    assert torch.equal(resized_masks(mask, 4)[0].nonzero(), torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]]))
    assert torch.equal(resized_masks(mask, 8), mask)


@pytest.mark.parametrize("size", [32, 24, 16])
def test_a_stroke_thinner_than_a_pixel_stays(size):
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, 31, 8:56] = True
    small = resized_masks(mask, size)
    rows = small[0].any(1).nonzero()[:, 0]
    assert len(rows) in (1, 2) and (rows - 31 * size / 64).abs().max() <= 1
    assert small[0].any(0).float().mean().item() == pytest.approx(48 / 64, abs=2 / size)
    assert not small[1].any()
