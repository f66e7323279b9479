"""Explain picture files in batches, and write a picture, a map and a JSON file for each."""

import io
import itertools
import json
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sftgan.cnns.loading import CNN
from sftgan.errors import InputError
from sftgan.explainer import Explainer
from sftgan.files import write
from sftgan.pictures import SUFFIXES, Photo, batches, check_writable, stacked
from sftgan.provenance import provenance

WRITTEN = (".png", ".jpg", ".jpeg", ".webp")
SHEET = "contact_sheet"
_GAP = 8  # pixels between panels
_COLUMNS, _ROWS = 6, 10  # of a contact sheet
_COLOURS = "inferno"  # as in ``plots``, which imports seaborn


@dataclass
class Written:
    """Results of ``explain``.

    Attributes
    ----------
    records
        Content of the JSON file of each picture, with the path of the written picture, but without what all
        pictures have in common.
    sheets
        Contact sheets that were written.
    failures
        One message for each picture that could not be read.

    Examples
    --------
    >>> Written(failures=["the picture cat.png cannot be read"]).summary()
    '0 of 1 pictures explained'
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    sheets: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Say in one line which class a single picture shows, or how many pictures were explained.

        Returns
        -------
        str
            For a single picture its class, probability and file; for several their number and contact sheets.
        """
        if len(self.records) == 1 and not self.sheets:
            record = self.records[0]
            return (
                f"{record['image']}: {_title(record)} ({record['class']}), probability "
                f"{record['probability']:.3f}: {record['picture']}"
            )
        of = f" of {len(self.records) + len(self.failures)}" if self.failures else ""
        sheets = "".join(f", {sheet}" for sheet in self.sheets)
        return f"{len(self.records)}{of} pictures explained{sheets}"


def places(pictures: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Choose the file to write for each picture, and create the folder.

    The JSON file and the map are written beside this file, with other suffixes.

    Parameters
    ----------
    pictures
        Pictures to explain.
    out
        Folder in which each picture gets a PNG file; for a single picture, the name of a picture is allowed too.

    Returns
    -------
    dict[Path, Path]
        File for each picture. Equal names are numbered.

    Raises
    ------
    InputError
        If the folder is not writable or contains a picture to explain, or the name does not suit.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     files = places([Path("cats/1.jpg"), Path("dogs/1.jpg")], Path(folder))
    >>> [file.name for file in files.values()]
    ['1.png', '1_2.png']
    """
    if out.suffix.lower() in SUFFIXES | {".pdf", ".svg"} and not out.is_dir():
        if out.suffix.lower() not in WRITTEN:
            raise InputError(f"--out {out} has an unsupported suffix: choose {', '.join(WRITTEN)}.")
        if len(pictures) > 1:
            raise InputError(
                f"{len(pictures)} pictures cannot be written to one file {out}: give a folder as --out."
            )
        if out.resolve() == pictures[0].resolve():
            raise InputError(f"{out} is the picture to be explained: choose another --out.")
        check_writable(out.parent)
        return {pictures[0]: out}
    if out.resolve() in {picture.resolve().parent for picture in pictures}:
        raise InputError(f"{out} contains the pictures to be explained: choose another folder as --out.")
    check_writable(out)
    used = {SHEET}
    found = {}
    for picture in pictures:
        names = itertools.chain([picture.stem], (f"{picture.stem}_{n}" for n in itertools.count(2)))
        name = next(name for name in names if name not in used)
        used.add(name)
        found[picture] = out / f"{name}.png"
    return found


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
    """Explain pictures, and write three files for each: a picture, a JSON file and the map (float32, ``.npy``).

    Contact sheets are written too if there are several pictures. Pictures that cannot be read are then reported on
    stderr and skipped. Each file is written in one step, and stays if the run is killed.

    Parameters
    ----------
    where
        File to write for each picture, as ``places`` returns them.
    cnn
        CNN to explain.
    explainer
        Explainer that draws the maps.
    target
        Index of the class to explain; None for the explainer's choice, by default the class predicted for each
        picture.
    size
        Side in pixels at which the CNN sees the central squares; None for the CNN's own.
    batch
        Number of pictures explained at once.
    device
        Device of the CNN and the generator.
    about
        Further entries of each JSON file.

    Returns
    -------
    Written
        What was written, and the pictures that could not be read.

    Raises
    ------
    InputError
        If a single picture cannot be read, the number of class names is not the number of classes, or the target
        or the size does not suit the CNN.
    """
    cnn.model.to(device)
    explainer.generator.to(device)
    target = explainer.spec.explained_class_for(target)
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
) -> Iterator[tuple[Photo, Float[np.ndarray, "side side"], dict[str, Any]]]:
    """Draw the map of each photo, float32 in [0, 1], with its record for the JSON file."""
    images = stacked(photos).to(device)
    maps = explainer(cnn.model, images, target).float().cpu().numpy()
    with torch.no_grad():
        probabilities = _probabilities(cnn.model(images)).cpu()
    if cnn.names and len(cnn.names) != probabilities.shape[1]:
        raise InputError(
            f"there are {len(cnn.names)} class names, but {probabilities.shape[1]} classes: correct --names."
        )
    for photo, values, chances in zip(photos, maps, probabilities, strict=True):
        yield photo, values, _record(photo, values, chances, cnn, target)


def _probabilities(logits: Float[Tensor, "b ..."]) -> Float[Tensor, "b classes"]:
    """Turn logits (b, classes) into probabilities; a binary head, (b, 1) or (b,), has the classes 0 and 1."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits.float().softmax(1)
    one = logits.float().view(-1, 1)
    return torch.cat([-one, one], 1).sigmoid()


def _record(
    photo: Photo,
    values: Float[np.ndarray, "side side"],
    chances: Float[Tensor, " classes"],
    cnn: CNN,
    target: int | None,
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


def _write(
    picture: Path, photo: Photo, values: Float[np.ndarray, "side side"], record: dict[str, Any]
) -> None:
    file = io.BytesIO()
    np.save(file, values)
    write(picture.with_suffix(".npy"), file.getvalue())
    write(picture, _encoded(panels(photo.shown, values), picture.suffix))
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write(picture.with_suffix(".json"), text.encode())  # written last, so that it exists only if all files do


def _encoded(picture: Image.Image, suffix: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[suffix.lower()], quality=95)
    return file.getvalue()


def panels(shown: Image.Image, values: Float[np.ndarray, "h w"]) -> Image.Image:
    """Draw the photo, the overlay and the map side by side.

    Parameters
    ----------
    shown
        Photo in RGB.
    values
        Map (h, w) in [0, 1], float32, which is enlarged to the size of the photo.

    Returns
    -------
    Image.Image
        The three panels, with white gaps of 8 pixels.

    Examples
    --------
    >>> panels(Image.new("RGB", (64, 64)), np.zeros((32, 32), dtype=np.float32)).size
    (208, 64)
    """
    parts = [shown, overlay(shown, values), _heat(values, shown.size)]
    whole = Image.new("RGB", (3 * shown.width + 2 * _GAP, shown.height), "white")
    for k, part in enumerate(parts):
        whole.paste(part, (k * (shown.width + _GAP), 0))
    return whole


def overlay(shown: Image.Image, values: Float[np.ndarray, "h w"]) -> Image.Image:
    """Blend the photo and the coloured map in equal parts, which is dark where the map is low.

    Parameters
    ----------
    shown
        Photo in RGB.
    values
        Map (h, w) in [0, 1], float32, which is enlarged to the size of the photo.

    Returns
    -------
    Image.Image
        The blended picture, of the photo's size.

    Examples
    --------
    >>> overlay(Image.new("RGB", (64, 64)), np.zeros((32, 32), dtype=np.float32)).getpixel((0, 0))
    (0, 0, 1)
    """
    return Image.blend(shown, _heat(values, shown.size), 0.5)


def _heat(values: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Image.Image:
    """Colour a map in [0, 1], enlarged bilinearly."""
    large = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(matplotlib.colormaps[_COLOURS](large, bytes=True)[..., :3])


class _Sheet:
    """Contact sheets of a folder, each drawn once it is full, so that memory use stays constant."""

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
        """Draw the last sheet, and return all sheets that were written."""
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
        with warnings.catch_warnings(action="ignore"):  # about scripts that the font lacks
            figure.savefig(file, format="png", bbox_inches="tight")
        write(path, file.getvalue())
        self.written.append(path)
        self.cells = []
