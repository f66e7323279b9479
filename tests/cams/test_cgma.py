"""Positions against the published table and an exact reference; averages against a direct double loop."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftgan import InputError, cgma, positions

TABLE = [  # N, double ceil, single ceil; 1-based, the first 0 clipped to 1
    (13, [1, 2, 4, 6, 8, 10, 12, 13], [1, 2, 4, 6, 8, 10, 12, 13]),
    (16, [1, 3, 5, 7, 10, 12, 14, 16], [1, 3, 5, 7, 10, 12, 14, 16]),
    (53, [1, 8, 16, 23, 31, 39, 46, 53], [1, 8, 16, 23, 31, 38, 46, 53]),
    (49, [1, 8, 15, 22, 29, 36, 43, 49], [1, 7, 14, 21, 28, 35, 42, 49]),
    (27, [1, 5, 8, 12, 16, 20, 24, 27], [1, 4, 8, 12, 16, 20, 24, 27]),
    (52, [1, 8, 16, 23, 31, 38, 45, 52], [1, 8, 15, 23, 30, 38, 45, 52]),
    (94, [1, 15, 28, 41, 55, 68, 81, 94], [1, 14, 27, 41, 54, 68, 81, 94]),
    (40, [1, 6, 12, 18, 24, 29, 35, 40], [1, 6, 12, 18, 23, 29, 35, 40]),
]


@pytest.mark.parametrize("n_layers, double, single", TABLE)
def test_positions_of_the_papers_networks(n_layers, double, single):
    assert positions(n_layers, rounding="double") == double
    assert positions(n_layers, rounding="single") == single


LAYERS_AND_ETA = st.integers(2, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, min(n, 40))))


@given(LAYERS_AND_ETA)
def test_positions_equal_exact_arithmetic(layers_and_eta):
    n_layers, eta = layers_and_eta
    skip = Fraction(100, eta - 1)
    double = [math.ceil(math.ceil(skip * k) * Fraction(n_layers, 100)) for k in range(eta)]
    single = [math.ceil(skip * k * Fraction(n_layers, 100)) for k in range(eta)]
    assert positions(n_layers, eta, "double") == [min(max(p, 1), n_layers) for p in double]
    assert positions(n_layers, eta, "single") == [min(max(p, 1), n_layers) for p in single]


@given(LAYERS_AND_ETA, st.sampled_from(["double", "single"]))
def test_first_and_last_layer_are_included_and_order_is_kept(layers_and_eta, rounding):
    n_layers, eta = layers_and_eta
    got = positions(n_layers, eta, rounding)
    assert len(got) == eta and got[0] == 1 and got[-1] == n_layers and got == sorted(got)


def test_more_averages_than_layers_are_refused_with_the_largest_number_that_works():
    with pytest.raises(InputError, match="eta is 8, but the net has 3 convolutions: choose at most 3"):
        positions(3, eta=8)
    with pytest.raises(InputError, match="choose at most 13"):
        cgma(torch.rand(1, 13, 4, 4), eta=14)
    assert positions(3, eta=3) == [1, 2, 3]


def test_a_single_average_is_over_all_layers():
    assert positions(13, eta=1) == [13]
    maps = torch.rand(2, 13, 4, 4)
    torch.testing.assert_close(cgma(maps, eta=1)[:, 0], maps.mean(1))


@pytest.mark.parametrize("n_layers, eta", [(13, 8), (53, 8), (8, 8), (5, 1), (94, 12)])
def test_averages_equal_a_direct_double_loop(n_layers, eta):
    maps = torch.rand(2, n_layers, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps[0, 1] = 0  # a dead map counts as zeros
    got = cgma(maps, eta)
    for image in range(2):
        for k, position in enumerate(positions(n_layers, eta)):
            total = torch.zeros(5, 4, dtype=torch.float64)
            for layer in range(position):
                total += maps[image, layer]
            torch.testing.assert_close(got[image, k], total / position, atol=1e-12, rtol=0)


def test_averages_stay_in_the_unit_interval_and_are_exact_for_constants():
    assert (cgma(torch.ones(1, 53, 2, 2)) == 1).all()
    maps = cgma(torch.rand(4, 53, 8, 8))
    assert maps.min() >= 0 and maps.max() <= 1


@pytest.mark.parametrize("n_layers, eta, rounding", [(0, 8, "double"), (13, 0, "double"), (13, 8, "triple")])
def test_bad_arguments_are_refused(n_layers, eta, rounding):
    with pytest.raises(InputError):
        positions(n_layers, eta, rounding)


def test_bad_maps_are_refused():
    with pytest.raises(InputError, match=r"\(B, N, h, w\)"):
        cgma(torch.rand(13, 4, 4))
    with pytest.raises(InputError, match="uint8"):
        cgma(torch.zeros(1, 13, 4, 4, dtype=torch.uint8))
