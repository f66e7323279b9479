"""How far the target is a linear function of the conditions: exactly by Eq. 4, and by least squares."""

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from sftgan.cams.cgma import positions
from sftgan.companion.chapters import trials
from sftgan.companion.report.paper import CONVOLUTIONS
from sftgan.companion.study.study import Study
from sftgan.controls import linear_fit


def exact_coefficients(n_layers: int, eta: int = 8, rounding: str = "double") -> list[int] | None:
    """Compute the integers c_K with which the CGMAs add up to the last layer's Grad-CAM, if there are any.

    By Eqs. 3 and 4, Positions[K] * CGMA[K] is the sum of the first Positions[K] Grad-CAMs. Let N and p be the
    last two positions. Then N * CGMA[eta - 1] - p * CGMA[eta - 2] is the sum of the layers p + 1 to N. If p =
    N - 1, this is the last layer alone. Otherwise no combination separates the last layer from the others
    behind position p. If a position occurs twice, which is possible for large eta, its first occurrence is
    used.

    Parameters
    ----------
    n_layers
        Number of convolutions, N.
    eta
        Number of CGMAs.
    rounding
        How Eq. 2 is rounded, "double" or "single" (see ``positions``).

    Returns
    -------
    list[int] | None
        One coefficient for each CGMA; None if there are none.

    Raises
    ------
    InputError
        If the arguments are not valid for ``positions``.

    Examples
    --------
    >>> exact_coefficients(8, eta=4), exact_coefficients(50)
    (None, None)
    >>> exact_coefficients(8)
    [0, 0, 0, 0, 0, 0, -7, 8]
    """
    ends, found = positions(n_layers, eta, rounding), [0] * eta
    found[ends.index(n_layers)] = n_layers
    if n_layers > 1:
        if n_layers - 1 not in ends:
            return None
        found[ends.index(n_layers - 1)] = 1 - n_layers
    return found


def positions_table(eta: int = 8, rounding: str = "double") -> pd.DataFrame:
    """Tabulate what the last two CGMAs of the paper's architectures reveal about the last layer.

    Parameters
    ----------
    eta
        Number of CGMAs.
    rounding
        How Eq. 2 is rounded, "double" or "single" (see ``positions``).

    Returns
    -------
    pd.DataFrame
        One row for each architecture, with its last two positions.

    Raises
    ------
    InputError
        If the arguments are not valid for ``positions``.
    """
    rows = []
    for name, n in CONVOLUTIONS.items():
        before, last = positions(n, eta, rounding)[-2:]
        exact = exact_coefficients(n, eta, rounding)
        told = f"exactly: {last} CGMA {eta - 1} − {before} CGMA {eta - 2}" if exact else "its sum with others"
        rows.append([name, n, before, last, last - before, told])
    columns = [
        "CNN",
        "convolutions N",
        "last position but one",
        "last position",
        "layers in the difference",
        "told of the last layer",
    ]
    return pd.DataFrame(rows, columns=columns)


def coefficients(study: Study) -> pd.DataFrame:
    """Fit the target of each CNN by its conditions and image, for each setting of ``trials.LEAK``.

    Parameters
    ----------
    study
        Run whose training examples are used.

    Returns
    -------
    pd.DataFrame
        One row for each ``setting``, CNN (``data``, ``arch``) and ``term``, with the least-squares
        ``coefficient``. The terms are CGMA 0 to eta - 1, red, green, blue and 1.
    """
    rows = []
    for setting, switches in trials.LEAK.items():
        trial = study.trial(**switches)
        channels = trial.profile.condition_spec().channels
        terms = [*(f"CGMA {k}" for k in range(channels)), "red", "green", "blue", "1"]
        for dataset, arch in trial.all_pairs(trials.datasets(trial)):
            fit = linear_fit([trial.explained_images(dataset, arch, "train").examples])
            named = {"setting": setting, "data": trial.labels()[dataset], "arch": arch}
            rows += [named | {"term": t, "coefficient": c} for t, c in zip(terms, fit.tolist(), strict=True)]
    return pd.DataFrame(rows)


def figure(coefficients: pd.DataFrame) -> Figure:
    """Plot the coefficients: for each setting a grid with a row for each CNN and a column for each term.

    Parameters
    ----------
    coefficients
        Frame of ``coefficients``. If it has several data sets, the first is plotted and named in the titles.

    Returns
    -------
    Figure
        The plot.
    """
    terms, settings = list(dict.fromkeys(coefficients["term"])), list(dict.fromkeys(coefficients["setting"]))
    first = coefficients["data"].iloc[0]
    figure, axes = plt.subplots(
        len(settings), 1, figsize=(9, 1.5 * len(settings)), sharex=True, squeeze=False
    )
    for axis, setting in zip(axes[:, 0], settings, strict=True):
        part = coefficients[(coefficients["setting"] == setting) & (coefficients["data"] == first)]
        grid = part.pivot(index="arch", columns="term", values="coefficient").reindex(columns=terms)
        sns.heatmap(
            grid.loc[list(dict.fromkeys(part["arch"]))], ax=axis, annot=True, fmt=".1f", cbar=False, cmap="RdBu_r",
            norm=SymLogNorm(0.5, vmin=-60, vmax=60), annot_kws={"fontsize": 8},
        )  # fmt: skip
        axis.set(title=f"{setting} ({first})", xlabel="", ylabel="")
    return figure
