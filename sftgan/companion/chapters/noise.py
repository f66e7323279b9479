"""Salt-and-pepper noise (section 4.4)."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from sftgan import metrics
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import last_block
from sftgan.companion.report.claims import COLUMNS, Ordering, judge
from sftgan.companion.report.paper import NOISE_DENSITIES
from sftgan.companion.report.statistics import with_seed
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.frames import Case, check_counts, pooled
from sftgan.companion.study.gallery import Gallery
from sftgan.companion.study.stages import CLASSIFIER, EXPLAINED, IMAGE_DATA, generators
from sftgan.companion.study.study import Study
from sftgan.controls import luminance
from sftgan.errors import InputError
from sftgan.gan.examples import explain_images
from sftgan.gan.training import generate


def salt_and_pepper(images: Tensor, density: float, seed: int = 0) -> Tensor:
    """Set exactly round(density * H * W) pixels of each image to 1 or 0, half of them each (section 4.4).

    A pixel is set in all its channels; one that already has the value does not change. If the number of
    pixels is odd, one more becomes 1 than 0. With the same seed, the pixels of a lower density are among
    those of a higher one.

    Parameters
    ----------
    images
        Images (B, C, H, W) in [0, 1].
    density
        Share of the pixels to set, from 0 to 1.
    seed
        Seed of the choice of pixels.

    Returns
    -------
    Tensor
        Noisy images (B, C, H, W).

    Raises
    ------
    InputError
        If ``density`` does not lie in [0, 1], or ``images`` does not have four dimensions.

    Examples
    --------
    >>> import torch
    >>> noisy = salt_and_pepper(torch.full((1, 1, 2, 2), 0.5), density=0.5)
    >>> noisy.flatten().sort().values
    tensor([0.0000, 0.5000, 0.5000, 1.0000])
    """
    check_densities([density])
    if images.ndim != 4:
        raise InputError(f"images have shape {tuple(images.shape)}: give (batch, channels, height, width).")
    n_images, _, height, width = images.shape
    n = round(density * height * width)
    order = torch.rand(n_images, height * width, generator=torch.Generator().manual_seed(seed)).argsort(1)
    values = torch.arange(n).add(1).remainder(2).to(images)  # 1, 0, 1, ...
    noisy = images.flatten(2).clone()
    index = order[:, None, :n].expand(-1, images.shape[1], -1).to(images.device)
    noisy.scatter_(2, index, values.expand(index.shape))
    return noisy.view_as(images)


def check_densities(densities: Sequence[float]) -> None:
    """Check that noise densities are distinct shares of pixels, at least one.

    Parameters
    ----------
    densities
        Densities to check.

    Raises
    ------
    InputError
        If there is no density, one does not lie in [0, 1], or one occurs twice.

    Examples
    --------
    >>> check_densities([0.0, 0.05, 0.5])
    >>> check_densities([0.5, 0.5])
    Traceback (most recent call last):
    sftgan.errors.InputError: the noise densities [0.5, 0.5] contain duplicates: give each density once.
    """
    if not isinstance(densities, Sequence) or isinstance(densities, str) or not densities:
        raise InputError(f"the noise densities are {densities!r}: give a list such as [0.0, 0.05, 0.5].")
    for density in densities:
        if isinstance(density, bool) or not isinstance(density, Real) or not 0 <= density <= 1:
            raise InputError(f"the noise density is {density!r}: give the share of pixels, from 0 to 1.")
    if len(set(densities)) < len(densities):
        raise InputError(f"the noise densities {list(densities)} contain duplicates: give each density once.")


_IMAGE = ["strategy", "dataset", "data", "arch", "image", "method"]


def noise_claims(measured: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.4 for each strategy.

    Only the paper's densities, 0.05 to 0.5, are judged: levels by the means over them, and changes by the
    slopes over them. Slopes need at least two densities.

    Parameters
    ----------
    measured
        Frame of ``noise.noise``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``, with the strategy and the densities judged.
    """
    noisy = measured[measured["density"].between(*NOISE_DENSITIES)]
    densities = sorted(noisy["density"].unique())
    keys = with_seed(noisy, _IMAGE)
    levels = noisy.groupby(keys, sort=False)[["background", "foreground share"]].mean().reset_index()
    slopes = slopes_by_density(noisy) if len(densities) > 1 else levels.head(0)
    parts = [
        judge(frame[frame["strategy"] == strategy], orderings).assign(strategy=strategy)
        for strategy in measured["strategy"].unique()
        for frame, orderings in ((levels, NOISE_LEVELS), (slopes, NOISE_SLOPES))
    ]
    named = (
        ", ".join(f"{d:g}" for d in densities)
        or f"no density from {NOISE_DENSITIES[0]:g} to {NOISE_DENSITIES[1]:g}"
    )
    return pd.concat(parts, ignore_index=True).assign(densities=named)[["strategy", "densities", *COLUMNS]]


def slopes_by_density(noisy: pd.DataFrame) -> pd.DataFrame:
    """Compute the least-squares slopes of background error and foreground share over the noise density.

    Parameters
    ----------
    noisy
        Frame of ``noise.noise`` with at least two densities.

    Returns
    -------
    pd.DataFrame
        One row for each image and method.
    """
    keys = [noisy[key] for key in with_seed(noisy, _IMAGE)]
    centred = noisy["density"] - noisy["density"].groupby(keys).transform("mean")
    values = noisy[["background", "foreground share"]]
    above = values.mul(centred, axis=0).groupby(keys, sort=False).sum()
    return above.div((centred**2).groupby(keys, sort=False).sum(), axis=0).reset_index()


def noise(study: Study, cases: Sequence[Case], densities: Sequence[float], n_images: int) -> pd.DataFrame:
    """Measure maps under salt-and-pepper noise for Figs. 12 and 13 (section 4.4).

    Of the controls, luminance is that of the noisy image; the mean map is the same for every image and
    density.

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    densities
        Noise densities.
    n_images
        Number of images of each case; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each case, density, method and image: ``background`` (Eq. 9), ``foreground share``,
        ``right`` (whether the CNN is right), ``chance`` (the accuracy of guessing) and ``truth``. The truth
        is the "object", or on photographs the binarised "Grad-CAM" of the clean image. The measures are NaN
        where it is empty.

    Raises
    ------
    InputError
        If a density is not valid, or ``n_images`` is not a whole number of at least 1.
    """
    check_densities(densities)
    check_counts(n_images=n_images)
    own = {"densities": [float(d) for d in densities], "n_images": n_images, "seed": study.seed}
    return pooled(study, NOISE, cases, own)


def _noise(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test, n = config["case"]["test"], config["n_images"]
    arch, spec = test["cnn"]["arch"], ConditionSpec(**test["reading"])
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    split = IMAGE_DATA(test["data"], runtime).chosen(**test["images"])
    clean, train = (EXPLAINED(config["case"][part], runtime) for part in ("test", "train"))
    truth = (metrics.binarise(clean.examples.targets) if clean.masks is None else clean.masks)[:n]
    gans = generators(config["case"]["gans"], runtime)
    block, frames = last_block(model, arch), []
    for density in config["densities"]:
        noisy = salt_and_pepper(split.batch()[:n], density, config["seed"])
        shown, _, logits = explain_images(model, noisy, test["size"], spec, block)
        right = logits.argmax(1) == split.labels[:n]
        drawn = {name: generate(gan, shown) for name, gan in gans.items()} | {"Grad-CAM": shown.targets}
        drawn |= {"mean map": train.examples.targets.mean(0).expand_as(shown.targets)}
        drawn |= {"luminance": luminance(shown.images)}
        for method, maps in drawn.items():
            frame = pd.DataFrame({
                "density": density, "method": method, "image": range(len(maps)), "right": right.numpy(),
                "chance": 1 / logits.shape[1],
                "background": metrics.background_error(maps, truth),
                "foreground share": metrics.foreground_share(maps, truth),
            })  # fmt: skip
            frames.append(frame.assign(truth="Grad-CAM" if clean.masks is None else "object"))
    return pd.concat(frames, ignore_index=True)


NOISE = Stage(_noise)


def noise_maps(study: Study, cases: Sequence[Case], densities: Sequence[float]) -> Gallery:
    """Show an image under increasing noise with its maps by GSFT, LSFT and Grad-CAM (Fig. 12).

    Parameters
    ----------
    study
        Run whose images are shown.
    cases
        Data set, CNN and strategy of each case. Each strategy shows the first test image of its first case.
    densities
        Noise densities, one column each.

    Returns
    -------
    Gallery
        Four rows for each strategy. The texts say whether the CNN is right.
    """
    rows, titles, texts = [], [], []
    for strategy in dict.fromkeys(case[2] for case in cases):
        dataset, arch, _ = next(case for case in cases if case[2] == strategy)
        model = study.classifiers([(dataset, arch)])[dataset, arch].model
        split, p = study.chosen(dataset, arch, "test"), study.profile
        noisy = torch.cat([salt_and_pepper(split.batch(slice(0, 1)), d, study.seed) for d in densities])
        shown, _, logits = explain_images(
            model, noisy, p.gan_size, p.condition_spec(), last_block(model, arch)
        )
        gsft, lsft = (generate(study.gans(strategy)[kind].generator, shown) for kind in ("gsft", "lsft"))
        rows += [[*pictures] for pictures in (shown.images, gsft, lsft, shown.targets)]
        titles += [f"{study.labels()[dataset]}\n{arch}", "GSFT", "LSFT", "Grad-CAM"]
        right = (logits.argmax(1) == split.labels[0]).tolist()
        texts += [["right" if is_right else "wrong" for is_right in right], *[[""] * len(right)] * 3]
    return rows, titles, texts


NOISE_LEVELS = (
    Ordering("GSFT's background error is above LSFT's", "4.4, Fig. 13", "background", "GSFT", "LSFT"),
    Ordering(
        "LSFT's foreground share is above GSFT's", "beyond the paper", "foreground share", "LSFT", "GSFT"
    ),
    Ordering(
        "LSFT's foreground share is above the mean map's",
        "beyond the paper",
        "foreground share",
        "LSFT",
        "mean map",
    ),
)
"""Claims on the means over the densities of section 4.4."""
NOISE_SLOPES = (
    Ordering(
        "GSFT's background error grows faster than LSFT's: the gap widens",
        "4.4, Fig. 13",
        "background",
        "GSFT",
        "LSFT",
    ),
    Ordering(
        "GSFT's foreground share falls faster than LSFT's: key regions vanish faster",
        "4.4, Fig. 12",
        "foreground share",
        "LSFT",
        "GSFT",
    ),
)
"""Claims on the slopes over the densities of section 4.4."""
