"""Profiles: the settings of everything that the notebooks compute, read from YAML files and checked."""

import os
from dataclasses import fields
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import ARCHITECTURES
from sftgan.companion.data import datasets
from sftgan.companion.data.registry import REGISTRY
from sftgan.errors import InputError, check_name
from sftgan.gan.training import GANRecipe


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Source(_Strict):
    source: str
    folder: str | None = None
    label: str | None = Field(
        None,
        description="what the data are, shown beside results: a short name, details in brackets; default: by source",
    )

    def fingerprint(self, dataset: str) -> str | None:
        """Compute what identifies the files of a data set, so that other files give other results.

        Parameters
        ----------
        dataset
            Name of the data set; its folder has this name unless ``folder`` is given.

        Returns
        -------
        str | None
            For the source "folder", a digest of the names, sizes and times of the files. For "torchvision", whose
            files do not change, the folder SFTGAN_DATA. None for other sources, or if SFTGAN_DATA is not set.
        """
        root = os.environ.get("SFTGAN_DATA")
        if self.source == "torchvision":
            return root
        if self.source != "folder" or not root:
            return None
        return datasets.fingerprint(Path(root, self.folder or dataset))


class DataSource(_Source):
    """The source of a data set, and the number of its images that are used."""

    source: Literal["embedded", "folder", "torchvision", "kagglehub"]
    folder: str | None = Field(None, description="name below SFTGAN_DATA; default: the data set's name")
    train: PositiveInt | None = Field(None, description="number of images the CNNs are trained on; null: all")
    test: PositiveInt | None = Field(
        None, description="number of images on which nothing is trained; null: all"
    )
    download: bool = Field(False, description="let torchvision download what is missing")
    skip_unreadable: bool = Field(False, description="leave out pictures that cannot be read")


class CNNRecipe(_Strict):
    """Settings for fitting the CNNs of one architecture; see ``classifiers.ClassifierRecipe``.

    Attributes
    ----------
    optimiser
        "adamw", "adam" or "sgd".
    lr
        Learning rate: the peak of a one-cycle schedule, or constant.
    one_cycle
        Whether the learning rate follows a one-cycle schedule.
    batch
        Number of images in a batch.
    epochs
        Number of epochs, unless ``min_steps`` needs more.
    head_epochs
        Epochs on the last linear layer alone, before all others.
    min_steps
        Least number of optimiser steps.
    last_convolutions
        Fit only this many of the last convolutions and everything after them; None fits everything.
    """

    optimiser: Literal["adamw", "adam", "sgd"]
    lr: PositiveFloat
    one_cycle: bool = True
    batch: int = Field(32, ge=2)
    epochs: NonNegativeInt
    head_epochs: NonNegativeInt = 0
    min_steps: NonNegativeInt = 0
    last_convolutions: PositiveInt | None = None


class ExtraPair(DataSource):
    """A data set and a CNN on which no GAN is trained."""

    dataset: str
    arch: str
    cnn: CNNRecipe
    size: int | None = Field(None, ge=16, description="side of its images, pixels; default: the profile's")
    pretrained: bool | None = Field(None, description="start from ImageNet weights; default: the profile's")


class Captions(_Source):
    """The source of the captioned images, and the settings for fitting the captioning model (section 4.3.7)."""

    source: Literal["embedded", "folder", "torchvision"]
    folder: str | None = Field(None, description="name below SFTGAN_DATA")
    train: PositiveInt | None = Field(None, description="training images; null: all")
    test: PositiveInt | None = Field(None, description="test images; null: all")
    encoder: tuple[str, str] = Field(description="the (data set, CNN) whose weights the encoder begins with")
    epochs: PositiveInt
    batch: PositiveInt = 32
    lr: PositiveFloat = 3e-3


class Trial(_Strict):
    """Sizes of the short trials in which one choice is changed at a time; see ``Study.trial``.

    Attributes
    ----------
    datasets
        Data sets of the strategies that the trials use.
    gan_train
        Largest number of training examples of each data set and CNN.
    gan_test
        Largest number of test images of each data set and CNN.
    gan_epochs
        Number of passes over the training examples.
    """

    datasets: tuple[str, ...] = Field(min_length=1, description="data sets of the strategies that are used")
    gan_train: PositiveInt
    gan_test: PositiveInt
    gan_epochs: PositiveInt


class Profile(_Strict):
    """All settings that decide a result, except the seed; ``describe`` explains a field."""

    name: str
    purpose: str = Field(description="one sentence for the status page")
    similar: dict[str, DataSource] = Field(
        min_length=1, description="data sets of the first strategy: similar semantics (4.1.1)"
    )
    dissimilar: dict[str, DataSource] = Field(
        min_length=1, description="data sets of the second strategy: dissimilar semantics (4.1.1)"
    )
    extra: tuple[ExtraPair, ...] = Field(
        (), description="pairs that no GAN is trained on: unseen (4.3.4, 4.3.5), overfitted (4.3.6)"
    )
    captions: Captions = Field(description="captioned images and the model that captions (4.3.7)")
    size: int = Field(ge=16, description="side of the images that the CNNs see, pixels")
    cnn_width: float = Field(gt=0, le=1, description="share of the CNNs' channels that is kept")
    last_map: int = Field(
        ge=2, description="smallest side of the CNNs' last map, pixels; strides are dropped for it"
    )
    pretrained: bool = Field(description="start the CNNs from ImageNet weights (needs cnn_width 1)")
    cnns: dict[str, CNNRecipe] = Field(min_length=1, description="architectures and recipes (4.1.1)")
    held_out: float = Field(gt=0, lt=1, description="share of the classes that the GANs never see (4.1.1)")
    tap: Literal["post", "pre"] = Field("post", description="Grad-CAM after or before the activation")
    eta: PositiveInt = Field(8, description="number of CGMAs (Eq. 1-2)")
    rounding: Literal["double", "single"] = Field(
        "double", description="rounding in Eq. 1; double: as in the released code"
    )
    gan_size: PositiveInt = Field(ge=16, description="side of conditions, targets and generated maps, pixels")
    gan_width: PositiveInt = Field(description="features of the generators and the discriminator")
    gan_train: PositiveInt = Field(
        description="training examples of each data set and CNN, seen classes, at most"
    )
    gan_test: PositiveInt = Field(
        description="test images of each data set and CNN, held-out classes, at most"
    )
    gan_watched: PositiveInt = Field(
        12, description="test images of each pair on which the training shows its progress"
    )
    gan_epochs: PositiveInt = Field(description="passes over the training examples")
    gan_batch: PositiveInt = Field(16, description="examples in one step")
    gan_lr: PositiveFloat = Field(2e-4, description="of Adam with beta 1 = 0.5, generator and discriminator")
    reconstruction: Literal["mse", "mae"] = Field("mse", description="the paper's MSE or the code's MAE")
    reconstruction_weight: PositiveFloat = Field(100.0, description="of the reconstruction loss against BCE")
    variant: Literal["paper", "released"] = Field(
        "paper", description="released: every switch as in the released code, except those that are given"
    )
    target: Literal["last", "first"] = Field("last", description="the layer whose Grad-CAM is the target")
    accumulate: Literal["first_to_last", "last_to_first"] = Field(
        "first_to_last", description="the order in which the layers' Grad-CAMs are summed (Eq. 3)"
    )
    explained_class: Literal["predicted", "first"] = Field(
        "predicted", description="the class whose score is differentiated; first: class 0 of every image"
    )
    gradients: Literal["plain", "guided"] = Field(
        "plain", description="of Grad-CAM; guided: positive ones at positive activations, then no ReLU"
    )
    minmax_conditions: bool = Field(
        False, description="scale each CGMA to [0, 1], which undoes the division by Positions (Eq. 4)"
    )
    conditions: Literal["scalar", "jet_grey"] = Field(
        "scalar", description="CGMAs as they are, or the grey values of a JPEG of their JET picture"
    )
    output: Literal["scalar", "jet"] = Field("scalar", description="what is drawn: heat maps or JET pictures")
    adversarial: Literal["bce", "softmax", "off"] = Field(
        "bce", description="the adversarial loss; softmax: over one unit, as the code reads; off: none"
    )
    discriminator_period: PositiveInt = Field(1, description="steps from one update of it to the next")
    discriminator_input: Literal["pair", "released"] = Field(
        "pair", description="released: the generator's step shows it the target in the place of the image"
    )
    gan_split: Literal["classes", "rows"] = Field(
        "classes", description="what the GANs never see; rows: no class is held out from them"
    )
    layers: Literal["paper", "released"] = Field("paper", description="of generators and discriminator")
    exclude_target: bool = Field(False, description="leave the target's layer out of the CGMAs")
    cumulative: bool = Field(
        True, description="conditions are averages; false: the Grad-CAM at each position"
    )
    leave_out: NonNegativeInt = Field(0, description="how many of the last CGMAs are left out")
    modulation: Literal["sft", "concatenation"] = Field(
        "sft", description="SFT layers, or a plain net that reads the image and all conditions together"
    )
    seeds: PositiveInt = Field(1, description="number of seeds that the main comparison pools")
    trial: Trial = Field(description="sizes of the short trials of single choices")
    accelerator: Literal["cpu", "cuda", "auto"] = Field("cpu", description="Lightning Fabric's accelerator")
    workers: PositiveInt = Field(description="processes that fit nets in parallel")
    threads: NonNegativeInt = Field(
        1, description="torch threads of each process; another number changes the last bits"
    )

    def condition_spec(self) -> ConditionSpec:
        """Return how conditions and targets are computed."""
        return ConditionSpec(**{field.name: getattr(self, field.name) for field in fields(ConditionSpec)})

    def gan_recipe(self, kind: str) -> GANRecipe:
        """Return how a GAN is trained.

        Parameters
        ----------
        kind
            "lsft" or "gsft".

        Returns
        -------
        GANRecipe
            Settings of the training.
        """
        same = ("reconstruction", "output", "adversarial", "discriminator_period", "discriminator_input")
        return GANRecipe(
            kind, self.condition_spec().channels, self.gan_width, self.gan_epochs, self.gan_batch, self.gan_lr,
            weight=self.reconstruction_weight, layers=self.layers, modulation=self.modulation,
            **{name: getattr(self, name) for name in same},
        )  # fmt: skip


RELEASED = {
    "target": "first", "accumulate": "last_to_first", "explained_class": "first", "gradients": "guided",
    "minmax_conditions": True, "conditions": "jet_grey", "output": "jet", "reconstruction": "mae",
    "adversarial": "softmax", "discriminator_period": 100, "discriminator_input": "released",
    "gan_split": "rows", "layers": "released",
}  # fmt: skip
"""Values of the released code, for the fields in which it differs from the paper."""
SWITCHES = {name: (Profile.model_fields[name].default, value) for name, value in RELEASED.items()}
"""For each of these fields, the value of the paper and that of the released code."""
FIELDS = tuple(name for name in Profile.model_fields if name not in ("name", "purpose"))
"""Names of the fields that can be overridden, from a notebook or from Python."""
_FOLDER = resources.files("sftgan.companion.study") / "profiles"


def profile_names() -> list[str]:
    """Return the names of all profiles, sorted.

    Returns
    -------
    list[str]
        Names that ``load_profile`` accepts.

    Examples
    --------
    >>> profile_names()
    ['cpu', 'paper', 'smoke']
    """
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir())


def describe(field: str) -> str:
    """Return the description of a field of ``Profile``.

    Parameters
    ----------
    field
        Name of the field.

    Returns
    -------
    str
        Its description; empty if it has none.

    Raises
    ------
    InputError
        If there is no such field.

    Examples
    --------
    >>> describe("eta")
    'number of CGMAs (Eq. 1-2)'
    """
    return Profile.model_fields[check_name(field, Profile.model_fields, "profile field")].description or ""


def load_profile(name: str, **overrides: Any) -> Profile:
    """Load a profile, override some of its fields and check the result.

    Parameters
    ----------
    name
        Name of the profile: "smoke", "cpu" or "paper".
    **overrides
        Values of fields that replace those of the profile. ``variant="released"`` also sets the fields of
        ``RELEASED``, except those that are given.

    Returns
    -------
    Profile
        The profile.

    Raises
    ------
    InputError
        If a name is unknown, a value is invalid, or values do not fit together.

    Examples
    --------
    >>> load_profile("smoke", eta=4).eta
    4
    >>> load_profile("smoke", eat=4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sftgan.errors.InputError: unknown profile field 'eat': did you mean 'eta'? (valid: similar, ...
    """
    check_name(name, profile_names(), "profile")
    for field in overrides:
        check_name(field, FIELDS, "profile field")
    released = RELEASED if overrides.get("variant") == "released" else {}
    values = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text()) | released | overrides
    try:
        profile = Profile(name=name, **values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"profile {name}, field {where}: {first['msg']}, got {first['input']!r}.") from None
    datasets, extra = (*profile.similar, *profile.dissimilar), profile.extra
    for dataset in (*datasets, *(pair.dataset for pair in extra)):
        check_name(dataset, REGISTRY, "data set")
    pairs = [(pair.dataset, pair.arch) for pair in extra]
    twice = [
        f"{d} with {a}" for d, a in pairs if (d in datasets and a in profile.cnns) or pairs.count((d, a)) > 1
    ]
    if twice:
        raise InputError(f"profile {name}, field extra: {twice[0]} is there already: give each pair once.")
    both = sorted(set(profile.similar) & set(profile.dissimilar))
    if both:
        raise InputError(f"profile {name}: {both[0]!r} is in both strategies: give it to one of them.")
    archs = (*profile.cnns, *(pair.arch for pair in extra))
    for arch in archs:
        check_name(arch, ARCHITECTURES, "architecture")
    recipes = {f"cnns.{arch}": recipe for arch, recipe in profile.cnns.items()}
    recipes |= {f"extra.{i}.cnn": pair.cnn for i, pair in enumerate(extra)}
    for field, recipe in recipes.items():
        if recipe.epochs + recipe.head_epochs == 0:
            raise InputError(
                f"profile {name}, field {field}: epochs and head_epochs are both 0: choose at least 1 for one of them."
            )
    if "captions" in overrides or not {"similar", "dissimilar", "cnns", "extra"} & set(overrides):
        # if only other pairs are given, the encoder may be missing: the study reports this when captions are needed
        pairs = [*product(datasets, profile.cnns), *((pair.dataset, pair.arch) for pair in extra)]
        check_name(
            " with ".join(profile.captions.encoder), map(" with ".join, pairs), "pair in captions.encoder"
        )
    smallest = min(archs, key=ARCHITECTURES.__getitem__)
    most = ARCHITECTURES[smallest] - profile.exclude_target
    if profile.eta > most:
        raise InputError(
            f"profile {name}: eta is {profile.eta}, but {smallest} has {most} convolutions to average: "
            f"choose at most {most}."
        )
    if profile.leave_out >= profile.eta:
        raise InputError(
            f"profile {name}: leave_out is {profile.leave_out}: choose at most {profile.eta - 1}."
        )
    for dataset in profile.trial.datasets:
        check_name(dataset, REGISTRY, "data set of the trials")
    if profile.pretrained and profile.cnn_width != 1:
        raise InputError(f"profile {name}: pretrained weights need cnn_width 1, got {profile.cnn_width}.")
    return profile
