"""From a profile and a seed to results: what the notebooks ask for, computed when first asked."""

import json
import os
import warnings
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

warnings.filterwarnings("ignore", message="IProgress not found")  # timm imports tqdm.auto; no bar is wanted
STRATEGIES = ("similar", "dissimilar")


class Study:
    """The experiments of one profile and one seed. Everything is computed when first asked for, and remembered.

    For results that repeat, a study fixes torch's number of threads and its deterministic algorithms, for the whole
    process.

    `strategy`, `dataset` and `arch` select what is shown; a GAN is always trained on all pairs of its strategy,
    as in the paper. Any field of the profile can be overridden: `Study("smoke", eta=4)`.
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
        """The study that a notebook's parameters ask for; call it first, with `globals()`.

        `own` names the parameters that this notebook has beside profile, seed, strategy, dataset, arch and the
        profile's fields. papermill only warns of an unknown parameter; here it is refused, with the nearest valid
        name.
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
        if before:  # the cell is run again: what the notebook made since is not a parameter
            given = {n: v for n, v in given.items() if n in known or n in before[0].overrides}
        for name in given:
            check_name(name, [*known, *FIELDS], "parameter")
        return cls(**{n: v for n, v in given.items() if n not in own})

    def trial(self, **switches: Any) -> "Study":
        """A study of the profile's trial size, with some fields changed: so are single choices tried.

        Of the trial's data sets those that the study has; of a strategy that has none of them, all.
        """
        own, p, chosen = self.profile.trial, self.profile, {}
        for strategy, names in self.of_strategy.items():
            if some := [name for name in names if name in own.datasets]:
                chosen[strategy] = {name: getattr(p, strategy)[name] for name in some}
        sizes = own.model_dump(exclude={"datasets"})
        return Study(p.name, self.seed, **self.overrides | chosen | sizes | switches)

    def replicates(self) -> list["Study"]:
        """This study and those of the next seeds, as many as the profile's `seeds`."""
        others = range(self.seed + 1, self.seed + self.profile.seeds)
        return [self, *(Study(self.profile.name, s, **self.selection, **self.overrides) for s in others)]

    def strategy(self, dataset: str) -> str:
        """The strategy whose GANs are trained on a data set."""
        names = {name: strategy for strategy in STRATEGIES for name in self.of_strategy[strategy]}
        return names[check_name(dataset, names, "data set")]

    def pairs(self) -> list[tuple[str, str]]:
        """The selected (data set, CNN) pairs that GANs are trained on."""
        return [(dataset, arch) for dataset in self.datasets for arch in self.archs]

    def all_pairs(self, datasets: Iterable[str]) -> list[tuple[str, str]]:
        """All pairs of some data sets."""
        return [(dataset, arch) for dataset in datasets for arch in self.profile.cnns]

    def unseen(self) -> list[tuple[str, str]]:
        """The pairs that no GAN of the dissimilar strategy is trained on (4.3.4)."""
        return [
            (pair.dataset, pair.arch)
            for pair in self.profile.extra
            if REGISTRY[pair.dataset].semantics != "overfitted"
        ]

    def image_data(self, dataset: str, arch: str | None = None) -> ImageData:
        """One data set of the profile, at the size of the CNN's images."""
        return IMAGE_DATA(self._data_config(dataset, arch), self.runtime)

    def classes(self, dataset: str, arch: str | None = None) -> tuple[list[int], list[int]]:
        """Class indices that the GANs see, and those held out from them: all, where no GAN sees the data set."""
        source, _ = self._source(dataset, arch)
        key = dataset, source.source, source.folder
        if key not in self._names:
            self._names[key] = self.image_data(dataset, arch).classes
        names = self._names[key]
        if not any(dataset in datasets for datasets in self.of_strategy.values()):
            return list(range(len(names))), list(range(len(names)))
        return datasets.class_split(names, self.profile.held_out, self.seed)

    def classifiers(self, pairs: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], Fitted]:
        """The fitted CNNs of some pairs; None: the selected ones."""
        pairs = self.pairs() if pairs is None else pairs
        fitted = CLASSIFIER.all([self._cnn_config(*pair) for pair in pairs], self.runtime)
        return dict(zip(pairs, fitted, strict=True))

    def explained_images(
        self, dataset: str, arch: str, part: str, cnn_of: str | None = None
    ) -> ExplainedImages:
        """CGMAs and targets of one pair: part "train" is of seen classes, "test" of held-out ones.

        "watched" is the beginning of "test", on which the training shows its progress. `cnn_of` is the data set
        that the CNN was fitted to, where it is another one.
        """
        return EXPLAINED(self._explained_config(dataset, arch, part, cnn_of), self.runtime)

    def chosen(self, dataset: str, arch: str, part: str) -> Split:
        """The images behind `explained`, in the same order, at the CNN's size."""
        return self.image_data(dataset, arch).chosen(**self._images_config(dataset, arch, part))

    def gans(self, strategy: str, kinds: Sequence[str] = KINDS) -> dict[str, TrainedGAN]:
        """The GANs trained on all pairs of a strategy."""
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
        """A GAN trained on the pairs of one data set only (paper, 4.3.3), watched on all of its strategy."""
        config = self._gan_config(kind, [dataset])
        if not GAN.is_stored(config, self.runtime):
            self.prepare(self.strategy(dataset))
        return GAN(config, self.runtime)

    def case(
        self, dataset: str, arch: str, strategy: str | None = None, cnn_of: str | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> Config:  # fmt: skip
        """What decides the maps of one pair: its test and training examples, and the GANs of a strategy.

        strategy: None for the data set's own.
        """
        strategy = strategy or self.strategy(dataset)
        return {
            "title": f"{arch} on {dataset}, {strategy} strategy",
            "test": self._explained_config(dataset, arch, "test", cnn_of),
            "train": self._explained_config(dataset, arch, "train", cnn_of),
            "gans": self.gan_configs(strategy, kinds),
        }

    def gan_configs(self, strategy: str, kinds: Sequence[str] = KINDS) -> dict[str, Config]:
        """What decides the GANs of a strategy, which are trained now if need be."""
        self.gans(strategy, kinds)
        return {kind: self._gan_config(kind, self.of_strategy[strategy]) for kind in kinds}

    def maps(
        self, dataset: str, arch: str, strategy: str | None = None, cnn_of: str | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Maps (n, H, W) in [0, 1] of `experiments.METHODS`, for the pair's test examples; see `case`."""
        return MAPS(self.case(dataset, arch, strategy, cnn_of, kinds), self.runtime)

    def compared(
        self, dataset: str, arch: str, index: Sequence[int], methods: Sequence[str], cnn_of: str | None = None
    ) -> dict[str, Tensor]:
        """Maps (n, H, W) in [0, 1] of other methods (`baselines.maps`) for some test examples; see `explained`."""
        config = {
            "title": f"{', '.join(methods)}: {arch} on {dataset}",
            "test": self._explained_config(dataset, arch, "test", cnn_of),
            "index": [int(i) for i in index],
            "methods": list(methods),
            "seed": self.seed,
        }
        return COMPARED(config, self.runtime)

    def captions(self) -> CaptionData:
        """The captioned images of the profile."""
        return CAPTION_DATA(self._captions_config, self.runtime)

    def captioner(self) -> FittedCaptioner:
        """The captioning model (4.3.7)."""
        return CAPTIONER(self.captioner_config(), self.runtime)

    def captioner_config(self) -> Config:
        """What decides the captioning model."""
        own = self.profile.captions
        return {
            "title": "captions",
            "data": self._captions_config,
            "cnn": self._cnn_config(*own.encoder),
            "fit": {"epochs": own.epochs, "batch": own.batch, "lr": own.lr},
            "seed": self.seed,
        }

    def previews(self, gan: TrainedGAN, dataset: str, arch: str) -> Tensor:
        """Maps (epochs + 1, n, H, W) of the watched examples of one pair, epoch by epoch; 0 is the untrained net."""
        pairs = self.all_pairs(self.of_strategy[self.strategy(dataset)])
        sizes = [len(self.explained_images(*pair, "watched").labels) for pair in pairs]
        return gan.previews.split(sizes, dim=1)[pairs.index((dataset, arch))]

    def data_sources(self) -> list[dict[str, str]]:
        """For each data set of the profile: dataset, source, label (what it is, in words)."""
        return [
            {
                "dataset": name,
                "source": s.source,
                "label": s.label or datasets.label(name, s.source, s.folder),
            }
            for name, s in self._sources().items()
        ]

    def files(self) -> list[str | None]:
        """Digests of the files that the data sets of the profile are read from; None where there are none."""
        return [source.fingerprint(name) for name, source in self._sources().items()]

    def _sources(self) -> dict[str, DataSource | Captions]:
        p = self.profile
        used = {pair.dataset: pair for pair in p.extra} | p.similar | p.dissimilar | {"coco": p.captions}
        return {name: used[name] for name in REGISTRY if name in used}

    def labels(self) -> dict[str, str]:
        """Data set -> what it is, in a few words. Show these, not the registry's names, wherever results stand."""
        return {row["dataset"]: row["label"].partition(" (")[0] for row in self.data_sources()}

    def provenance(self) -> dict[str, Any]:
        """What made these results: profile and its data, overrides, seed, and `sftgan.provenance.provenance()`."""
        labels = "; ".join(row["label"] for row in self.data_sources())
        own = {
            "profile": self.profile.name,
            "overrides": self.overrides,
            "seed": self.seed,
            "data of the profile": labels,
        }
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

    def prepare(self, strategy: str) -> None:
        """Compute what the GANs of a strategy need, side by side where several processes may run."""
        pairs = self.all_pairs(self.of_strategy[strategy])
        CLASSIFIER.fill([self._cnn_config(*pair) for pair in pairs], self.runtime)
        parts = ("train", "watched", "test")
        EXPLAINED.fill(
            [self._explained_config(*pair, part) for pair in pairs for part in parts], self.runtime
        )

    def _source(self, dataset: str, arch: str | None = None) -> tuple[DataSource, CNNRecipe | None]:
        """Where the images of a pair come from, and how its CNN is fitted; arch=None: those of a strategy."""
        p = self.profile
        strategies = p.similar | p.dissimilar
        if dataset in strategies and (arch is None or arch in p.cnns):
            return strategies[dataset], None if arch is None else p.cnns[arch]
        extra = {(pair.dataset, pair.arch): pair for pair in p.extra}
        if arch is None:
            check_name(dataset, strategies, "data set")
        found = extra.get((dataset, arch or ""))
        if found is None:
            known = ", ".join(" with ".join(pair) for pair in extra)
            raise InputError(
                f"profile {p.name} has no {arch} on {dataset}: beside the strategies it has {known}."
            )
        return found, found.cnn

    def _data_config(self, dataset: str, arch: str | None = None) -> Config:
        """What decides a data set. A study sees the files of a folder as they are when it first looks."""
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
        assert recipe is not None  # as the architecture is named
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


Pair = tuple[str, str]
"""A data set and a CNN."""
