import pytest
import torch

from sftgan.stages import resized_masks


def test_a_mask_of_solid_parts_keeps_what_is_more_than_half_covered():
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, 16:40, 20:44] = True
    mask[1] = True
    small = resized_masks(mask, 32)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[8:20, 10:22] = True
    assert torch.equal(small[0], expected) and small[1].all()
    assert torch.equal(resized_masks(mask, 64), mask)


@pytest.mark.parametrize("size", [32, 24, 16])
def test_a_stroke_thinner_than_a_pixel_stays(size):
    """One upright, one slanted, whose pixels are covered unevenly; a blank mask stays blank."""
    mask = torch.zeros(3, 64, 64, dtype=torch.bool)
    mask[0, 31, 8:56] = True
    for row in range(8, 56):
        mask[1, row, 10 + row // 3] = True
    small = resized_masks(mask, size)
    rows = small[0].any(1).nonzero()[:, 0]
    assert len(rows) in (1, 2) and (rows - 31 * size / 64).abs().max() <= 1
    for line, along in ((small[0], 0), (small[1], 1)):
        covered = line.any(along).nonzero()[:, 0]
        assert len(covered) == covered[-1] - covered[0] + 1 == pytest.approx(48 * size / 64, abs=2)
    assert not small[2].any()
