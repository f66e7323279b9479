"""How far the target is a linear function of the conditions: exactly, by Eq. 4, and as measured."""

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from sftgan import trials
from sftgan.baselines import linear_fit
from sftgan.cgma import positions
from sftgan.paper import CONVOLUTIONS
from sftgan.study import Study


def exact_coefficients(n_layers: int, eta: int = 8, rounding: str = "double") -> list[int] | None:
    """Integers c_K with last Grad-CAM = sum of c_K CGMA[K], or None where there are none.

    By Eq. 3-4, Positions[K] CGMA[K] is the sum of the first Positions[K] Grad-CAMs. So of the last two positions, N
    CGMA[eta - 1] minus p CGMA[eta - 2] is the sum of the layers p + 1 .. N: the last layer alone if p = N - 1, and else
    no combination tells the last layer from the others behind position p. Of a position that occurs twice, as it can
    where eta is large, the first is taken.
    """
    ends, found = positions(n_layers, eta, rounding), [0] * eta
    found[ends.index(n_layers)] = n_layers
    if n_layers > 1:
        if n_layers - 1 not in ends:
            return None
        found[ends.index(n_layers - 1)] = 1 - n_layers
    return found


def positions_table(eta: int = 8, rounding: str = "double") -> pd.DataFrame:
    """For each of the paper's architectures its last two positions, and what their CGMAs tell of the last layer."""
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
    """The least-squares weights of each setting of `trials.LEAK`, fitted to the training examples of each CNN.

    One row per setting, CNN and term: CGMA 0 to eta - 1, red, green, blue and 1.
    """
    rows = []
    for setting, switches in trials.LEAK.items():
        trial = study.trial(**switches)
        channels = trial.profile.reading().channels
        terms = [*(f"CGMA {k}" for k in range(channels)), "red", "green", "blue", "1"]
        for dataset, arch in trial.all_pairs(trials.datasets(trial)):
            fit = linear_fit([trial.explained(dataset, arch, "train").examples])
            named = {"setting": setting, "data": trial.labels()[dataset], "arch": arch}
            rows += [named | {"term": t, "coefficient": c} for t, c in zip(terms, fit.tolist(), strict=True)]
    return pd.DataFrame(rows)


def figure(coefficients: pd.DataFrame) -> Figure:
    """`coefficients` as one grid of numbers for each setting: a row for each CNN, a column for each term.

    Of several data sets the first, which the figure names.
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
