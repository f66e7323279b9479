"""The algebra of the leak, solved by sympy, and the fit that finds it."""

import pytest
import sympy
import torch

from sftgan import cgma
from sftgan.cams.cgma import positions
from sftgan.companion.chapters import leak
from sftgan.controls import linear_fit
from sftgan.gan.examples import Examples


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize("n_layers", range(8, 30))
def test_the_coefficients_are_those_that_a_solver_finds(n_layers, rounding):
    """Each CGMA is a row of 1 / Positions[K]; is the last layer's row a combination of them?"""
    ends = positions(n_layers, 8, rounding)
    rows = sympy.Matrix([[sympy.Rational(int(i < p), p) for i in range(n_layers)] for p in ends])
    last = sympy.zeros(1, n_layers)
    last[n_layers - 1] = 1
    exact = leak.exact_coefficients(n_layers, 8, rounding)
    assert (exact is not None) == (rows.col_join(last).rank() == rows.rank())
    if exact is not None:
        assert sympy.Matrix([exact]) * rows == last


@pytest.mark.parametrize("rounding", ["double", "single"])
@pytest.mark.parametrize(("n_layers", "eta"), [(13, 13), (40, 20), (52, 52), (53, 8), (94, 68), (94, 94)])
def test_nor_do_many_positions_hide_the_last_layer(n_layers, eta, rounding):
    """With many CGMAs the last position can occur twice, and the last but one is not the one before it."""
    ends = positions(n_layers, eta, rounding)
    rows = (torch.arange(n_layers) < torch.tensor(ends)[:, None]).double()
    last = torch.eye(n_layers, dtype=torch.float64)[-1]
    rank = torch.linalg.matrix_rank
    exact = leak.exact_coefficients(n_layers, eta, rounding)
    assert (exact is not None) == (rank(torch.cat([rows, last[None]])) == rank(rows)).item()
    if exact is not None:
        averages = rows / torch.tensor(ends)[:, None]
        torch.testing.assert_close(torch.tensor(exact).double() @ averages, last)


def test_vgg16_leaks_and_the_deeper_nets_do_not():
    assert leak.exact_coefficients(13) == [0, 0, 0, 0, 0, 0, -12, 13]
    assert [leak.exact_coefficients(n) for n in (16, 40, 52, 53, 94)] == [None] * 5
    assert leak.exact_coefficients(4, 1) is None and leak.exact_coefficients(1, 1) == [1]
    table = leak.positions_table().set_index("CNN")["layers in the difference"]
    assert table["VGG16"] == 1 and table["InceptionV3"] == 13


def test_the_fit_finds_the_algebra():
    rng = torch.Generator().manual_seed(0)
    cams = torch.rand(4, 13, 8, 8, generator=rng)
    shown = Examples(torch.rand(4, 3, 8, 8, generator=rng), cgma(cams), cams[:, -1])
    expected = torch.zeros(12, dtype=torch.float64)
    expected[6], expected[7] = -12, 13
    assert torch.allclose(linear_fit([shown]), expected, atol=1e-3)
