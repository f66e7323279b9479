"""From a profile and a seed to results: the stages that the notebooks share."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import matplotlib.figure
import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

from sftgan import data
from sftgan.baselines import CONTROLS, controls
from sftgan.cache import Config, Runtime, Stage
from sftgan.cgma import cgma, positions
from sftgan.classifiers import Fitted, Recipe, build, build_pretrained, fit, predict
from sftgan.data import ImageData, Split
from sftgan.errors import InputError, check_name
from sftgan.gradcam import layer_cams
from sftgan.metrics import binarise, confusion, correlation, dice
from sftgan.networks import count_parameters
from sftgan.profile import FIELDS, DataSource, Profile, load_profile
from sftgan.provenance import provenance
from sftgan.training import Examples, GANRecipe, TrainedGAN, generate, train_gan

METHODS = ("LSFT", "GSFT", "Grad-CAM", *CONTROLS)
TRUTHS = ("strokes", "Grad-CAM")


@dataclass(frozen=True)
class Explained:
    """The examples that one CNN gives: images, CGMAs and target maps, at the GANs' size.

    labels, predictions: int64 (n,). masks: bool (n, H, W), the strokes, or None. dead: float (N,), the share of
    images for which a layer's Grad-CAM has no contrast.
    """

    examples: Examples
    labels: Tensor
    predictions: Tensor
    masks: Tensor | None
    dead: Tensor


def _image_data(config: Config, runtime: Runtime, checkpoint: Path) -> ImageData:
    return data.load(**config["load"])


def _classifier(config: Config, runtime: Runtime, checkpoint: Path) -> Fitted:
    images = IMAGE_DATA(config["data"], runtime)
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        if config["pretrained"]:
            model = build_pretrained(config["arch"], len(images.classes))
        else:
            model = build(config["arch"], len(images.classes), **config["shape"])
    device = torch.device("cuda" if runtime.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    fitted = fit(model, images, Recipe(**config["recipe"]), config["seed"], checkpoint, device)
    fitted.model.cpu()
    return fitted


def _explained(config: Config, runtime: Runtime, checkpoint: Path) -> Explained:
    model = CLASSIFIER(config["cnn"], runtime).model
    split = IMAGE_DATA(config["cnn"]["data"], runtime).chosen(**config["images"])
    size = config["size"]
    conditions, targets, dead = [], [], []
    for index in torch.arange(len(split)).split(64):
        cams = layer_cams(model, split.batch(index), tap=config["tap"], size=size)
        conditions.append(cgma(cams.maps, config["eta"], config["rounding"]))
        targets.append(cams.maps[:, -1])
        dead.append(cams.dead)
    pictures = F.interpolate(split.batch(), (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    masks = split.masks
    if masks is not None:
        masks = (
            F.interpolate(masks[:, None].float(), (size, size), mode="bilinear", antialias=True)[:, 0] > 0.5
        )
    return Explained(
        Examples(pictures, torch.cat(conditions), torch.cat(targets)),
        split.labels,
        predict(model, split).argmax(1),
        masks,
        torch.cat(dead).float().mean(0),
    )


def _gan(config: Config, runtime: Runtime, checkpoint: Path) -> TrainedGAN:
    train, watched = (
        Examples.concatenate([EXPLAINED(c, runtime).examples for c in config[part]])
        for part in ("train", "watched")
    )
    recipe = GANRecipe(**config["recipe"])
    return train_gan(train, watched, recipe, config["seed"], checkpoint, runtime.accelerator)


IMAGE_DATA = Stage(_image_data, "data")
CLASSIFIER = Stage(_classifier, "classifiers", after=[IMAGE_DATA])
EXPLAINED = Stage(_explained, "gradcam", "cgma", after=[CLASSIFIER])
GAN = Stage(_gan, "training", after=[EXPLAINED])


class Study:
    """The experiments of one profile and one seed. Everything is computed when first asked for, and remembered.

    `dataset` and `arch` select one data set and one CNN for what is shown; training always takes all of them,
    as the paper does. Any field of the profile can be overridden: `Study("smoke", eta=4)`.
    """

    def __init__(
        self,
        profile: str = "smoke",
        seed: int = 0,
        dataset: str | None = None,
        arch: str | None = None,
        **overrides: Any,
    ):
        self.profile: Profile = load_profile(profile, **overrides)
        self.overrides = overrides
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}.")
        self.seed = seed
        p = self.profile
        self.datasets = list(p.datasets) if dataset is None else [check_name(dataset, p.datasets, "data set")]
        self.archs = list(p.cnns) if arch is None else [check_name(arch, p.cnns, "architecture")]
        self.runtime = Runtime(p.accelerator, p.threads, p.workers)
        self.runtime.pin()
        self._gans: dict[str, TrainedGAN] = {}

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any], *own: str) -> "Study":
        """The study that a notebook's parameters ask for; call it first, with `globals()`.

        `own` names the parameters that this notebook has beside profile, seed, dataset, arch and the profile's
        fields. papermill only warns of an unknown parameter; here it is refused, with the nearest valid name.
        """
        given = {
            name: value
            for name, value in namespace.items()
            if not name.startswith("_")
            and not name.isupper()  # an imported constant
            and name not in ("In", "Out", "exit", "quit", "open", "get_ipython")
            and not isinstance(value, ModuleType)
            and not callable(value)
        }
        known = ["profile", "seed", "dataset", "arch", *own]
        before = [value for value in given.values() if isinstance(value, Study)]
        if before:  # the cell is run again: what the notebook made since is not a parameter
            given = {n: v for n, v in given.items() if n in known or n in before[0].overrides}
        for name in given:
            check_name(name, [*known, *FIELDS], "parameter")
        return cls(**{n: v for n, v in given.items() if n not in own})

    def pairs(self) -> list[tuple[str, str]]:
        """The selected (data set, CNN) pairs."""
        return [(dataset, arch) for dataset in self.datasets for arch in self.archs]

    def all_pairs(self, datasets: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """All (data set, CNN) pairs of the profile, or of some of its data sets."""
        return [(d, a) for d in datasets or self.profile.datasets for a in self.profile.cnns]

    def image_data(self, dataset: str) -> ImageData:
        """One data set of the profile, at the CNNs' size."""
        return IMAGE_DATA(self._data_config(dataset), self.runtime)

    def classes(self, dataset: str) -> tuple[list[int], list[int]]:
        """Class indices that the GANs see, and those held out from them."""
        return data.class_split(self.image_data(dataset).classes, self.profile.held_out, self.seed)

    def classifiers(self, pairs: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], Fitted]:
        """The fitted CNNs of some pairs; None: the selected ones."""
        pairs = self.pairs() if pairs is None else pairs
        fitted = CLASSIFIER.all([self._cnn_config(*pair) for pair in pairs], self.runtime)
        return dict(zip(pairs, fitted, strict=True))

    def explained(self, dataset: str, arch: str, part: str) -> Explained:
        """CGMAs and targets of one pair: part "train" is of seen classes, "test" of held-out ones.

        "watched" is the beginning of "test", on which the training shows its progress.
        """
        return EXPLAINED(self._explained_config(dataset, arch, part), self.runtime)

    def chosen(self, dataset: str, part: str) -> Split:
        """The images behind `explained`, in the same order, at the CNNs' size."""
        return self.image_data(dataset).chosen(**self._images_config(dataset, part))

    def gans(self, kinds: Sequence[str] = ("lsft", "gsft")) -> dict[str, TrainedGAN]:
        """The GANs trained on all pairs."""
        missing = [kind for kind in kinds if kind not in self._gans]
        if missing:
            self._prepare()
            trained = GAN.all([self._gan_config(kind) for kind in missing], self.runtime)
            self._gans |= zip(missing, trained, strict=True)
        return {kind: self._gans[kind] for kind in kinds}

    def gan_on(self, dataset: str, kind: str = "lsft") -> TrainedGAN:
        """A GAN trained on the pairs of one data set only (paper, 4.3.3)."""
        self._prepare()
        return GAN(self._gan_config(kind, [dataset]), self.runtime)

    def maps(self, dataset: str, arch: str) -> dict[str, Tensor]:
        """Maps (n, H, W) in [0, 1] of every method in `METHODS`, for the pair's test examples."""
        test = self.explained(dataset, arch, "test").examples
        train = self.explained(dataset, arch, "train").examples
        gans = {kind.upper(): generate(gan.generator, test) for kind, gan in self.gans().items()}
        return gans | {"Grad-CAM": test.targets} | controls(test, train)

    def scores(self, threshold: int = 127) -> pd.DataFrame:
        """One row per selected pair, method, ground truth and image: tp, tn, fp, fn in pixels, Dice.

        Where strokes are not known, as on photographs, the binarised Grad-CAM is the only ground truth.
        """
        frames = []
        for dataset, arch in self.pairs():
            explained = self.explained(dataset, arch, "test")
            truths = {"Grad-CAM": binarise(explained.examples.targets, threshold)}
            if explained.masks is not None:
                truths = {"strokes": explained.masks} | truths
            for method, maps in self.maps(dataset, arch).items():
                foreground = binarise(maps, threshold)
                for truth, mask in truths.items():
                    columns = confusion(foreground, mask) | {"dice": dice(foreground, mask)}
                    frame = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
                    where = {"dataset": dataset, "arch": arch, "method": method, "truth": truth}
                    frames.append(
                        frame.assign(**where, image=range(len(frame)), label=explained.labels.numpy())
                    )
        scores = pd.concat(frames, ignore_index=True).assign(profile=self.profile.name, seed=self.seed)
        sources = {name: source.source for name, source in self.profile.datasets.items()}
        return scores.assign(data=scores["dataset"].map(self.labels()), source=scores["dataset"].map(sources))

    def correlations_with_last(self, dataset: str) -> pd.DataFrame:
        """How much of the last layer's Grad-CAM is in earlier maps, for every CNN of the profile.

        One row per CNN, position, image and kind ("single layer" or "average"): Pearson correlation over pixels.
        """
        p, frames = self.profile, []
        images = self.chosen(dataset, "test").batch()
        for (_, arch), fitted in self.classifiers(self.all_pairs([dataset])).items():
            maps = layer_cams(fitted.model, images, tap=p.tap, size=p.gan_size).maps
            ends = positions(maps.shape[1], p.eta, p.rounding)
            kinds = {"single layer": maps[:, [e - 1 for e in ends]], "average": cgma(maps, p.eta, p.rounding)}
            for kind, part in kinds.items():
                r = correlation(part, maps[:, -1:])
                frame = pd.DataFrame(r.numpy(), columns=range(p.eta)).melt(var_name="K", value_name="r")
                frames.append(frame.assign(arch=arch, kind=kind, layer=frame["K"].map(dict(enumerate(ends)))))
        return pd.concat(frames, ignore_index=True)

    def accuracies(self) -> pd.DataFrame:
        """One row per CNN of the profile: its size and test accuracy with a 95 % Wilson interval."""
        rows = []
        for (dataset, arch), fitted in self.classifiers(self.all_pairs()).items():
            n = int(fitted.confusion.sum())
            test = binomtest(int(fitted.confusion.trace()), n).proportion_ci(method="wilson")
            rows.append({
                "data": self.labels()[dataset],
                "dataset": dataset,
                "arch": arch,
                "parameters": count_parameters(fitted.model),
                "classes": len(fitted.confusion),
                "test images": n,
                "accuracy": fitted.test_accuracy,
                "low": test.low,
                "high": test.high,
            })  # fmt: skip
        return pd.DataFrame(rows)

    def previews(self, gan: TrainedGAN, dataset: str, arch: str) -> Tensor:
        """Maps (epochs + 1, n, H, W) of the watched examples of one pair, epoch by epoch; 0 is the untrained net."""
        sizes = [len(self.explained(*pair, "watched").labels) for pair in self.all_pairs()]
        return gan.previews.split(sizes, dim=1)[self.all_pairs().index((dataset, arch))]

    def progress(self, gan: TrainedGAN, dataset: str) -> pd.DataFrame:
        """Learning curve of a GAN on the watched examples of one data set: epoch, step, Dice with Grad-CAM."""
        overlap = [
            torch.stack([dice(binarise(maps), truth) for maps in self.previews(gan, dataset, arch)])
            for arch in self.profile.cnns
            for truth in [binarise(self.explained(dataset, arch, "watched").examples.targets)]
        ]
        return gan.curve[["epoch", "step"]].assign(dice=torch.cat(overlap, dim=1).mean(1).numpy())

    def data_sources(self) -> list[dict[str, str]]:
        """For each data set of the profile: dataset, source, label (what it is, in words)."""
        return [
            {"dataset": d, "source": s.source, "label": self.image_data(d).label}
            for d, s in self.profile.datasets.items()
        ]

    def labels(self) -> dict[str, str]:
        """Data set -> what it is, in a few words. Show these, not the registry's names, wherever results stand."""
        return {row["dataset"]: row["label"].partition(" (")[0] for row in self.data_sources()}

    def provenance(self) -> dict[str, Any]:
        """What made these results: profile, overrides, seed, data, and `sftgan.provenance.provenance()`."""
        labels = ", ".join(row["label"] for row in self.data_sources())
        own = {"profile": self.profile.name, "overrides": self.overrides, "seed": self.seed, "data": labels}
        return own | provenance()

    def save(self, item: matplotlib.figure.Figure | pd.DataFrame, name: str) -> None:
        """Write a figure (PNG) or a frame (CSV), and its provenance (JSON), if figures are being recorded.

        That is, below SFTGAN_FIGURES, which `sftgan record` sets. Otherwise nothing is written.
        """
        if not os.environ.get("SFTGAN_FIGURES"):
            return
        path = Path(os.environ["SFTGAN_FIGURES"]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(item, pd.DataFrame):
            item.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
        else:
            item.savefig(path.with_suffix(".png"), dpi=150, bbox_inches="tight")
        path.with_suffix(".json").write_text(json.dumps(self.provenance(), indent=1) + "\n")

    def _prepare(self) -> None:
        """Compute what the GANs need, side by side where several processes may run."""
        pairs = self.all_pairs()
        self.classifiers(pairs)
        parts = ("train", "watched", "test")
        EXPLAINED.all([self._explained_config(*pair, part) for pair in pairs for part in parts], self.runtime)

    def _data_config(self, dataset: str) -> Config:
        source = self.profile.datasets[check_name(dataset, self.profile.datasets, "data set")]
        load = {"name": dataset, "size": self.profile.size, "seed": self.seed, **source.model_dump()}
        return {"title": dataset, "load": load, "files": _fingerprint(dataset, source)}

    def _cnn_config(self, dataset: str, arch: str) -> Config:
        p = self.profile
        return {
            "title": f"{arch} on {dataset}",
            "data": self._data_config(dataset),
            "arch": arch,
            "shape": {"width": p.cnn_width, "size": p.size, "last_map": p.last_map},
            "pretrained": p.pretrained,
            "recipe": p.cnns[arch].model_dump(),
            "seed": self.seed,
        }

    def _images_config(self, dataset: str, part: str) -> Config:
        check_name(part, ["train", "test", "watched"], "part")
        p = self.profile
        seen, held_out = self.classes(dataset)
        n = {"train": p.gan_train, "test": p.gan_test, "watched": min(p.gan_watched, p.gan_test)}[part]
        training = part == "train"
        return {"train": training, "classes": seen if training else held_out, "n": n, "seed": self.seed}

    def _explained_config(self, dataset: str, arch: str, part: str) -> Config:
        p = self.profile
        return {
            "title": f"{arch} on {dataset}, {part}",
            "cnn": self._cnn_config(dataset, arch),
            "images": self._images_config(dataset, part),
            "size": p.gan_size,
            "tap": p.tap,
            "eta": p.eta,
            "rounding": p.rounding,
        }

    def _gan_config(self, kind: str, datasets: Iterable[str] | None = None) -> Config:
        p = self.profile
        recipe = GANRecipe(
            kind,
            p.eta,
            p.gan_width,
            p.gan_epochs,
            p.gan_batch,
            p.gan_lr,
            p.reconstruction,
            p.reconstruction_weight,
        )
        return {
            "title": f"{kind} on {', '.join(datasets or p.datasets)}",
            "train": [self._explained_config(*pair, "train") for pair in self.all_pairs(datasets)],
            "watched": [self._explained_config(*pair, "watched") for pair in self.all_pairs()],
            "recipe": asdict(recipe),
            "seed": self.seed,
        }


def _fingerprint(dataset: str, source: DataSource) -> str | None:
    """Digest of the names, sizes and times of the files of a data folder: other files, other results."""
    root = os.environ.get("SFTGAN_DATA")
    if source.source != "folder" or not root:
        return None
    files = sorted(f for f in Path(root, source.folder or dataset).rglob("*") if f.is_file())
    return joblib.hash([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
