"""Captioned images (rendered scenes, a folder or MS-COCO) and the roles of their words (section 4.3.7)."""

import contextlib
import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sftgan.companion.data import scenes
from sftgan.companion.data.datasets import TEST_PART, data_root
from sftgan.errors import InputError, check_name
from sftgan.pictures import UNREADABLE, photograph

_SOURCES = ("embedded", "folder", "torchvision")
_Listing = list[tuple[Path, tuple[str, ...]]]
Caption = tuple[str, ...]
ROLES = ("subject", "verb", "second noun", "other")


@dataclass(frozen=True)
class CaptionSplit:
    """Images with their captions.

    Attributes
    ----------
    images
        uint8 (n, 3, size, size).
    captions
        For each image its captions, each a tuple of words.
    masks
        bool (n, size, size), True on the caption's subject; None where its place is not known, as in
        photographs.
    """

    images: Tensor
    captions: tuple[tuple[Caption, ...], ...]
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Any = slice(None)) -> Tensor:
        """Return the images that a tensor's index selects, as float32 (n, 3, size, size) in [0, 1]."""
        return self.images[index].float() / 255


@dataclass(frozen=True)
class CaptionData:
    """A loaded set of captioned images.

    Attributes
    ----------
    source
        "embedded", "folder" or "torchvision".
    label
        What the images are and where they come from.
    train
        Training images.
    test
        Test images.
    """

    source: str
    label: str
    train: CaptionSplit
    test: CaptionSplit


def load_captions(
    source: str = "embedded",
    size: int = 32,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    folder: str | None = None,
) -> CaptionData:
    """Load captioned images as squares.

    The source "embedded" renders scenes of two objects. The source "folder" reads the folder ``images`` and
    the file ``captions.json``, which holds ``{file: [captions]}``, from each of ``ROOT/FOLDER/{train,test}``.
    If both lie in ``ROOT/FOLDER`` itself, a tenth of the images is for testing. The source "torchvision"
    reads MS-COCO from ``ROOT/FOLDER/{train2017,val2017}`` and ``ROOT/FOLDER/annotations``. ROOT is ``root``
    and FOLDER is ``folder``.

    Parameters
    ----------
    source
        "embedded", "folder" or "torchvision".
    size
        Side of the images in pixels.
    train
        Number of training images; None for all, or for 1500 rendered ones.
    test
        Number of test images; None for all, or for 200 rendered ones.
    seed
        Seed of everything random.
    root
        The data folder; None for the environment variable ``SFTGAN_DATA``.
    folder
        Folder of the images inside ``root``; None for "coco".

    Returns
    -------
    CaptionData
        The training and test images. The same arguments give the same images.

    Raises
    ------
    InputError
        If the source is unknown, files are missing or malformed, or there are fewer images than asked for.

    Examples
    --------
    >>> data = load_captions(size=16, train=2, test=1)
    >>> len(data.train), data.test.masks.shape
    (2, torch.Size([1, 16, 16]))
    """
    check_name(source, _SOURCES, "source of captions")
    if source == "embedded":
        numbers = (1500 if train is None else train, 200 if test is None else test)
        parts = [_drawn(n, size, seed, stream) for stream, n in enumerate(numbers)]
        return CaptionData(source, "captioned scenes", *parts)
    path = data_root(root) / (folder or "coco")
    if not path.is_dir():
        raise InputError(
            f"there is no caption folder {str(path)!r}: correct folder=..., root=... or SFTGAN_DATA."
        )
    listings = _coco(path) if source == "torchvision" else _folders(path, seed)
    parts = [
        _read(part, listing, n, size, seed)
        for part, listing, n in zip(("train", "test"), listings, (train, test), strict=True)
    ]
    return CaptionData(source, f"{path.name} ({source})", *parts)


def words_of(caption: str) -> Caption:
    """Split a caption into lower-case words without punctuation.

    Parameters
    ----------
    caption
        The caption as text.

    Returns
    -------
    Caption
        Its words.

    Examples
    --------
    >>> words_of("A dog, running.")
    ('a', 'dog', 'running')
    """
    return tuple(re.findall(r"[a-z0-9']+", caption.lower()))


def roles(words: Caption, source: str) -> list[str]:
    """Assign one of ``ROLES`` to each word of a caption.

    The roles are exact for rendered scenes. For real captions they follow a heuristic, because a tagger would
    have to be downloaded:

    - A verb is a word in -ing, the form of nearly all verbs in such captions. Exceptions are some nouns, a
      word right after an article and the first word.
    - A noun is the last word before a verb, a preposition or the end, unless it is an article.
    - The subject is the noun before the first verb or preposition.
    - The second noun is the first noun after the first verb.

    Parameters
    ----------
    words
        Words of the caption.
    source
        Source of the caption; "embedded" for rendered scenes.

    Returns
    -------
    list[str]
        One role per word.

    Examples
    --------
    >>> roles(words_of("a dog chasing a ball"), "folder")
    ['other', 'subject', 'verb', 'other', 'second noun']
    """
    if source == "embedded":
        nouns = [i for i, word in enumerate(words) if word in scenes.NOUNS]
        verbs = [i for i, word in enumerate(words) if word in scenes.VERBS]
        subject = nouns[:1]
    else:
        verbs = [
            i for i, word in enumerate(words)
            if word.endswith("ing") and word not in _NOUNS_IN_ING and i and words[i - 1] not in _ARTICLES
        ]  # fmt: skip
        stops = [i for i, word in enumerate(words) if i in verbs or word in _STOPS]
        nouns = [end - 1 for end in (*stops, len(words)) if end and end - 1 not in stops]
        nouns = [i for i in nouns if words[i] not in _ARTICLES]
        subject = [i for i in nouns[:1] if i < min(stops, default=len(words))]
    second = [i for i in nouns if verbs and i > verbs[0]][:1]
    role_of = dict.fromkeys(verbs, "verb") | dict.fromkeys(second, "second noun")
    role_of |= dict.fromkeys(subject, "subject")
    return [role_of.get(i, "other") for i in range(len(words))]


_NOUNS_IN_ING = {
    "building", "ceiling", "clothing", "evening", "king", "morning", "railing", "ring", "something", "spring",
    "string", "swing", "thing", "wing",
}  # fmt: skip
_STOPS = {  # words right after a noun
    "in", "on", "at", "with", "of", "near", "by", "to", "and", "is", "are", "was", "were", "that", "who",
}  # fmt: skip
_ARTICLES = {"a", "an", "the", "some", "one", "two", "three"}


def _drawn(n: int, size: int, seed: int, stream: int) -> CaptionSplit:
    own_seed = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
    drawn = scenes.captioned(n, size, own_seed)
    assert drawn.captions is not None
    captions = tuple((words_of(caption),) for caption in drawn.captions)
    return CaptionSplit(drawn.images, captions, drawn.masks[:, 0])


def _folders(path: Path, seed: int) -> list[_Listing]:
    if (path / "train").is_dir() and (path / "test").is_dir():
        return [_folder(path / "train"), _folder(path / "test")]
    items = _folder(path)
    if len(items) < 2:
        raise InputError(f"{str(path)!r} has fewer than two captioned images: train and test need one each.")
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    n_test = max(1, round(TEST_PART * len(items)))
    return [[items[i] for i in order[n_test:]], [items[i] for i in order[:n_test]]]


def _folder(path: Path) -> _Listing:
    """Return the images in PATH/images that PATH/captions.json names, with their captions."""
    file = path / "captions.json"
    try:
        captions = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"{str(path)!r} has no captions.json: write {{file: [captions]}} there.") from None
    except ValueError as error:
        raise InputError(f"{str(file)!r} is not JSON ({error}): write {{file: [captions]}} there.") from None
    if not isinstance(captions, dict) or not all(
        isinstance(lines, list) and lines and all(isinstance(line, str) and words_of(line) for line in lines)
        for lines in captions.values()
    ):
        raise InputError(
            f"{str(file)!r} must be {{file: [captions]}}, with at least one caption for each file."
        )
    missing = [name for name in captions if not (path / "images" / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(captions)} captioned images are missing in {str(path / 'images')!r}, "
            f"{missing[0]!r} first: add them, or remove their captions."
        )
    return [(path / "images" / name, tuple(lines)) for name, lines in sorted(captions.items())]


def _coco(path: Path) -> list[_Listing]:
    try:
        from torchvision.datasets import CocoCaptions
    except ImportError as error:
        raise InputError("COCO captions need a package: run `pip install pycocotools`.") from error
    listings = []
    for part in ("train2017", "val2017"):
        annotations = path / "annotations" / f"captions_{part}.json"
        if not annotations.is_file() or not (path / part).is_dir():
            raise InputError(
                f"{str(path)!r} must hold {part} and annotations/captions_{part}.json of MS-COCO."
            )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
                coco = CocoCaptions(path / part, annotations).coco
        except ImportError as error:
            raise InputError("COCO captions need a package: run `pip install pycocotools`.") from error
        listings.append([
            (path / part / image["file_name"], tuple(note["caption"] for note in coco.imgToAnns[number]))
            for number, image in sorted(coco.imgs.items()) if coco.imgToAnns[number]
        ])  # fmt: skip
    return listings


def _read(part: str, listing: _Listing, n: int | None, size: int, seed: int) -> CaptionSplit:
    """Read ``n`` images of a listing, sampled at random; all in random order if ``n`` is None."""
    if n is not None and not 1 <= n <= len(listing):
        raise InputError(
            f"{part}={n}, but there are {len(listing)} captioned {part} images: ask for 1 to {len(listing)}."
        )
    chosen = [listing[i] for i in np.random.default_rng(seed).permutation(len(listing))[:n]]
    images = torch.empty(len(chosen), 3, size, size, dtype=torch.uint8)
    for image, (file, _) in zip(images, chosen, strict=True):
        try:
            with Image.open(file) as picture:
                image.copy_(torch.from_numpy(photograph(picture, size)))
        except UNREADABLE as error:
            raise InputError(f"the picture {os.fspath(file)!r} cannot be read: replace it.") from error
    return CaptionSplit(images, tuple(tuple(words_of(line) for line in lines) for _, lines in chosen))
