"""Find, read and batch pictures."""

import glob
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from sftgan.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # all that Pillow raises


def photograph(picture: Image.Image, size: int) -> np.ndarray:
    """Crop a picture to its central square and resize it: RGB as uint8 (3, size, size)."""
    fitted = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    return np.array(fitted).transpose(2, 0, 1)


MAX_PIXELS = 100_000_000
"""Largest number of pixels of a picture; without a limit, a small file can demand any amount of memory."""
_SHOWN = 384  # pixels; side of each of the three panels of a picture


@dataclass(frozen=True)
class Photo:
    """Central square of a picture, at the CNN's size and at a larger size for display.

    Attributes
    ----------
    path
        File of the picture.
    seen
        The square as the CNN sees it, uint8 (3, side, side).
    shown
        The square for display.
    box
        Left, upper, right and lower edge of the square, in pixels of the upright picture.
    """

    path: Path
    seen: UInt8[np.ndarray, "3 side side"]
    shown: Image.Image
    box: tuple[int, int, int, int]


def find(sources: Iterable[str], out: Path) -> list[Path]:
    """Find pictures by files, folders and patterns.

    Parameters
    ----------
    sources
        Files, folders, whose pictures count but not those of their subfolders, and patterns such as
        ``cats/**/*.jpg``.
    out
        Folder of the results, where patterns match nothing.

    Returns
    -------
    list[Path]
        Each picture once: source by source, and sorted within a source.

    Raises
    ------
    InputError
        If a source yields no picture.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (64, 48)).save(Path(folder) / "cat.png")
    ...     [path.name for path in find([folder, f"{folder}/*.png"], out=Path("maps"))]
    ['cat.png']
    """
    return list(dict.fromkeys(path for source in sources for path in _expanded(source, out.resolve())))


def pictures_in(folder: Path) -> list[Path]:
    """Find all pictures in a folder and in the folders directly in it, such as class folders.

    Parameters
    ----------
    folder
        Folder to search.

    Returns
    -------
    list[Path]
        The pictures, sorted.

    Raises
    ------
    InputError
        If there are none.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     (Path(folder) / "cats").mkdir()
    ...     Image.new("RGB", (64, 48)).save(Path(folder) / "cats" / "tom.png")
    ...     [path.name for path in pictures_in(Path(folder))]
    ['tom.png']
    """
    found = [file for pattern in ("*", "*/*") for file in folder.glob(pattern) if _is_picture(file)]
    if not found:
        raise InputError(
            f"{folder} is not a folder of pictures or of class folders with pictures: correct the path."
        )
    return sorted(found)


def _expanded(source: str, out: Path) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if _is_picture(file)]
        missing = f"the folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))})"
    elif path.exists():
        return [path]
    elif glob.has_magic(source):
        matches = map(Path, glob.glob(source, recursive=True))
        found = [file for file in matches if _is_picture(file) and out not in file.resolve().parents]
        missing = f"no picture matches {source}"
    else:
        found, missing = [], f"there is no picture {path}"
    if not found:
        raise InputError(f"{missing}: correct the path.")
    return sorted(found)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def check_writable(folder: Path) -> None:
    """Create a folder if it is missing, and check that files can be written to it.

    Parameters
    ----------
    folder
        Folder to check.

    Raises
    ------
    InputError
        If the folder cannot be created, or no file can be written to it.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     check_writable(Path(folder) / "maps")
    ...     (Path(folder) / "maps").is_dir()
    True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"nothing can be written to the folder {folder} ({error.strerror}): choose another place with --out."
        ) from None


def read(path: Path, side: int) -> Photo:
    """Read the central square of a picture, upright and in RGB, and resize it (bilinear, antialiased).

    Transparent pixels become white. Greyscale pictures of 16 bits are divided by 65535.

    Parameters
    ----------
    path
        File of the picture.
    side
        Side in pixels at which the CNN sees the square.

    Returns
    -------
    Photo
        The square at this size and at the size for display.

    Raises
    ------
    InputError
        If the picture cannot be read, has floating-point pixels, or has more than ``MAX_PIXELS`` pixels.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "cat.png"
    ...     Image.new("RGB", (64, 48)).save(path)
    ...     photo = read(path, side=32)
    >>> photo.seen.shape, photo.box
    ((3, 32, 32), (8, 0, 56, 48))
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            upright = _rgb(ImageOps.exif_transpose(picture), path)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"the picture {path} has more than {MAX_PIXELS / 1e6:g} million pixels: make it smaller."
        ) from None
    except UNREADABLE as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else "not a picture, or damaged"
        )
        raise InputError(f"the picture {path} cannot be read ({reason}): replace it.") from None
    short = min(upright.size)
    left, upper = (upright.width - short) // 2, (upright.height - short) // 2
    box = (left, upper, left + short, upper + short)
    square = upright.crop(box)
    seen, shown = (square.resize((n, n), Image.Resampling.BILINEAR) for n in (side, _SHOWN))
    return Photo(path, np.array(seen).transpose(2, 0, 1), shown, box)


def _rgb(picture: Image.Image, path: Path) -> Image.Image:
    if picture.mode == "F":
        raise InputError(
            f"the picture {path} has floating-point pixels of an unknown range: save it with 8 or 16 bits."
        )
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).clip(0, 65535) / 65535
        return Image.fromarray(np.rint(255 * grey).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), opaque).convert("RGB")
    return picture.convert("RGB")


def batches(paths: Sequence[Path], side: int, batch: int, failures: list[str]) -> Iterator[list[Photo]]:
    """Read pictures in batches, with a progress bar on stderr.

    The bar advances when the next batch is requested. A picture that cannot be read is reported on stderr and
    skipped.

    Parameters
    ----------
    paths
        Files of the pictures.
    side
        Side in pixels at which the CNN sees them.
    batch
        Number of pictures read at once.
    failures
        List to which the message about each skipped picture is appended.

    Yields
    ------
    list[Photo]
        The pictures of a batch that can be read, at least one.

    Raises
    ------
    InputError
        If there is only one picture and it cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "cat.png"
    ...     Image.new("RGB", (64, 48)).save(path)
    ...     [len(photos) for photos in batches([path], side=32, batch=8, failures=[])]
    [1]
    """
    alone = len(paths) == 1
    with tqdm(total=len(paths), unit="picture", disable=True if alone else None) as bar:
        for start in range(0, len(paths), batch):
            photos = []
            for path in paths[start : start + batch]:
                try:
                    photos.append(read(path, side))
                except InputError as error:
                    if alone:
                        raise
                    failures.append(str(error))
                    tqdm.write(f"sftgan: {error}", file=sys.stderr)
            if photos:
                yield photos
            bar.update(len(paths[start : start + batch]))


def stacked(photos: Sequence[Photo]) -> Float[Tensor, "n 3 side side"]:
    """Stack photos as images for a CNN.

    Parameters
    ----------
    photos
        Photos of the same size.

    Returns
    -------
    Tensor
        Images (n, 3, side, side) in [0, 1], float32.

    Examples
    --------
    >>> seen = np.full((3, 32, 32), 255, dtype=np.uint8)
    >>> stacked([Photo(Path("cat.png"), seen, Image.new("RGB", (384, 384)), (0, 0, 32, 32))]).shape
    torch.Size([1, 3, 32, 32])
    """
    return torch.from_numpy(np.stack([photo.seen for photo in photos])).float() / 255
