"""How much a generator relies on each CGMA (paper, section 4.3.6; chapter 09)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from sftgan import metrics
from sftgan.companion.report.claims import above_zero
from sftgan.companion.report.paper import PUBLISHED_RELEVANCE, RELEVANCE_MAXIMUM
from sftgan.companion.report.statistics import means, verdict_between, with_seed
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.frames import Case, pooled
from sftgan.companion.study.gallery import Rows
from sftgan.companion.study.stages import EXPLAINED, generators
from sftgan.companion.study.study import Study
from sftgan.gan.examples import Examples
from sftgan.gan.training import generate

_EQUAL = (0.4, 0.6)
_LOST = ["intensity lost", "foreground share lost"]


def first_half(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Compute the share of a sum that the first half of the CGMAs has.

    The middle one of an odd number of CGMAs counts half.

    Parameters
    ----------
    frame
        One row for each group and CGMA ``c``.
    value
        Column to sum.
    by
        Columns that make the groups.

    Returns
    -------
    pd.DataFrame
        The share of each group in the column ``first half``; NaN if the sum is 0.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"image": 0, "c": range(4), "relevance": [3.0, 3.0, 1.0, 1.0]})
    >>> first_half(frame, "relevance", ["image"])
       image  first half
    0      0        0.75
    """
    first = frame.assign(first=frame[value] * _weight(frame["c"]))
    sums = first.groupby(list(by), sort=False)[["first", value]].sum()
    return (sums["first"] / sums[value]).rename("first half").reset_index()


def relevance_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim of section 5.3 that the first and the last CGMAs are equally important.

    The claim holds if the first half of the CGMAs has 40 to 60 % of the relevance, with the whole interval.

    Parameters
    ----------
    measured
        Frame of ``relevance.relevances``.

    Returns
    -------
    pd.DataFrame
        One row for each generator, replacement and pair. The paper's own case, LSFT with zeros, comes first.
    """
    by = ["method", "replacement", "data", "arch"]
    keys = with_seed(measured, [*by, "dataset", "image"])
    shares = first_half(measured, "relevance", keys).dropna(subset="first half")
    found = means(shares, "first half", by).rename(columns={"mean": "first half"})
    found["claim"] = found["method"] + " relies equally on the first and the last CGMAs"
    found["data here"] = found["data"] + ", " + found["arch"]
    found["verdict"] = [
        verdict_between(low, high, *_EQUAL) for low, high in found[["low", "high"]].itertuples(index=False)
    ]
    columns = ["claim", "data here", "replacement", "n", "first half", "low", "high", "verdict"]
    return _paper_first(found)[["who says so", *columns]]


def published_relevance() -> pd.DataFrame:
    """Return Fig. 14 of the paper as a frame.

    Returns
    -------
    pd.DataFrame
        One row for each ``pair``, ``image`` and CGMA ``c``, with ``share`` in per cent of the largest
        possible relevance.
    """
    rows = [
        (pair, image, c, 100 * value / RELEVANCE_MAXIMUM)
        for pair, images in PUBLISHED_RELEVANCE.items()
        for image, values in images.items()
        for c, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["pair", "image", "c", "share"])


def blackout_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge what section 5.3 says of single CGMAs, over all pairs.

    Intensity is the map's mean. Localisation is its foreground share, which dimming does not change.

    Parameters
    ----------
    measured
        Frame of ``relevance.relevances``.

    Returns
    -------
    pd.DataFrame
        One row for each claim, generator and replacement. The paper's own case, LSFT with zeros, comes
        first.
    """
    last = measured["c"] == measured["c"].max()
    weight = _weight(measured["c"])
    without_last, first, late = (_mean_lost(measured, w) for w in (last, weight, 1 - weight))
    intensity, share = _LOST
    judged = [
        ("without the last CGMA the map is dimmer", "mean of the map, with − without", without_last[intensity]),
        ("without one of the first CGMAs the map marks the object less well",
         "foreground share, with − without", first[share]),
        ("the last CGMAs matter more to the intensity than the first",
         "mean of the map lost, last half − first half", late[intensity] - first[intensity]),
        ("the first CGMAs matter more to the localisation than the last",
         "foreground share lost, first half − last half", first[share] - late[share]),
    ]  # fmt: skip
    parts = [
        above_zero(lost.rename("lost").reset_index(), "lost", ["method", "replacement"]).assign(
            claim=claim, comparison=comparison
        )
        for claim, comparison, lost in judged
    ]
    found = pd.concat(parts, ignore_index=True).assign(**{"data here": "; ".join(measured["data"].unique())})
    columns = ["claim", "method", "replacement", "data here", "comparison", "n", "left out"]
    return _paper_first(found)[["who says so", *columns, "difference", "low", "high", "verdict"]]


def _weight(c: pd.Series) -> pd.Series:
    """1 for the first half of the CGMAs, 0 for the last half, 1/2 for the middle one of an odd number."""
    return ((c.max() + 1) / 2 - c).clip(0, 1)


def _mean_lost(measured: pd.DataFrame, weight: pd.Series) -> pd.DataFrame:
    """What a map loses without a CGMA, averaged with weights over the CGMAs, for each map and replacement."""
    names = with_seed(measured, ["method", "replacement", "dataset", "arch", "image"])
    keys = [measured[key] for key in names]
    lost = measured[_LOST].mul(weight, axis=0).groupby(keys, sort=False).sum(min_count=1)
    return lost.div(weight.groupby(keys, sort=False).sum(), axis=0)


def _paper_first(found: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows on the paper's own case, LSFT with zeros, before the others."""
    papers = (found["method"] == "LSFT") & (found["replacement"] == "zeros")
    found = found.assign(**{"who says so": papers.map({True: "the paper (5.3)", False: "beyond the paper"})})
    return found.sort_values("who says so", ascending=False, kind="stable", ignore_index=True)


def relevances(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Measure how far the map moves when one CGMA is replaced (Eq. 10, Figs. 14 and 15, section 5).

    Parameters
    ----------
    study
        Run whose GANs are measured.
    cases
        Data set, CNN and strategy of each case.

    Returns
    -------
    pd.DataFrame
        One row for each case, method ("LSFT", "GSFT"), ``replacement``, CGMA ``c`` (from 0) and image.
        ``relevance`` is a sum over the pixels of the scalar map. ``intensity lost`` is the loss of the map's
        mean, and ``foreground share lost`` that of its foreground share, with the truth of ``noise``.
        Replacements are those of ``metrics.replaced``; "mean" is the mean of the pair's training examples.
    """
    return pooled(study, RELEVANCE, cases, {})


def _relevance(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained, train = (EXPLAINED(config["case"][part], runtime) for part in ("test", "train"))
    test, mean, masks = explained.examples, train.examples.conditions.mean(0), explained.masks
    truth, frames = metrics.binarise(test.targets) if masks is None else masks, []
    for name, generator in generators(config["case"]["gans"], runtime).items():
        maps = generate(generator, test)
        share = metrics.foreground_share(maps, truth)
        for replacement, c, conditions in metrics.replaced(test.conditions, mean):
            without = generate(generator, Examples(test.images, conditions, test.targets))
            frame = pd.DataFrame({
                "replacement": replacement, "c": c, "image": range(len(maps)),
                "relevance": metrics.relevance(maps, without),
                "intensity lost": (maps - without).double().mean((1, 2)),
                "foreground share lost": share - metrics.foreground_share(without, truth),
            })  # fmt: skip
            frames.append(frame.assign(method=name, truth="Grad-CAM" if masks is None else "object"))
    return pd.concat(frames, ignore_index=True)


RELEVANCE = Stage(_relevance)


def blackouts(study: Study, cases: Sequence[Case], kind: str) -> tuple[Rows, list[str]]:
    """Show how the map of an image changes when one CGMA after the other is replaced (Fig. 16).

    Parameters
    ----------
    study
        Run whose images are shown.
    cases
        Data set, CNN and strategy of each case, which shows its first test image.
    kind
        Generator: "LSFT" or "GSFT".

    Returns
    -------
    tuple[Rows, list[str]]
        Three rows for each case, one for each replacement of ``metrics.replaced``: picture, map, and the
        maps with one CGMA replaced. Then the titles of the rows.
    """
    rows, titles = [], []
    for dataset, arch, strategy in cases:
        generator = study.gans(strategy)[kind.lower()].generator
        test, train = (study.explained_images(dataset, arch, part).examples for part in ("test", "train"))
        one = test.subset(torch.tensor([0]))
        for replacement, c, conditions in metrics.replaced(test.conditions, train.conditions.mean(0)):
            if c == 0:
                rows.append([one.images[0], generate(generator, one)[0]])
                titles.append(f"{study.labels()[dataset]}\n{replacement}")
            rows[-1].append(generate(generator, Examples(one.images, conditions[:1], one.targets))[0])
    return rows, titles
