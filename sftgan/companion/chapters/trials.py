"""Short trials: how maps change with one choice, or with all of the released code (``Study.trial``)."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sftgan import metrics
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import build, last_block
from sftgan.companion.report import statistics, tables
from sftgan.companion.report.claims import COLUMNS, UNTESTED
from sftgan.companion.study.profile import RELEASED, SWITCHES, describe
from sftgan.companion.study.study import Study
from sftgan.controls import luminance
from sftgan.gan.examples import explain_images
from sftgan.gan.networks import count_parameters
from sftgan.metrics import correlation, dice, measures, skill

PAPER = "as in the paper"
LEAK: dict[str, dict[str, Any]] = {
    PAPER: {},
    "conditions min-max scaled": {"minmax_conditions": True},
    "without the target's layer": {"exclude_target": True},
    "without the last two positions": {"leave_out": 2},
}
"""Settings that remove the target from the conditions: name -> fields of the profile that they change."""
FLIPS: dict[str, dict[str, Any]] = {
    PAPER: {},
    **{f"{name}: {value}": {name: value} for name, value in RELEASED.items()},
    "accumulate: last_to_first, target's layer out": {"accumulate": "last_to_first", "exclude_target": True},
    "all together": {"variant": "released"},
    "all together, adversarial: bce": {"variant": "released", "adversarial": "bce"},
}
"""Settings with the choices of the released code, one by one and all together; see ``LEAK``."""
ADVERSARIAL: dict[str, dict[str, Any]] = {
    "weight 100 (default)": {},
    "weight 1": {"reconstruction_weight": 1.0},
    "weight 10": {"reconstruction_weight": 10.0},
    "weight 1000": {"reconstruction_weight": 1000.0},
    "no discriminator": {"adversarial": "off"},
    "discriminator fed as released": {"discriminator_input": "released"},
    "discriminator at every 100th step": {"discriminator_period": 100},
}
"""Settings of the adversarial loss; see ``LEAK``."""
CONDITIONING: dict[str, dict[str, Any]] = {
    "SFT, cumulative averages": {},
    "concatenation, cumulative averages": {"modulation": "concatenation"},
    "SFT, raw Grad-CAMs": {"cumulative": False},
    "concatenation, raw Grad-CAMs": {"modulation": "concatenation", "cumulative": False},
    "SFT, averages, target's layer out": {"exclude_target": True},
    "SFT, raw, target's layer out": {"cumulative": False, "exclude_target": True},
}
"""Settings of the conditions and of the way they enter the generator; see ``LEAK``."""
DECIDING: dict[str, dict[str, Any]] = {
    PAPER: {},
    "no discriminator": ADVERSARIAL["no discriminator"],
    "concatenation": CONDITIONING["concatenation, cumulative averages"],
    "averages, target's layer out": CONDITIONING["SFT, averages, target's layer out"],
    "raw Grad-CAMs, target's layer out": CONDITIONING["SFT, raw, target's layer out"],
}
"""The settings that claims are about; they are tried with every seed of the profile."""


def run(
    study: Study, settings: Mapping[str, Mapping[str, Any]], kinds: Sequence[str] = ("lsft",)
) -> pd.DataFrame:
    """Train and measure the generators of each setting.

    The test images are the same in all settings.

    Parameters
    ----------
    study
        Run that the trials start from.
    settings
        For each setting, by name, the fields of the profile that it changes.
    kinds
        Kinds of generators.

    Returns
    -------
    pd.DataFrame
        One row for each setting, pair, method (generators and controls) and test image. ``metrics.measures``
        are against the setting's own target: ``r`` (Pearson), "squared error", "error of the mean map" and
        ``dice``. The others are "dice with the object" (NaN where it is unknown), "r with luminance" of the
        image, and "r with Grad-CAM", the plain one of the last layer.
    """
    plain, frames = study.trial(), []
    for setting, switches in settings.items():
        trial = study.trial(**switches)
        for dataset, arch in trial.all_pairs(datasets(trial)):
            explained = trial.explained_images(dataset, arch, "test")
            last = plain.explained_images(dataset, arch, "test").examples.targets
            maps = trial.maps(dataset, arch, kinds=kinds)
            target, grey = explained.examples.targets, luminance(explained.examples.images)
            for method in [kind.upper() for kind in kinds] + ["mean map", "linear", "linear (this CNN)"]:
                columns = measures(maps[method], target, maps["mean map"]) | {
                    "dice with the object": _dice(maps[method], explained.masks),
                    "r with luminance": correlation(maps[method], grey).numpy(),
                    "r with Grad-CAM": correlation(maps[method], last).numpy(),
                }
                names: dict[str, Any] = {
                    "setting": setting,
                    "method": method,
                    "image": range(len(target)),
                    "dataset": dataset,
                }
                names |= {"data": trial.labels()[dataset], "arch": arch, "seed": study.seed}
                frames.append(pd.DataFrame(names | columns))
    return pd.concat(frames, ignore_index=True)


def run_replicates(study: Study, settings: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Run settings on the study and its replicates; each seed has its own CNNs and generators.

    Parameters
    ----------
    study
        Run with its replicates.
    settings
        For each setting, by name, the fields of the profile that it changes.

    Returns
    -------
    pd.DataFrame
        The frames of ``run``, concatenated; the column ``seed`` tells them apart.
    """
    return pd.concat([run(replicate, settings) for replicate in study.replicates()], ignore_index=True)


def datasets(trial: Study) -> list[str]:
    """List the trial's data sets: those that the profile names, or else all of the similar strategy.

    Parameters
    ----------
    trial
        Study of a trial.

    Returns
    -------
    list[str]
        Names of data sets.
    """
    everything = [name for names in trial.of_strategy.values() for name in names]
    return [name for name in trial.profile.trial.datasets if name in everything] or list(
        trial.of_strategy["similar"]
    )


def _dice(maps: Tensor, masks: Tensor | None) -> np.ndarray | float:
    return np.nan if masks is None else dice(metrics.binarise(maps), masks).numpy()


def summary(frame: pd.DataFrame, by: Sequence[str] = ("setting", "method")) -> pd.DataFrame:
    """Summarise the measures as text: means with 95 % intervals.

    Parameters
    ----------
    frame
        Frame of ``run``.
    by
        Columns that make groups.

    Returns
    -------
    pd.DataFrame
        One row for each group: the skill over the mean map, then the means of the other measures.
    """
    found = statistics.means(frame, ("squared error", "error of the mean map"), by, skill)
    table = tables.means_as_text(frame, ["r", "dice", "r with Grad-CAM", "r with luminance"], by)
    table.insert(len(by), "skill over the mean map", tables.with_intervals(found))
    known = frame.dropna(subset="dice with the object")
    if len(known):
        objects = statistics.means(known, "dice with the object", by)
        objects["dice with the object"] = tables.with_intervals(objects)
        table = table.merge(objects[[*by, "dice with the object"]], how="left", on=list(by))
    return table


def against(frame: pd.DataFrame, reference: str, value: str = "r", method: str = "LSFT") -> pd.DataFrame:
    """Compare each setting of one method with a reference setting, paired over images.

    Parameters
    ----------
    frame
        Frame of ``run``.
    reference
        Name of the reference setting.
    value
        Measure to compare.
    method
        Method whose settings are compared.

    Returns
    -------
    pd.DataFrame
        One row of ``statistics.differences`` (setting minus reference) for each other setting, with Holm's
        correction.
    """
    part = frame[frame["method"] == method]
    part = part.assign(method=part["setting"])
    others = [name for name in part["setting"].unique() if name != reference]
    rows = [statistics.differences(part, value, other, [reference]) for other in others]
    return statistics.holm(pd.concat(rows, ignore_index=True))


def between_methods(frame: pd.DataFrame, first: str, second: str, value: str = "r") -> pd.DataFrame:
    """Compare two methods in each setting, paired over images.

    Parameters
    ----------
    frame
        Frame of ``run``.
    first
        Name of the first method.
    second
        Name of the method to subtract.
    value
        Measure to compare.

    Returns
    -------
    pd.DataFrame
        One row of ``statistics.differences`` (first minus second) for each setting.
    """
    two = frame[frame["method"].isin([first, second])]
    return statistics.differences(two, value, first, [second], by=["setting"])


def judged(found: pd.DataFrame, claims: Mapping[str, str], data: str) -> pd.DataFrame:
    """Turn comparisons of methods into judged claims.

    Parameters
    ----------
    found
        Frame of ``between_methods``.
    claims
        For each setting, by name, what is claimed.
    data
        What the claims were tested on.

    Returns
    -------
    pd.DataFrame
        Rows as those of ``claims.judge``.
    """
    about = {"where": "beyond the paper", "data here": data}
    return found.assign(claim=found["setting"].map(claims), **about)[COLUMNS]


def judge_series(
    frame: pd.DataFrame, series: Sequence[tuple[str, str]], claims: Sequence[str], data: str
) -> pd.DataFrame:
    """Judge claims that LSFT is more similar to its target (r) in one setting than in another.

    A claim is "cannot be tested here" if the mean r of LSFT in its first setting does not exceed that of the
    mean map. A generator that has learned so little cannot be used to judge a choice.

    Parameters
    ----------
    frame
        Frame of ``run``.
    series
        Two settings for each claim; the first is claimed to have the larger r.
    claims
        What is claimed for each pair of settings.
    data
        What the claims were tested on.

    Returns
    -------
    pd.DataFrame
        Rows as those of ``claims.judge``.
    """
    lsft = frame[frame["method"] == "LSFT"]
    lsft = lsft.assign(method=lsft["setting"])
    rows = []
    for (first, second), claim in zip(series, claims, strict=True):
        found = statistics.differences(lsft, "r", first, [second])
        reached = frame[frame["setting"] == first].groupby("method")["r"].mean()
        if reached["LSFT"] <= reached["mean map"]:
            found["verdict"] = UNTESTED
        rows.append(found.assign(claim=claim, where="beyond the paper", **{"data here": data}))
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def beside_mean_map(frame: pd.DataFrame) -> pd.DataFrame:
    """Summarise LSFT in each setting, below the mean map in the first setting, which is the paper's.

    Parameters
    ----------
    frame
        Frame of ``run``.

    Returns
    -------
    pd.DataFrame
        Rows of ``summary`` by setting.
    """
    first = frame[(frame["setting"] == frame["setting"].iloc[0]) & (frame["method"] == "mean map")]
    shown = pd.concat([first.assign(setting="(the mean map)"), frame[frame["method"] == "LSFT"]])
    return summary(shown, ["setting"])


def switches() -> pd.DataFrame:
    """Return the fields in which the released code differs from the paper: both values and their meaning."""
    rows = [(name, str(paper), str(code), describe(name)) for name, (paper, code) in SWITCHES.items()]
    return pd.DataFrame(rows, columns=["field", "paper", "released code", "what it is"])


def sizes(study: Study, settings: Mapping[str, Mapping[str, Any]], kinds: Sequence[str]) -> pd.DataFrame:
    """Measure the size of each setting's generators and the end of their training.

    Parameters
    ----------
    study
        Run that the trials start from.
    settings
        For each setting, by name, the fields of the profile that it changes.
    kinds
        Kinds of generators.

    Returns
    -------
    pd.DataFrame
        One row for each setting and kind: parameters, training steps, and the discriminator's mean loss in
        the last epoch. A discriminator that guesses has a loss of log 2 = 0.69. The loss is NaN if there is
        no discriminator.
    """
    rows = []
    for setting, changed in settings.items():
        trial = study.trial(**changed)
        for kind, gan in trial.gans(trial.strategy(datasets(trial)[0]), kinds).items():
            end = np.nan if trial.profile.adversarial == "off" else gan.epoch_losses()[-1]["discriminator"]
            rows.append([setting, kind.upper(), count_parameters(gan.generator), len(gan.losses), end])
    columns = ["setting", "kind", "parameters", "steps", "discriminator's loss"]
    return pd.DataFrame(rows, columns=columns)


def released_outputs() -> pd.DataFrame:
    """Measure the outputs published with the released code.

    Returns
    -------
    pd.DataFrame
        One row for each ``reading`` of their JET-coloured pictures: Dice of LSFT's picture with its Grad-CAM
        target over 400 images (Food-11, ResNet50), as mean with a 95 % interval.
    """
    measured = pd.read_csv(str(resources.files("sftgan.companion.chapters") / "released_outputs.csv"))
    long = measured.rename_axis("image").reset_index().melt("image", var_name="reading", value_name="dice")
    found = statistics.means(long, "dice", ["reading"])
    return found.assign(dice=tables.with_intervals(found, digits=3))[["reading", "n", "dice"]]


def first_layer(study: Study) -> tuple[pd.DataFrame, dict[str, list[Tensor]]]:
    """Test whether the released code's targets, guided maps of the first layer, only show edges.

    Targets of the trained CNN are compared with those of the same CNN with random weights. A target that is
    the same for random weights does not explain the CNN (Adebayo 2018).

    Parameters
    ----------
    study
        Run that the trials start from.

    Returns
    -------
    tuple[pd.DataFrame, dict[str, list[Tensor]]]
        A frame and pictures. The frame has one row for each CNN, ``weights`` ("trained" or "random"),
        ``target`` of ``TARGETS`` and image: "r with luminance" of the image, and "size of r", its absolute
        value. The pictures are those of one image of each CNN: the image (3, H, W), its luminance (H, W), and
        the four targets (H, W) in the frame's order.
    """
    trial = study.trial()
    p, frames = trial.profile, []
    pictures: dict[str, list[Tensor]] = {}
    for (dataset, arch), fitted in trial.classifiers(trial.all_pairs(datasets(trial))).items():
        images = trial.chosen(dataset, arch, "test").batch()
        with torch.random.fork_rng():
            torch.manual_seed(study.seed + 1)
            random = build(arch, len(fitted.confusion), p.cnn_width, images.shape[-1], p.last_map)
        name = f"{trial.labels()[dataset]}\n{arch}"
        for weights, model in (("trained", fitted.model), ("random", random)):
            for target, reading in TARGETS.items():
                shown, _, _ = explain_images(model, images, p.gan_size, reading, last_block(model, arch))
                grey = luminance(shown.images)
                frame = pd.DataFrame({"r with luminance": correlation(shown.targets, grey).numpy()})
                frame["size of r"] = frame["r with luminance"].abs()
                frame = frame.assign(image=range(len(grey)), weights=weights, target=target, seed=study.seed)
                frames.append(frame.assign(dataset=dataset, data=trial.labels()[dataset], arch=arch))
                pictures.setdefault(name, [shown.images[0], grey[0]]).append(shown.targets[0])
    return pd.concat(frames, ignore_index=True), pictures


TARGETS = {
    "first layer, guided": ConditionSpec(target="first", gradients="guided", explained_class="first"),
    "last layer": ConditionSpec(),
}
"""The target of the released code and that of the paper."""
