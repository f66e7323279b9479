"""Results of one profile and one seed, each computed when it is first needed."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.figure
import pandas as pd
from torch import Tensor

from sftgan.cams.model_state import resolve
from sftgan.companion.data import datasets
from sftgan.companion.data.captions import CaptionData
from sftgan.companion.data.datasets import ImageData, Split
from sftgan.companion.data.registry import REGISTRY
from sftgan.companion.fitting.captioner import FittedCaptioner
from sftgan.companion.fitting.classifiers import Fitted
from sftgan.companion.study.cache import Config, Runtime
from sftgan.companion.study.profile import FIELDS, Captions, CNNRecipe, DataSource, Profile, load_profile
from sftgan.companion.study.stages import (
    CAPTION_DATA,
    CAPTIONER,
    CLASSIFIER,
    COMPARED,
    EXPLAINED,
    GAN,
    IMAGE_DATA,
    MAPS,
)
from sftgan.errors import InputError, check_name
from sftgan.gan.examples import ExplainedImages
from sftgan.gan.networks import KINDS
from sftgan.gan.training import TrainedGAN
from sftgan.provenance import provenance

Pair = tuple[str, str]
"""A data set and a CNN."""
STRATEGIES = ("similar", "dissimilar")


class Study:
    """The experiments of one profile and one seed.

    Each result is computed when it is first needed, and cached. To make results repeatable, a study sets torch's
    number of threads and its deterministic algorithms, process-wide.

    ``strategy``, ``dataset`` and ``arch`` select what is shown. A GAN is always trained on all pairs of its strategy,
    as in the paper.

    Parameters
    ----------
    profile
        Name of the profile.
    seed
        Seed of everything random, from 0 to 2**32 - 1.
    strategy
        "similar" or "dissimilar"; None selects both.
    dataset
        Data set of the selected strategies; None selects all.
    arch
        Architecture of the profile; None selects all.
    **overrides
        Values of fields that replace those of the profile, as in ``Study("smoke", eta=4)``.

    Raises
    ------
    InputError
        If a name is unknown, or the seed or a field of the profile is invalid.
    """

    def __init__(
        self,
        profile: str = "smoke",
        seed: int = 0,
        strategy: str | None = None,
        dataset: str | None = None,
        arch: str | None = None,
        **overrides: Any,
    ):
        self.profile: Profile = load_profile(profile, **overrides)
        self.overrides = overrides
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}.")
        self.seed = seed
        self.selection = {"strategy": strategy, "dataset": dataset, "arch": arch}
        p = self.profile
        self.of_strategy = {"similar": tuple(p.similar), "dissimilar": tuple(p.dissimilar)}
        both = STRATEGIES if strategy is None else [check_name(strategy, STRATEGIES, "strategy")]
        self.datasets = [name for s in both for name in self.of_strategy[s]]
        if dataset is not None:
            self.datasets = [check_name(dataset, self.datasets, "data set")]
        self.archs = list(p.cnns) if arch is None else [check_name(arch, p.cnns, "architecture")]
        workers = int(os.environ.get("SFTGAN_WORKERS", p.workers))  # set where notebooks run side by side
        self.runtime = Runtime(resolve(p.accelerator), p.threads, workers)
        self.runtime.pin()
        self._gans: dict[tuple[str, str], TrainedGAN] = {}
        self._data_configs: dict[tuple[str, str | None], Config] = {}
        self._names: dict[tuple[str, str, str | None], tuple[str, ...]] = {}  # of the classes

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any], *own: str) -> "Study":
        """Create the study that a notebook's parameters describe.

        Call it at the start of the notebook, with ``globals()``. papermill only warns of an unknown parameter; this
        method rejects it and suggests the nearest valid name.

        Parameters
        ----------
        namespace
            Variables of the notebook, by name.
        *own
            Names of parameters that only this notebook has, besides profile, seed, strategy, dataset, arch and the
            fields of the profile.

        Returns
        -------
        Study
            The study.

        Raises
        ------
        InputError
            If a parameter is unknown or its value is invalid.
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
        known = ["profile", "seed", "strategy", "dataset", "arch", *own]
        before = [value for value in given.values() if isinstance(value, Study)]
        if before:  # the cell is run again: variables that the notebook has created since are not parameters
            given = {n: v for n, v in given.items() if n in known or n in before[0].overrides}
        for name in given:
            check_name(name, [*known, *FIELDS], "parameter")
        return cls(**{n: v for n, v in given.items() if n not in own})

    def trial(self, **switches: Any) -> "Study":
        """Create a study of the profile's trial size with some fields changed, to test single choices.

        A strategy keeps those of its data sets that are in the trial, or all of them if none is.

        Parameters
        ----------
        **switches
            Values of fields that replace those of this study.

        Returns
        -------
        Study
            The smaller study.

        Raises
        ------
        InputError
            If a field is unknown or its value is invalid.
        """
        own, p, chosen = self.profile.trial, self.profile, {}
        for strategy, names in self.of_strategy.items():
            if some := [name for name in names if name in own.datasets]:
                chosen[strategy] = {name: getattr(p, strategy)[name] for name in some}
        sizes = own.model_dump(exclude={"datasets"})
        return Study(p.name, self.seed, **self.overrides | chosen | sizes | switches)

    def replicates(self) -> list["Study"]:
        """Return this study and those of the next seeds, ``profile.seeds`` in all."""
        others = range(self.seed + 1, self.seed + self.profile.seeds)
        return [self, *(Study(self.profile.name, s, **self.selection, **self.overrides) for s in others)]

    def strategy(self, dataset: str) -> str:
        """Return the strategy whose GANs are trained on a data set.

        Parameters
        ----------
        dataset
            Name of the data set.

        Returns
        -------
        str
            "similar" or "dissimilar".

        Raises
        ------
        InputError
            If the data set belongs to neither strategy.
        """
        names = {name: strategy for strategy in STRATEGIES for name in self.of_strategy[strategy]}
        return names[check_name(dataset, names, "data set")]

    def pairs(self) -> list[tuple[str, str]]:
        """Return the selected pairs (data set, CNN) that GANs are trained on."""
        return [(dataset, arch) for dataset in self.datasets for arch in self.archs]

    def all_pairs(self, datasets: Iterable[str]) -> list[tuple[str, str]]:
        """Pair data sets with all CNNs of the profile.

        Parameters
        ----------
        datasets
            Names of the data sets.

        Returns
        -------
        list[tuple[str, str]]
            The pairs (data set, CNN).
        """
        return [(dataset, arch) for dataset in datasets for arch in self.profile.cnns]

    def unseen(self) -> list[tuple[str, str]]:
        """Return the extra pairs that no GAN is trained on, without the overfitted ones (section 4.3.4)."""
        return [
            (pair.dataset, pair.arch)
            for pair in self.profile.extra
            if REGISTRY[pair.dataset].semantics != "overfitted"
        ]

    def image_data(self, dataset: str, arch: str | None = None) -> ImageData:
        """Load a data set of the profile, at the size of the CNN's images.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Architecture of the CNN, for a data set of an extra pair; None for a data set of a strategy.

        Returns
        -------
        ImageData
            Training and test images.

        Raises
        ------
        InputError
            If the profile has no such data set or pair, or the images cannot be loaded.
        """
        return IMAGE_DATA(self._data_config(dataset, arch), self.runtime)

    def classes(self, dataset: str, arch: str | None = None) -> tuple[list[int], list[int]]:
        """Split the classes of a data set into those that the GANs see and those held out (section 4.1.1).

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Architecture of the CNN, for a data set of an extra pair; None for a data set of a strategy.

        Returns
        -------
        tuple[list[int], list[int]]
            Indices of the classes seen and of those held out. Both lists hold all classes if no GAN is trained on
            the data set.

        Raises
        ------
        InputError
            If the profile has no such data set or pair, or the images cannot be loaded.
        """
        source, _ = self._source(dataset, arch)
        key = dataset, source.source, source.folder
        if key not in self._names:
            self._names[key] = self.image_data(dataset, arch).classes
        names = self._names[key]
        if not any(dataset in datasets for datasets in self.of_strategy.values()):
            return list(range(len(names))), list(range(len(names)))
        return datasets.class_split(names, self.profile.held_out, self.seed)

    def classifiers(self, pairs: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], Fitted]:
        """Fit the CNNs of some pairs.

        Parameters
        ----------
        pairs
            The pairs (data set, CNN); None for the selected ones.

        Returns
        -------
        dict[tuple[str, str], Fitted]
            The fitted CNN of each pair.

        Raises
        ------
        InputError
            If the profile has no such pair, or the images cannot be loaded.
        """
        pairs = self.pairs() if pairs is None else pairs
        fitted = CLASSIFIER.all([self._cnn_config(*pair) for pair in pairs], self.runtime)
        return dict(zip(pairs, fitted, strict=True))

    def explained_images(
        self, dataset: str, arch: str, part: str, cnn_of: str | None = None
    ) -> ExplainedImages:
        """Compute the CGMAs and targets of one pair.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Name of the architecture.
        part
            "train" for training images of seen classes, "test" for test images of held-out classes, or "watched" for
            the first images of "test", on which the training shows its progress.
        cnn_of
            Data set that the CNN was fitted to; None for ``dataset``.

        Returns
        -------
        ExplainedImages
            Images with their CGMAs, targets and predictions.

        Raises
        ------
        InputError
            If the profile has no such pair, or ``part`` is unknown.
        """
        return EXPLAINED(self._explained_config(dataset, arch, part, cnn_of), self.runtime)

    def chosen(self, dataset: str, arch: str, part: str) -> Split:
        """Return the images of ``explained_images``, in the same order, at the size of the CNN's images.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Name of the architecture.
        part
            "train", "test" or "watched", as in ``explained_images``.

        Returns
        -------
        Split
            The images with their labels and masks.

        Raises
        ------
        InputError
            If the profile has no such pair, or ``part`` is unknown.
        """
        return self.image_data(dataset, arch).chosen(**self._images_config(dataset, arch, part))

    def gans(self, strategy: str, kinds: Sequence[str] = KINDS) -> dict[str, TrainedGAN]:
        """Train GANs on all pairs of a strategy.

        Parameters
        ----------
        strategy
            "similar" or "dissimilar".
        kinds
            Kinds of GANs: "lsft", "gsft".

        Returns
        -------
        dict[str, TrainedGAN]
            The trained GAN of each kind.

        Raises
        ------
        InputError
            If a name is unknown.
        """
        check_name(strategy, STRATEGIES, "strategy")
        missing = [kind for kind in kinds if (strategy, kind) not in self._gans]
        if missing:
            configs = [self._gan_config(kind, self.of_strategy[strategy]) for kind in missing]
            if not all(GAN.is_stored(config, self.runtime) for config in configs):
                self.prepare(strategy)
            trained = GAN.all(configs, self.runtime)
            self._gans |= zip([(strategy, kind) for kind in missing], trained, strict=True)
        return {kind: self._gans[strategy, kind] for kind in kinds}

    def gan_on(self, dataset: str, kind: str = "lsft") -> TrainedGAN:
        """Train a GAN on the pairs of one data set only (section 4.3.3).

        Parameters
        ----------
        dataset
            Name of the data set; it belongs to a strategy.
        kind
            "lsft" or "gsft".

        Returns
        -------
        TrainedGAN
            The trained GAN. Its previews show the watched examples of all pairs of the strategy.

        Raises
        ------
        InputError
            If the data set belongs to neither strategy.
        """
        config = self._gan_config(kind, [dataset])
        if not GAN.is_stored(config, self.runtime):
            self.prepare(self.strategy(dataset))
        return GAN(config, self.runtime)

    def case(
        self, dataset: str, arch: str, strategy: str | None = None, cnn_of: str | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> Config:  # fmt: skip
        """Return the config of the maps of one pair: its examples and the GANs of a strategy.

        The GANs are trained if they are not yet.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Name of the architecture.
        strategy
            Strategy whose GANs are used; None for that of the data set.
        cnn_of
            Data set that the CNN was fitted to; None for ``dataset``.
        kinds
            Kinds of GANs: "lsft", "gsft".

        Returns
        -------
        Config
            Config with "title", "test", "train" and "gans".

        Raises
        ------
        InputError
            If the profile has no such pair, or a name is unknown.
        """
        strategy = strategy or self.strategy(dataset)
        return {
            "title": f"{arch} on {dataset}, {strategy} strategy",
            "test": self._explained_config(dataset, arch, "test", cnn_of),
            "train": self._explained_config(dataset, arch, "train", cnn_of),
            "gans": self.gan_configs(strategy, kinds),
        }

    def gan_configs(self, strategy: str, kinds: Sequence[str] = KINDS) -> dict[str, Config]:
        """Return the configs of the GANs of a strategy.

        The GANs are trained if they are not yet.

        Parameters
        ----------
        strategy
            "similar" or "dissimilar".
        kinds
            Kinds of GANs: "lsft", "gsft".

        Returns
        -------
        dict[str, Config]
            The config of each kind.

        Raises
        ------
        InputError
            If a name is unknown.
        """
        self.gans(strategy, kinds)
        return {kind: self._gan_config(kind, self.of_strategy[strategy]) for kind in kinds}

    def maps(
        self, dataset: str, arch: str, strategy: str | None = None, cnn_of: str | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute the maps of a pair's test examples by all methods.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Name of the architecture.
        strategy
            Strategy whose GANs are used; None for that of the data set.
        cnn_of
            Data set that the CNN was fitted to; None for ``dataset``.
        kinds
            Kinds of GANs: "lsft", "gsft".

        Returns
        -------
        dict[str, Tensor]
            For each method of ``frames.METHODS``, maps (n, H, W) in [0, 1].

        Raises
        ------
        InputError
            If the profile has no such pair, or a name is unknown.
        """
        return MAPS(self.case(dataset, arch, strategy, cnn_of, kinds), self.runtime)

    def compared(
        self, dataset: str, arch: str, index: Sequence[int], methods: Sequence[str], cnn_of: str | None = None
    ) -> dict[str, Tensor]:
        """Compute the maps of some test examples by other methods of interpretation.

        Parameters
        ----------
        dataset
            Name of the data set.
        arch
            Name of the architecture.
        index
            Positions of the test examples.
        methods
            Names from ``methods.OTHER_METHODS``.
        cnn_of
            Data set that the CNN was fitted to; None for ``dataset``.

        Returns
        -------
        dict[str, Tensor]
            For each method, maps (n, H, W) in [0, 1].

        Raises
        ------
        InputError
            If the profile has no such pair, or a method is unknown.
        """
        config = {
            "title": f"{', '.join(methods)}: {arch} on {dataset}",
            "test": self._explained_config(dataset, arch, "test", cnn_of),
            "index": [int(i) for i in index],
            "methods": list(methods),
            "seed": self.seed,
        }
        return COMPARED(config, self.runtime)

    def captions(self) -> CaptionData:
        """Load the captioned images of the profile."""
        return CAPTION_DATA(self._captions_config, self.runtime)

    def captioner(self) -> FittedCaptioner:
        """Fit the captioning model of the profile (section 4.3.7)."""
        return CAPTIONER(self.captioner_config(), self.runtime)

    def captioner_config(self) -> Config:
        """Return the config of the captioning model."""
        own = self.profile.captions
        return {
            "title": "captions",
            "data": self._captions_config,
            "cnn": self._cnn_config(*own.encoder),
            "fit": {"epochs": own.epochs, "batch": own.batch, "lr": own.lr},
            "seed": self.seed,
        }

    def previews(self, gan: TrainedGAN, dataset: str, arch: str) -> Tensor:
        """Select the previews of one pair from those of a GAN.

        Parameters
        ----------
        gan
            GAN trained on the strategy of the data set, or on one data set of it.
        dataset
            Name of the data set.
        arch
            Name of the architecture.

        Returns
        -------
        Tensor
            Maps (epochs + 1, n, H, W) of the watched examples, before training and after each epoch.

        Raises
        ------
        InputError
            If the data set belongs to neither strategy.
        """
        pairs = self.all_pairs(self.of_strategy[self.strategy(dataset)])
        sizes = [len(self.explained_images(*pair, "watched").labels) for pair in pairs]
        return gan.previews.split(sizes, dim=1)[pairs.index((dataset, arch))]

    def data_sources(self) -> list[dict[str, str]]:
        """List the data sets of the profile, each with ``dataset``, ``source`` and ``label`` (what it is)."""
        return [
            {
                "dataset": name,
                "source": s.source,
                "label": s.label or datasets.label(name, s.source, s.folder),
            }
            for name, s in self._sources().items()
        ]

    def files(self) -> list[str | None]:
        """Return the ``fingerprint`` of each data set of the profile; None where no files are read."""
        return [source.fingerprint(name) for name, source in self._sources().items()]

    def _sources(self) -> dict[str, DataSource | Captions]:
        p = self.profile
        used = {pair.dataset: pair for pair in p.extra} | p.similar | p.dissimilar | {"coco": p.captions}
        return {name: used[name] for name in REGISTRY if name in used}

    def labels(self) -> dict[str, str]:
        """Return a short label of each data set, to show beside results instead of its name in the registry."""
        return {row["dataset"]: row["label"].partition(" (")[0] for row in self.data_sources()}

    def provenance(self) -> dict[str, Any]:
        """Return where the results come from: profile, data, overrides and seed, and ``provenance.provenance()``."""
        labels = "; ".join(row["label"] for row in self.data_sources())
        own = {
            "profile": self.profile.name,
            "overrides": self.overrides,
            "seed": self.seed,
            "data of the profile": labels,
        }
        return own | provenance()

    def save(self, item: matplotlib.figure.Figure | pd.DataFrame, name: str) -> None:
        """Write a figure (PNG) or a frame (CSV) with its provenance (JSON), if results are being recorded.

        The files go to the folder SFTGAN_FIGURES, which ``sftgan record`` sets. Without it nothing is written.

        Parameters
        ----------
        item
            The figure or frame.
        name
            Path of the files below the folder, without a suffix.
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

    def prepare(self, strategy: str) -> None:
        """Fit the CNNs and compute the examples for the GANs of a strategy, in parallel processes.

        Parameters
        ----------
        strategy
            "similar" or "dissimilar".
        """
        pairs = self.all_pairs(self.of_strategy[strategy])
        CLASSIFIER.fill([self._cnn_config(*pair) for pair in pairs], self.runtime)
        parts = ("train", "watched", "test")
        EXPLAINED.fill(
            [self._explained_config(*pair, part) for pair in pairs for part in parts], self.runtime
        )

    def _source(self, dataset: str, arch: str | None = None) -> tuple[DataSource, CNNRecipe | None]:
        """Return the source of a pair's images and the recipe of its CNN; without a CNN, the source in a strategy."""
        p = self.profile
        strategies = p.similar | p.dissimilar
        if dataset in strategies and (arch is None or arch in p.cnns):
            return strategies[dataset], None if arch is None else p.cnns[arch]
        extra = {(pair.dataset, pair.arch): pair for pair in p.extra}
        if arch is None:
            check_name(dataset, strategies, "data set")
        found = extra.get((dataset, arch or ""))
        if found is None:
            known = ", ".join(" with ".join(pair) for pair in extra) or "none"
            raise InputError(
                f"profile {p.name} has no {arch} on {dataset}: besides the pairs of the strategies, it has {known}."
            )
        return found, found.cnn

    def _data_config(self, dataset: str, arch: str | None = None) -> Config:
        """Return the config of a data set; later changes to the files of a folder are not noticed."""
        if (dataset, arch) not in self._data_configs:
            source, _ = self._source(dataset, arch)
            size = getattr(source, "size", None) or self.profile.size
            chosen = source.model_dump(include=set(DataSource.model_fields) - {"label"})
            load = {"name": dataset, "size": size, "seed": self.seed, **chosen}
            config = {"title": dataset, "load": load, "files": source.fingerprint(dataset)}
            self._data_configs[dataset, arch] = config
        return self._data_configs[dataset, arch]

    @cached_property
    def _captions_config(self) -> Config:
        own = self.profile.captions
        load = own.model_dump(include={"source", "folder", "train", "test"})
        load |= {"size": self.profile.size, "seed": self.seed}
        return {"title": "captions", "load": load, "files": own.fingerprint("coco")}

    def _cnn_config(self, dataset: str, arch: str) -> Config:
        p = self.profile
        source, recipe = self._source(dataset, arch)
        config = self._data_config(dataset, arch)
        assert recipe is not None  # an architecture is given
        pretrained = getattr(source, "pretrained", None)
        return {
            "title": f"{arch} on {dataset}",
            "data": config,
            "arch": arch,
            "shape": {"width": p.cnn_width, "size": config["load"]["size"], "last_map": p.last_map},
            "pretrained": p.pretrained if pretrained is None else pretrained,
            "recipe": recipe.model_dump(),
            "seed": self.seed,
        }

    def _images_config(self, dataset: str, arch: str, part: str) -> Config:
        check_name(part, ["train", "test", "watched"], "part")
        p = self.profile
        seen, held_out = self.classes(dataset, arch)
        n = {"train": p.gan_train, "test": p.gan_test, "watched": min(p.gan_watched, p.gan_test)}[part]
        training = part == "train"
        trained_on = sorted(seen + held_out) if p.gan_split == "rows" else seen
        return {"train": training, "classes": trained_on if training else held_out, "n": n, "seed": self.seed}

    def _explained_config(self, dataset: str, arch: str, part: str, cnn_of: str | None = None) -> Config:
        p = self.profile
        return {
            "title": f"{arch} on {dataset}, {part}",
            "cnn": self._cnn_config(cnn_of or dataset, arch),
            "data": self._data_config(dataset, arch),
            "images": self._images_config(dataset, arch, part),
            "size": p.gan_size,
            "reading": asdict(p.condition_spec()),
        }

    def _gan_config(self, kind: str, datasets: Sequence[str]) -> Config:
        watched = self.all_pairs(self.of_strategy[self.strategy(datasets[0])])
        return {
            "title": f"{kind} on {', '.join(datasets)}",
            "train": [self._explained_config(*pair, "train") for pair in self.all_pairs(datasets)],
            "watched": [self._explained_config(*pair, "watched") for pair in watched],
            "recipe": asdict(self.profile.gan_recipe(kind)),
            "seed": self.seed,
        }
