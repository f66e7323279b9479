"""Publication of the pretrained generators: weights files, and model cards with the results of a study."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sftgan import files, metrics
from sftgan.companion.data.registry import REGISTRY
from sftgan.companion.report import statistics, tables
from sftgan.companion.study import frames
from sftgan.companion.study.study import Study
from sftgan.errors import InputError
from sftgan.gan import weights
from sftgan.gan.networks import count_parameters
from sftgan.gan.training import TrainedGAN

CARD_CONTROLS = ("mean map", "linear")
"""Controls that a generator is compared with, by their names in ``controls.controls``."""


def publish(study: Study, folder: str | Path) -> list[Path]:
    """Write the generators ``weights.PRETRAINED`` of a study to a folder, each with its model card, and SHA256SUMS.

    Generators that the cache lacks are trained first. No file holds a date, so the same study, code, command and
    machine give the same bytes.

    Parameters
    ----------
    study
        Study that the generators are trained in.
    folder
        Folder for the files.

    Returns
    -------
    list[Path]
        Weights files and model cards, then the file of checksums.

    Raises
    ------
    InputError
        If the folder cannot be written to, or the study's generators have no SFT layers.
    """
    folder = Path(folder)
    if study.profile.modulation != "sft":
        raise InputError(f"modulation is {study.profile.modulation!r}: only SFT generators are published.")
    probe = folder / ".writable"
    files.write(probe, b"")  # before anything is trained
    probe.unlink()
    written, sums, made = [], "", study.provenance()
    results = {strategy: evaluation(study, strategy) for strategy in study.of_strategy}
    for name in weights.PRETRAINED:
        kind, strategy = name.split("-")
        gan, path = study.gans(strategy)[kind], folder / f"{name}.safetensors"
        about = {"name": name, "strategy": strategy, "profile": study.profile.name, "seed": str(study.seed)}
        about |= {"data": "; ".join(_data(study, strategy)["data"]), "CNNs": ", ".join(study.profile.cnns)}
        weights.save(path, gan.generator, study.profile.condition_spec(), study.profile.gan_size, about)
        files.write(path.with_suffix(".md"), card(study, name, gan, results[strategy], made).encode())
        sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        written += [path, path.with_suffix(".md")]
    files.write(folder / weights.CHECKSUMS, sums.encode())
    return [*written, folder / weights.CHECKSUMS]


def evaluation(study: Study, strategy: str) -> pd.DataFrame:
    """Measure how well generators and controls agree with Grad-CAM on the test images of a strategy.

    Parameters
    ----------
    study
        Study that has the generators and the CNNs.
    strategy
        Training strategy: "similar" or "dissimilar".

    Returns
    -------
    DataFrame
        One row for each data set, CNN, method and image, with the columns "dataset", "data" (its label), "arch",
        "method", "image" (its index), "r" (Pearson's correlation over the pixels) and "dice" (Dice of the binarised
        maps).
    """
    frames = []
    for dataset, arch in study.all_pairs(study.of_strategy[strategy]):
        maps = study.maps(dataset, arch)
        truth = maps["Grad-CAM"]
        for method in ("LSFT", "GSFT", *CARD_CONTROLS):
            r = metrics.correlation(maps[method], truth)
            dice = metrics.dice(metrics.binarise(maps[method]), metrics.binarise(truth))
            about = {"dataset": dataset, "data": study.labels()[dataset], "arch": arch, "method": method}
            frames.append(pd.DataFrame(about | {"image": range(len(r)), "r": r, "dice": dice}))
    return pd.concat(frames, ignore_index=True)


def card(study: Study, name: str, gan: TrainedGAN, results: pd.DataFrame, made: dict[str, Any]) -> str:
    """Write the model card of a generator.

    Parameters
    ----------
    study
        Study that the generator was trained in.
    name
        Name of the generator, such as "lsft-similar".
    gan
        Trained generator and its losses.
    results
        Its evaluation, as ``evaluation`` returns it.
    made
        Provenance of the run, as ``Study.provenance`` returns it.

    Returns
    -------
    str
        Model card in Markdown.
    """
    (kind, strategy), p, net = name.split("-"), study.profile, gan.generator
    recipe, method, side = p.gan_recipe(kind), kind.upper(), p.gan_size
    results = results[results["method"].isin([method, *CARD_CONTROLS])]
    cnns = frames.accuracies(study, study.all_pairs(study.of_strategy[strategy]))
    cnns["test accuracy"] = tables.with_intervals(cnns, "accuracy")
    spread = pd.concat([results.assign(data="all of them"), results])
    spread = tables.means_as_text(spread, ["r", "dice"], ["data", "method"], digits=3)
    loss = pd.DataFrame(gan.epoch_losses())
    loss.index = loss.index.rename("epoch") + 1
    loss = loss.iloc[sorted({0, len(loss) - 1})].reset_index().map("{:.4g}".format)
    held_out = p.gan_split == "classes"
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    hardware = ", ".join(f"{part} {value}" for part, value in made["hardware"].items() if value is not None)
    return f"""# {name}

## Model details

The generator of an SFT-GAN, of kind {method} (https://arxiv.org/abs/2301.08067). It is given an image and cumulative
averages of the Grad-CAMs of a CNN's layers, and draws one interpretation map. Licence: MIT.

- Sizes: eta {net.eta}, width {net.width}, {count_parameters(net)} parameters, variant {net.variant}.
- It draws at {side} x {side} pixels.
- Conditions: {", ".join(f"{field} {value}" for field, value in asdict(p.condition_spec()).items())}.

```python
from sftgan import Explainer
explainer = Explainer.from_pretrained("{name}")
maps = explainer(model, images)  # a CNN and images (B, 3, H, W) in [0, 1]; maps (B, H, W) in [0, 1]
```

## Intended use

To try the method without training, and to repeat the results below. For conclusions about a CNN of your own, train a
generator on that CNN's images and compare it with the controls below. A map imitates the Grad-CAM of the target layer:
where that misleads, the map does too.

## Training data

The {strategy} strategy of the profile {p.name}{f", with {json.dumps(study.overrides)}" if study.overrides else ""}.
The CNNs know all classes. {"Those held out were not shown to the generator" if held_out else "No class was held out"}.

{_table(_data(study, strategy))}

The CNNs began from {"ImageNet" if p.pretrained else "random"} weights. Width: {p.cnn_width:g} of their channels.
Their images have {p.size} x {p.size} pixels.

{_table(cnns[["arch", "data", "N", "parameters", "test images", "test accuracy"]])}

## Training

- Epochs: {recipe.epochs}, steps: {len(gan.losses)}, of {recipe.batch} examples; seed: {study.seed}.
- Adam with learning rate {recipe.lr:g}; loss: {recipe.adversarial} and {recipe.weight:g} times {recipe.reconstruction}.
- Command: `{made["command"]}`. Commit: {made["commit"]}.
- Versions: {versions}.
- Hardware: {hardware}.

Command, versions and hardware are those of the run that wrote this card; what it found in its cache was trained before,
by the same code. Losses, means over the first and the last epoch:

{_table(loss)}

## Evaluation

Agreement with the Grad-CAM on test images{", of classes that it was not trained on" if held_out else ""}:
r is Pearson's correlation over pixels, dice that of the binarised maps, with 95 % bootstrap intervals over images.
The mean map is that of each CNN's training examples and knows no image. The linear map is one least-squares fit, the
same for all pixels, to what the generator was given.

{_table(spread)}

## Limitations

{_judged(results, method)}
- Trained on {", ".join(p.cnns)} and the data above only, with one seed: the intervals leave out how trainings differ.
- It draws at {side} x {side} pixels: a larger map is an enlargement.
- {_of_photographs(study, strategy)} The chapter notebooks/15_explain_your_own.ipynb tries it on a CNN with ImageNet
  weights and on photographs, beside controls.
"""


def _of_photographs(study: Study, strategy: str) -> str:
    used = [row for row in study.data_sources() if row["dataset"] in study.of_strategy[strategy]]
    real = [x for x in used if x["source"] != "embedded" and not REGISTRY[x["dataset"]].glyphs]
    if not real:
        return "None of the data are photographs."
    return (
        f"Of photographs it has seen those above, made {study.profile.gan_size} pixels wide, and no others."
    )


def _data(study: Study, strategy: str) -> pd.DataFrame:
    rows = []
    for row in study.data_sources():
        if (name := row["dataset"]) in study.of_strategy[strategy]:
            images, (seen, held_out) = study.image_data(name), study.classes(name)
            arch = next(iter(study.profile.cnns))
            shown, tested = (
                len(study.explained_images(name, arch, part).labels) for part in ("train", "test")
            )
            rows.append({
                "data": row["label"], "source": row["source"],
                "images for the CNNs": f"{len(images.train)} to train, {len(images.test)} to test",
                "images for the generator": f"{shown} to train, {tested} to test, of each CNN",
                "classes": len(seen) + len(held_out),
                "held out": ", ".join(images.classes[i] for i in held_out),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _judged(results: pd.DataFrame, method: str) -> str:
    """List for each control whether it or the generator agrees better with Grad-CAM."""
    found = pd.concat(
        statistics.differences(results, v, method, CARD_CONTROLS).assign(value=v) for v in ("r", "dice")
    )
    found["text"] = tables.with_intervals(found, "difference", digits=3)
    found["better"] = "which is better cannot be told"
    found.loc[found["low"] > 0, "better"] = "the generator does better"
    found.loc[found["high"] < 0, "better"] = "the control does better"
    return "\n".join(f"- {x.value}, {x.comparison}: {x.text}; {x.better}." for x in found.itertuples())


def _table(frame: pd.DataFrame) -> str:
    return tables.markdown(frame.columns, frame.to_numpy())
