"""Explaining photographs: from files to pictures, maps and JSON beside them, in batches."""

import glob
import io
import itertools
import json
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from sftgan.data import SUFFIXES, UNREADABLE
from sftgan.errors import InputError
from sftgan.explain import Explainer
from sftgan.models import CNN
from sftgan.provenance import provenance
from sftgan.weights import write

MAX_PIXELS = 100_000_000
"""Of a picture; more are refused, as a few bytes of a file can ask for any amount of memory."""
WRITTEN = (".png", ".jpg", ".jpeg", ".webp")
SHEET = "contact_sheet"
_SHOWN = 384  # pixels: side of each of the three panels of a picture
_GAP = 8
_COLUMNS, _ROWS = 6, 10  # of a contact sheet
_COLOURS = "inferno"  # as in `plots`, which imports seaborn


@dataclass(frozen=True)
class Photo:
    """The central square of a picture: as the CNN sees it, uint8 (3, side, side), and larger, to be looked at.

    box: left, upper, right and lower edge of the square in the pixels of the upright picture.
    """

    path: Path
    seen: np.ndarray
    shown: Image.Image
    box: tuple[int, int, int, int]


@dataclass
class Written:
    """What was written: the records as they stand in the JSON files, the contact sheets, the sentences of failures."""

    records: list[dict[str, Any]] = field(default_factory=list)
    sheets: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """In words: of a single picture class and probability, of several how many, and where they are."""
        if len(self.records) == 1 and not self.sheets:
            record = self.records[0]
            return (
                f"{record['image']}: {_title(record)} ({record['class']}), probability "
                f"{record['probability']:.3f}: {record['picture']}"
            )
        of = f" of {len(self.records) + len(self.failures)}" if self.failures else ""
        sheets = "".join(f", {sheet}" for sheet in self.sheets)
        return f"{len(self.records)}{of} pictures explained{sheets}"


def find(sources: Iterable[str], out: Path) -> list[Path]:
    """Pictures in files, folders (those directly in them, sorted) and patterns such as "cats/**/*.jpg", each once.

    What lies below the folder `out` is no match of a pattern. Raises InputError where a source gives no picture.
    """
    return list(dict.fromkeys(path for source in sources for path in _expanded(source, out.resolve())))


def pictures_in(folder: Path) -> list[Path]:
    """Those in a folder and, of each class, in the folders in it, sorted. Raises InputError where there are none."""
    found = [file for pattern in ("*", "*/*") for file in folder.glob(pattern) if _is_picture(file)]
    if not found:
        raise InputError(
            f"{folder} is no folder of pictures or of class folders with pictures: correct the path."
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


def places(pictures: Sequence[Path], out: Path) -> dict[Path, Path]:
    """For each picture the one to be written: `out` itself if it is the name of a picture, else a PNG in that folder.

    The JSON file and the map lie beside it and differ in the suffix. Pictures of the same name are numbered. Makes the
    folder. Raises InputError where nothing can be written to it, or pictures would be written over or among the given.
    """
    if out.suffix.lower() in SUFFIXES | {".pdf", ".svg"} and not out.is_dir():
        if out.suffix.lower() not in WRITTEN:
            raise InputError(f"--out {out} is no kind of picture written here: choose {', '.join(WRITTEN)}.")
        if len(pictures) > 1:
            raise InputError(f"{len(pictures)} pictures do not fit into {out}: give a folder as --out.")
        if out.resolve() == pictures[0].resolve():
            raise InputError(f"{out} is the picture that is to be explained: choose another --out.")
        check_writable(out.parent)
        return {pictures[0]: out}
    if out.resolve() in {picture.resolve().parent for picture in pictures}:
        raise InputError(f"{out} is where the pictures lie: choose another folder as --out.")
    check_writable(out)
    used = {SHEET}
    found = {}
    for picture in pictures:
        names = itertools.chain([picture.stem], (f"{picture.stem}_{n}" for n in itertools.count(2)))
        name = next(name for name in names if name not in used)
        used.add(name)
        found[picture] = out / f"{name}.png"
    return found


def check_writable(folder: Path) -> None:
    """Make a folder. Raises InputError where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"nothing can be written to the folder {folder} ({error.strerror}): choose another place with --out."
        ) from None


def read(path: Path, side: int) -> Photo:
    """The central square of a picture, upright and in RGB, resized to `side` pixels (bilinear, antialiased).

    Transparent pixels become white, 16-bit ones are divided by 65535. Raises InputError for a picture that cannot be
    read, and for one of more than `MAX_PIXELS`.
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
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no picture, or damaged"
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
    """Read pictures, `batch` at a time, with a progress bar on stderr that moves when the next ones are asked for.

    Those that cannot be read are left out: sentences about them go to stderr and into `failures`. One that is alone is
    an InputError.
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


def stacked(photos: Sequence[Photo]) -> Tensor:
    """What the CNN sees of them: (n, 3, side, side) in [0, 1]."""
    return torch.from_numpy(np.stack([photo.seen for photo in photos])).float() / 255


def explain(
    where: Mapping[Path, Path],
    cnn: CNN,
    explainer: Explainer,
    target: int | None = None,
    size: int | None = None,
    batch: int = 8,
    device: str = "cpu",
    about: Mapping[str, str] | None = None,
) -> Written:
    """Explain pictures, and write beside each other what `places` says: picture, JSON and map (float32 .npy).

    target: the explained class; None: the predicted one of each picture. size: side in pixels at which the CNN sees the
    central squares; None: the CNN's own. about: what else is to stand in each JSON file. Of several pictures those that
    cannot be read are told of on stderr, and contact sheets are drawn; of a single one it is an InputError. Each file
    is written in one step, and stays if the run is killed.
    """
    cnn.model.to(device)
    explainer.generator.to(device)
    target = explainer.reading.explained(target)
    pictures = list(where)
    done = Written()
    sheet = _Sheet(where[pictures[0]].parent)
    said = {"model": cnn.name, "weights": cnn.weights, **(about or {})} | provenance()
    for photos in batches(pictures, size or cnn.size, batch, done.failures):
        for photo, values, record in _drawn(photos, cnn, explainer, target, device):
            picture = where[photo.path]
            _write(picture, photo, values, record | said)
            done.records.append({"picture": str(picture)} | record)
            if len(pictures) > 1:
                sheet.add(overlay(photo.shown, values), photo.path.name, record)
    done.sheets = sheet.close()
    return done


def _drawn(
    photos: Sequence[Photo], cnn: CNN, explainer: Explainer, target: int | None, device: str
) -> Iterator[tuple[Photo, np.ndarray, dict[str, Any]]]:
    """Of each photo the map, float32 (side, side) in [0, 1], and what is to be said of it."""
    images = stacked(photos).to(device)
    maps = explainer(cnn.model, images, target).float().cpu().numpy()
    with torch.no_grad():
        probabilities = _probabilities(cnn.model(images)).cpu()
    if cnn.names and len(cnn.names) != probabilities.shape[1]:
        raise InputError(
            f"there are {len(cnn.names)} names of classes, but {probabilities.shape[1]} classes: correct --names."
        )
    for photo, values, chances in zip(photos, maps, probabilities, strict=True):
        yield photo, values, _record(photo, values, chances, cnn, target)


def _probabilities(logits: Tensor) -> Tensor:
    """(B, C) of logits (B, C); of a binary head, (B, 1) or (B,), those of the classes 0 and 1."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits.float().softmax(1)
    one = logits.float().view(-1, 1)
    return torch.cat([-one, one], 1).sigmoid()


def _record(
    photo: Photo, values: np.ndarray, chances: Tensor, cnn: CNN, target: int | None
) -> dict[str, Any]:
    def of_class(index: int) -> dict[str, Any]:
        name = cnn.names[index] if cnn.names else None
        return {"class": index, "name": name, "probability": round(chances[index].item(), 6)}

    row, column = np.unravel_index(values.argmax(), values.shape)
    best = chances.topk(min(5, len(chances))).indices.tolist()
    return {
        "image": str(photo.path),
        "square": photo.box,
        "size": len(values),
        **of_class(best[0] if target is None else target),
        "top": [of_class(index) for index in best],
        "map": {
            "minimum": float(values.min()),
            "mean": float(values.mean(dtype=np.float64)),
            "maximum": float(values.max()),
            "brightest_pixel": {"row": int(row), "column": int(column)},
        },
    }


def _title(record: dict[str, Any]) -> str:
    return record["name"] or f"class {record['class']}"


def _write(picture: Path, photo: Photo, values: np.ndarray, record: dict[str, Any]) -> None:
    file = io.BytesIO()
    np.save(file, values)
    write(picture.with_suffix(".npy"), file.getvalue())
    write(picture, _encoded(panels(photo.shown, values), picture.suffix))
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write(picture.with_suffix(".json"), text.encode())  # the last one: where it is, all are


def _encoded(picture: Image.Image, suffix: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[suffix.lower()], quality=95)
    return file.getvalue()


def panels(shown: Image.Image, values: np.ndarray) -> Image.Image:
    """The photo, the overlay and the map side by side."""
    parts = [shown, overlay(shown, values), _heat(values, shown.size)]
    whole = Image.new("RGB", (3 * shown.width + 2 * _GAP, shown.height), "white")
    for k, part in enumerate(parts):
        whole.paste(part, (k * (shown.width + _GAP), 0))
    return whole


def overlay(shown: Image.Image, values: np.ndarray) -> Image.Image:
    """The photo and the map's colours, half and half: dark where the map is low."""
    return Image.blend(shown, _heat(values, shown.size), 0.5)


def _heat(values: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A map (h, w) in [0, 1] in colours, enlarged bilinearly."""
    large = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(matplotlib.colormaps[_COLOURS](large, bytes=True)[..., :3])


class _Sheet:
    """Contact sheets of a folder, drawn as they fill, so that memory does not grow with the number of pictures."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells: list[tuple[Image.Image, str]] = []
        self.written: list[Path] = []

    def add(self, picture: Image.Image, name: str, record: dict[str, Any]) -> None:
        lines = [textwrap.shorten(line, 26, placeholder=" ...") for line in (name, _title(record))]
        self.cells.append((picture.reduce(2), "\n".join([*lines, f"{record['probability']:.3f}"])))
        if len(self.cells) == _COLUMNS * _ROWS:
            self._draw()

    def close(self) -> list[Path]:
        """Draw what is left; all that were written."""
        if self.cells:
            self._draw()
        return self.written

    def _draw(self) -> None:
        columns = min(_COLUMNS, len(self.cells))
        rows = -(-len(self.cells) // columns)
        figure = Figure(figsize=(1.7 * columns, 2.2 * rows), layout="constrained", dpi=120)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (picture, caption) in zip(axes, self.cells, strict=False):
            axis.imshow(picture)
            axis.set_title(caption, fontsize=7, parse_math=False)
        number = f"_{len(self.written) + 1}" if self.written else ""
        path = self.folder / f"{SHEET}{number}.png"
        file = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):  # of scripts that the font does not have
            figure.savefig(file, format="png", bbox_inches="tight")
        write(path, file.getvalue())
        self.written.append(path)
        self.cells = []
