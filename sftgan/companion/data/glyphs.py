"""Handwriting-like glyphs rendered from fonts, with their strokes known exactly.

A font gives the shape only. Every glyph is thinned to its centre lines once, and stored as the distance of
each point to these lines. Rendering reads this distance through a random smooth deformation, and inks every
pixel whose distance is smaller than the radius of a random pen. So the pen makes the strokes, not the font,
and no two glyphs are alike.
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

GRID = 96  # side of a shape's distance field, in pixels
EXTENT = 0.7  # longer side of an undeformed glyph, as a fraction of the image's side
CHUNK = 64  # glyphs rendered at once: bounds the memory, fits the cache


@dataclass(frozen=True)
class Alphabet:
    """Characters to render, and the fonts and pen to render them with.

    Attributes
    ----------
    classes
        Names of the classes.
    characters
        One string per class; each of its characters is an equal variant of the class.
    fonts
        Fonts as (installed package, file name or pattern).
    pen
        Least and largest radius of the pen, as fractions of the image's side.
    """

    classes: tuple[str, ...]
    characters: tuple[str, ...]
    fonts: tuple[tuple[str, str], ...]
    pen: tuple[float, float]


ALPHABETS = {
    "emnist": Alphabet(
        tuple(ascii_uppercase),
        tuple(
            upper + upper.lower() for upper in ascii_uppercase
        ),  # a class is a letter in either case, as in EMNIST
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
    """Find font files in installed packages.

    Parameters
    ----------
    fonts
        Fonts as (installed package, file name or pattern).

    Returns
    -------
    tuple[str, ...]
        One path per font; of several files that match a pattern, the first.

    Raises
    ------
    InputError
        If a package is missing or holds no such file.
    """
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
    """Compute the distance of each point to a character's centre lines.

    Parameters
    ----------
    character
        A single character.
    font
        Path of a font file.

    Returns
    -------
    np.ndarray
        Distances float32 (GRID, GRID), as fractions of the image's side.

    Raises
    ------
    InputError
        If the font lacks the character.
    """
    face = ImageFont.truetype(font, 2 * GRID)
    missing = face.getmask("\U0010ffff")
    glyph = face.getmask(character)
    if 0 in glyph.size or (glyph.size == missing.size and bytes(glyph) == bytes(missing)):
        raise InputError(f"the font {Path(font).name!r} has no glyph for {character!r}: choose another font")
    left, top, right, bottom = face.getbbox(character)
    picture = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(picture).text((-left, -top), character, fill=255, font=face)
    sides = np.array(picture.size, dtype=float)
    if 4 * sides.min() > sides.max():  # not a plain bar (l, 一): handwriting is wider than fonts
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
    """Sample smooth fields (n, channels, size, size): normal at knots x knots points, cubic between them."""
    values = torch.randn(n, channels, knots, knots, generator=rng).clamp(-1.7, 1.7)
    return F.interpolate(values, size=(size, size), mode="bicubic", align_corners=True)


def _hand(n: int, size: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample n deformations: where each pixel reads its shape (n, size, size, 2), and the zooms (n,)."""
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
    )  # in these units a glyph is 1.4 wide
    return where + bend.permute(0, 2, 3, 1), zoom


def _draw(
    shapes: torch.Tensor, size: int, pen: tuple[float, float], rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render distance fields (n, 1, GRID, GRID): ink and clean glyphs, each (n, size, size) in [0, 1]."""
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
    """Render glyphs, white on black like MNIST.

    A character that a font lacks raises an ``InputError``.

    Parameters
    ----------
    characters
        One string per class; each of its characters is an equal variant of the class ("Aa").
    n
        Number of glyphs.
    size
        Side of the images in pixels.
    seed
        Seed of everything random; the same seed gives the same bits.
    fonts
        Paths of font files; each glyph picks one at random.
    pen
        Least and largest radius of the pen, as fractions of the image's side.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        Images uint8 (n, size, size), masks bool (n, size, size) and labels int64 (n,). A mask is True where
        the deformed clean glyph, before ink and blur, has a grey above 127 at the final size. The labels run
        0, 1, ..., 0, 1, ..., so that every leading part is balanced.

    Examples
    --------
    >>> fonts = font_paths(ALPHABETS["emnist"].fonts[:1])
    >>> images, masks, labels = render(["Aa", "Bb"], n=3, size=16, seed=0, fonts=fonts)
    >>> images.shape, masks.dtype, labels
    (torch.Size([3, 16, 16]), torch.bool, tensor([0, 1, 0]))
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
