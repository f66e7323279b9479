"""Each switch of a spec does what it says, and nothing else."""

from fractions import Fraction

import pytest
import torch

from sftgan import InputError, cgma
from sftgan.cams.conditions import ConditionSpec, from_jet, to_jet
from sftgan.cams.gradcam import minmax

CAMS = torch.rand(3, 13, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_papers_reading_is_cgma_and_the_last_layer():
    conditions, target = ConditionSpec().conditions_and_target(CAMS)
    assert torch.allclose(conditions, cgma(CAMS), atol=1e-12) and torch.equal(target, CAMS[:, -1])


def test_the_target_is_a_difference_of_the_last_two_conditions():
    """13 * CGMA_7 - 12 * CGMA_6, as the last two of VGG16's positions are 12 and 13."""
    conditions, target = ConditionSpec().conditions_and_target(CAMS)
    leaked = float(Fraction(13)) * conditions[:, 7] - 12 * conditions[:, 6]
    assert torch.allclose(leaked, target, atol=1e-12)


@pytest.mark.parametrize(
    "switch, expected",
    [
        ({"exclude_target": True}, cgma(CAMS[:, :-1])),
        ({"target": "first"}, cgma(CAMS)),
        ({"target": "first", "exclude_target": True}, cgma(CAMS[:, 1:])),
        ({"accumulate": "last_to_first"}, cgma(CAMS.flip(1))),
        ({"leave_out": 2}, cgma(CAMS)[:, :6]),
        ({"minmax_conditions": True}, minmax(cgma(CAMS))[0]),
        ({"cumulative": False}, CAMS[:, [0, 1, 3, 5, 7, 9, 11, 12]]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_switches_change_the_conditions(switch, expected):
    spec = ConditionSpec(**switch)
    conditions, target = spec.conditions_and_target(CAMS)
    assert torch.allclose(conditions, expected, atol=1e-12) and conditions.shape[1] == spec.channels
    assert torch.equal(target, CAMS[:, 0 if spec.target == "first" else -1])


def test_scaling_undoes_the_division():
    """A sum and its average differ by a factor, which min-max scaling takes out."""
    scaled = ConditionSpec(minmax_conditions=True).conditions_and_target(CAMS)[0]
    assert torch.allclose(scaled[:, -1], minmax(CAMS.sum(1))[0])


def test_a_jet_picture_is_read_back():
    """Up to a few neighbouring values that JET gives the same colour."""
    maps = torch.linspace(0, 1, 32 * 32).view(1, 32, 32)
    assert (from_jet(to_jet(maps)) - maps).abs().max() <= 2.5 / 255
    assert to_jet(maps).shape == (1, 3, 32, 32)
    blue, red = to_jet(torch.tensor([[[0.0, 1.0]]]))[0, :, 0].T
    assert blue.argmax() == 2 and red.argmax() == 0


def test_grey_of_jet_is_not_monotone():
    """So the hottest pixels of a condition look like its coldest: the released code's own trap."""
    ramp = torch.linspace(0, 1, 11).repeat_interleave(16)[None, None, None].expand(1, 8, 16, -1)
    grey = ConditionSpec(conditions="jet_grey").conditions_and_target(ramp)[0][0, 0, 8, 8::16]
    assert grey.argmax() == 6 and grey[-1] < 0.3 < 0.8 < grey[6]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="unknown target 'lst': did you mean 'last'"):
        ConditionSpec(target="lst")
    with pytest.raises(InputError, match="leave out 0 to 7 of 8"):
        ConditionSpec(leave_out=8)
