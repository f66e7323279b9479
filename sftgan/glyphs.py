"""Handwriting-like glyphs drawn from fonts, with their strokes known exactly.

A font gives the shape only: every glyph is thinned to its centre lines once, and what is kept is the distance
of each point to these lines. A drawn glyph is that distance, read through a random smooth deformation,
wherever it is smaller than the radius of a random pen. So the pen, not the font, makes the strokes, and no
two are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize

from sftgan.errors import InputError

GRID = 96  # pixels a side of a shape's distance field
EXTENT = 0.7  # longer side of an undeformed glyph, as a part of the image
CHUNK = 64  # glyphs drawn at once: bounds the memory, fits the cache


@dataclass(frozen=True)
class Alphabet:
    """What to draw: names of the classes, the characters of each, fonts as (package, file), radii of the
    pen.
    """

    classes: tuple[str, ...]
    characters: tuple[str, ...]
    fonts: tuple[tuple[str, str], ...]
    pen: tuple[float, float]  # in parts of the image's side


ALPHABETS = {
    "emnist": Alphabet(
        tuple(ascii_uppercase),
        tuple(
            upper + upper.lower() for upper in ascii_uppercase
        ),  # a class is a letter in either case, as there
        (
            ("font_amatic_sc", "AmaticSC-Regular.ttf"),
            ("font_intuitive", "Intuitive.ttf"),
            ("font_roboto", "Roboto-Thin.ttf"),
            ("font_roboto", "Roboto-LightItalic.ttf"),
            ("font_caladea", "Caladea-Italic.ttf"),
        ),
        (0.025, 0.055),
    ),
    "chinese_mnist": Alphabet(
        ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "100", "1000", "10000", "100000000"),
        tuple("零一二三四五六七八九十百千万亿"),
        (("cvttf_NotoSansCJK_Regular", "NotoSansCJKtc-Regular.otf"),),
        (0.018, 0.035),
    ),
    "tamil": Alphabet(
        ("a", "aa", "i", "ii", "u", "uu", "e", "ee", "ai", "o", "oo", "au"),
        tuple("அஆஇஈஉஊஎஏஐஒஓஔ"),
        (("fontpkg_noto_sans_tamil", "NotoSansTamil*.ttf"),),
        (0.018, 0.035),
    ),
}


def font_paths(fonts: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Paths of font files, given as (installed package, file name or pattern)."""
    paths = []
    for package, file in fonts:
        try:
            folder = Path(str(import_module(package).__file__)).parent
        except ImportError as error:
            pip_name = package.replace("_", "-").lower()
            raise InputError(
                f"the font package {pip_name!r} is missing: run `pip install {pip_name}`"
            ) from error
        found = sorted(folder.rglob(file))
        if not found:
            raise InputError(f"the font package {package!r} holds no {file!r}: reinstall it")
        paths.append(str(found[0]))
    return tuple(paths)


@lru_cache(maxsize=1024)
def shape(character: str, font: str) -> np.ndarray:
    """Distance of each point to a character's centre lines, (GRID, GRID), in parts of the image's side."""
    face = ImageFont.truetype(font, 2 * GRID)
    missing = face.getmask("\U0010ffff")
    glyph = face.getmask(character)
    if 0 in glyph.size or (glyph.size == missing.size and bytes(glyph) == bytes(missing)):
        raise InputError(f"the font {Path(font).name!r} has no glyph for {character!r}: choose another font")
    left, top, right, bottom = face.getbbox(character)
    picture = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(picture).text((-left, -top), character, fill=255, font=face)
    sides = np.array(picture.size, dtype=float)
    if 4 * sides.min() > sides.max():  # no plain bar (l, 一): hands write less condensed than fonts
        sides[sides.argmin()] *= (sides.max() / sides.min()) ** 0.5
    sides = np.maximum(3, np.round(sides * EXTENT * GRID / sides.max())).astype(int)
    picture = picture.resize(tuple(sides.tolist()), Image.Resampling.BOX)
    canvas = Image.new("L", (GRID, GRID))
    canvas.paste(picture, ((GRID - picture.width) // 2, (GRID - picture.height) // 2))
    lines = skeletonize(np.asarray(canvas) > 100)
    return (distance_transform_edt(~lines) / GRID).astype(np.float32)


def _uniform(low: float, high: float, n: int, rng: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _smooth(n: int, channels: int, knots: int, size: int, rng: torch.Generator) -> torch.Tensor:
    """Smooth random fields (n, channels, size, size): normal at knots x knots points, cubic between them."""
    values = torch.randn(n, channels, knots, knots, generator=rng).clamp(-1.7, 1.7)
    return F.interpolate(values, size=(size, size), mode="bicubic", align_corners=True)


def _hand(n: int, size: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A hand for each of n glyphs: where each pixel reads its shape (n, size, size, 2), and the zoom (n,)."""
    angle, slant = (torch.randn(2, n, generator=rng).clamp(-2, 2) * torch.tensor([[0.12], [0.17]])).unbind()
    zoom, squeeze = _uniform(0.82, 1.12, n, rng), torch.exp(0.12 * torch.randn(n, generator=rng))
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    shear = torch.eye(2).repeat(n, 1, 1)
    shear[:, 0, 1] = slant
    stretch = torch.diag_embed(torch.stack([1 / (zoom * squeeze), squeeze / zoom], 1))
    shift = _uniform(-0.08, 0.08, 2 * n, rng).view(n, 2, 1)
    where = F.affine_grid(
        torch.cat([stretch @ shear @ turn, shift], 2), [n, 1, size, size], align_corners=False
    )
    bend = 0.07 * _smooth(n, 2, 4, size, rng) + 0.024 * _smooth(
        n, 2, 7, size, rng
    )  # a glyph is 1.4 wide here
    return where + bend.permute(0, 2, 3, 1), zoom


def _draw(
    shapes: torch.Tensor, size: int, pen: tuple[float, float], rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw distance fields (n, 1, GRID, GRID): ink and clean glyph, each (n, size, size) in [0, 1]."""
    n, fine = len(shapes), 2 * size
    where, zoom = _hand(n, fine, rng)
    distance = F.grid_sample(shapes, where, padding_mode="border", align_corners=False) * zoom.view(
        n, 1, 1, 1
    )
    radius = _uniform(*pen, n, rng).view(n, 1, 1, 1) * (1 + 0.15 * _smooth(n, 1, 5, fine, rng)).clamp(
        0.6, 1.4
    )
    clean = F.avg_pool2d(((radius - distance) * fine + 0.5).clamp(0, 1), 2)
    strength = (_uniform(0.85, 1.05, n, rng).view(n, 1, 1, 1) + 0.07 * _smooth(n, 1, 4, size, rng)).clamp(
        0.7, 1
    )
    blur = _uniform(0, 0.35, n, rng).view(n, 1, 1, 1)
    ink = strength * ((1 - blur) * clean + blur * F.avg_pool2d(clean, 3, 1, 1))
    return ink[:, 0], clean[:, 0]


def render(
    characters: Sequence[str],
    n: int,
    size: int,
    seed: int,
    fonts: Sequence[str],
    pen: tuple[float, float] = (0.025, 0.055),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw glyphs, white on black like MNIST: images uint8 and masks bool (n, size, size), labels int64
    (n,).

    `characters` holds a string per class, each of its characters an equal variant of the class ("Aa"); labels
    run 0, 1, ..., 0, 1, ... so that every beginning is balanced. `fonts` are paths of font files, drawn at
    random. `pen` is the range of the pen's radius, in parts of the image's side. A mask is the deformed clean
    glyph, before ink and blur, where its grey at the final size is above 127. The same seed gives the same
    bits. Raises `InputError` for a character that a font lacks.
    """
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(characters)
    picks = torch.rand(n, 2, generator=rng).tolist()
    images, masks = (
        torch.empty(n, size, size, dtype=torch.uint8),
        torch.empty(n, size, size, dtype=torch.bool),
    )
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        chosen = []
        for label, (variant, font) in zip(labels[start:stop].tolist(), picks[start:stop], strict=True):
            variants = characters[label]
            chosen.append(shape(variants[int(variant * len(variants))], fonts[int(font * len(fonts))]))
        ink, clean = _draw(torch.from_numpy(np.stack(chosen))[:, None], size, pen, rng)
        images[start:stop] = (ink * 255).round().to(torch.uint8)
        masks[start:stop] = clean * 255 > 127
    return images, masks, labels
