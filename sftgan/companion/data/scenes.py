"""Rendered scenes: objects on textured backgrounds, with the object's place known to the pixel.

Scenes stand in for photographs, which cannot be shipped. The class is the object's shape and nothing else:
the colours and textures of object and background are random. A shape is defined by a function of x and y that
is negative inside it. Coordinates run from -1 to 1, with y upwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sftgan.errors import InputError, check_name

CHUNK = 64  # scenes rendered at once: bounds the memory, fits the cache
Shape = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes with their masks, and with labels or captions.

    Attributes
    ----------
    images
        uint8 (n, 3, size, size).
    masks
        bool (n, size, size), True on the object. With captions (n, 2, size, size): the visible part of the
        subject and of the second object.
    labels
        int64 (n,). They run 0, 1, ..., 0, 1, ..., so that every leading part is balanced; with captions they
        are all zero.
    shortcuts
        bool (n, size, size), True where the background may give the class away; None where it cannot.
    captions
        One caption per image, or None.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    shortcuts: Tensor | None = None
    captions: tuple[str, ...] | None = None


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.82


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.68).abs() - 0.22


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width, y.abs() - height)


def _square(x: Tensor, y: Tensor) -> Tensor:
    return _box(x, y, 0.74, 0.74)


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(0.866 * x.abs() + 0.5 * y, -y) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    part = 2 * torch.pi / 5
    turned = (torch.atan2(x, y) % part - part / 2).abs() / (part / 2)  # 0 in a notch, 1 at a point
    return torch.hypot(x, y) - 0.38 - 0.62 * turned


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 0.9, 0.27), _box(x, y, 0.27, 0.9))


def _heart(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x**2 + (1.15 * y + 0.15 - 0.75 * x.abs().sqrt()) ** 2) - 0.85


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.9, 0.72 - torch.hypot(x - 0.42, y))


def _arrow(x: Tensor, y: Tensor) -> Tensor:
    head = torch.maximum(0.75 * x.abs() + 0.66 * y - 0.62, -y)
    return torch.minimum(head, _box(x, y + 0.42, 0.22, 0.5))


def _hourglass(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() - 0.85 * y.abs() - 0.1, y.abs() - 0.85)


def _head(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, 1.1 * (y + 0.15)) - 0.62


def _pointed_ears(x: Tensor, y: Tensor) -> Tensor:
    ear = torch.maximum(2.2 * (x.abs() - 0.42).abs() + (y - 0.95), 0.2 - y)
    return torch.minimum(_head(x, y), ear)


def _hanging_ears(x: Tensor, y: Tensor) -> Tensor:
    ear = torch.hypot(2.4 * (x.abs() - 0.68), y + 0.3) - 0.55
    return torch.minimum(_head(x, y), ear)


def _long(body: Shape, neck: Shape) -> Shape:
    """Join a body, shrunk and placed below, to a neck above."""
    return lambda x, y: torch.minimum(0.5 * body(2 * x, 2 * (y + 0.5)), neck(x, y))


def _waisted(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(torch.hypot(x, y + 0.35) - 0.62, torch.hypot(x, y - 0.5) - 0.45)


_NECKS: dict[str, Shape] = {
    "thin": lambda x, y: _box(x, y - 0.4, 0.09, 0.55),
    "wide": lambda x, y: _box(x, y - 0.3, 0.24, 0.45),
    "crossed": lambda x, y: torch.minimum(_box(x, y - 0.4, 0.09, 0.55), _box(x, y - 0.78, 0.45, 0.12)),
}
_BODIES: dict[str, Shape] = {"round": _disc, "waisted": _waisted, "triangular": _triangle, "cross": _cross}
SHAPES: dict[str, Shape] = {
    "disc": _disc, "ring": _ring, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross,
    "heart": _heart, "crescent": _crescent, "arrow": _arrow, "hourglass": _hourglass,
}  # fmt: skip
EARS: dict[str, Shape] = {"pointed ears": _pointed_ears, "hanging ears": _hanging_ears}
LONG_SHAPES = {f"{b}, {n}": _long(body, neck) for b, body in _BODIES.items() for n, neck in _NECKS.items()}


@dataclass(frozen=True)
class Look:
    """Shapes, sizes and background of a kind of scenes.

    Attributes
    ----------
    shapes
        Shapes by class name.
    radius
        Least and largest radius of the object, in halves of the image's side.
    shift
        Largest distance of the object from the image's centre, in halves of the image's side. In the look
        "telling" every object is at this distance.
    ground
        The background: "soft", "busy" or "plate".
    light
        Whether the object is lighter than the background.
    negatives
        Fraction of the scenes whose colours are inverted, so that brightness does not give the object away.
    """

    shapes: dict[str, Shape]
    radius: tuple[float, float]
    shift: float
    ground: str
    light: bool = True
    negatives: float = 0.5

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(self.shapes)


_FEW = {name: SHAPES[name] for name in ("disc", "square", "triangle", "star", "cross", "ring")}
LOOKS = {
    "close_up": Look(SHAPES, (0.72, 0.92), 0.1, "soft"),
    "busy": Look(SHAPES, (0.48, 0.62), 0.28, "busy"),
    "plate": Look(SHAPES, (0.46, 0.56), 0.1, "plate", light=False),
    "ears": Look(EARS, (0.6, 0.85), 0.15, "soft"),
    "long": Look(LONG_SHAPES, (0.75, 0.95), 0.06, "soft"),
    "telling": Look(_FEW, (0.38, 0.46), 0.5, "soft", negatives=0),
}
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
_RGB = torch.tensor([[0.95, 0.2, 0.2], [0.1, 0.7, 0.15], [0.2, 0.4, 1.0], [0.95, 0.85, 0.1], [0.75, 0.25, 0.85],
                     [0.97, 0.97, 0.97]])  # fmt: skip
NOUNS = ("disc", "square", "triangle", "star", "cross", "ring")
_RELATIONS = {"stands": "stands left of", "hangs": "hangs above", "covers": "covers"}
VERBS = tuple(_RELATIONS)


def render(look: str, n: int, size: int, seed: int, coupled: bool = True) -> Scenes:
    """Render scenes of one look, with one object each.

    In the look "telling" a striped patch lies opposite the object, on the other side of the image's centre.
    Its hue and the direction of its stripes belong to a class.

    Parameters
    ----------
    look
        A key of ``LOOKS``; any other raises an ``InputError``.
    n
        Number of scenes, at least 1; fewer raise an ``InputError``.
    size
        Side of the images in pixels, at least 16; less raises an ``InputError``.
    seed
        Seed of everything random; the same seed gives the same bits.
    coupled
        Whether the patch of the look "telling" belongs to the object's class; otherwise to a random one.

    Returns
    -------
    Scenes
        Images, masks and labels; in the look "telling" also the masks of the patches, as ``shortcuts``.

    Examples
    --------
    >>> drawn = render("busy", n=2, size=16, seed=0)
    >>> drawn.images.shape, drawn.masks.shape, drawn.labels
    (torch.Size([2, 3, 16, 16]), torch.Size([2, 16, 16]), tensor([0, 1]))
    """
    look_ = LOOKS[check_name(look, LOOKS, "look")]
    _check(n, size)
    rng = torch.Generator().manual_seed(seed + 7919 * list(LOOKS).index(look))  # no two looks alike
    labels = torch.arange(n) % len(look_.shapes)
    parts = [_chunk(look, look_, chunk, size, coupled, rng) for chunk in labels.split(CHUNK)]
    images, masks, shortcuts = zip(*parts, strict=True)
    telling = None if shortcuts[0] is None else torch.cat(shortcuts)
    return Scenes(torch.cat(images), torch.cat(masks), labels, telling)


def captioned(n: int, size: int, seed: int) -> Scenes:
    """Render scenes of two objects, each with a caption such as "a red ring hangs above a blue star".

    The first object is the subject and lies in front. The verb says how the two objects lie. The words are
    those of ``COLOURS``, ``NOUNS`` and ``VERBS``.

    Parameters
    ----------
    n
        Number of scenes, at least 1; fewer raise an ``InputError``.
    size
        Side of the images in pixels, at least 16; less raises an ``InputError``.
    seed
        Seed of everything random; the same seed gives the same bits.

    Returns
    -------
    Scenes
        Images, captions, and masks (n, 2, size, size) of the two objects.

    Examples
    --------
    >>> drawn = captioned(n=2, size=16, seed=0)
    >>> drawn.masks.shape, len(drawn.captions)
    (torch.Size([2, 2, 16, 16]), 2)
    """
    _check(n, size)
    rng = torch.Generator().manual_seed(seed)
    verbs = torch.arange(n) % len(VERBS)
    nouns = torch.randint(len(NOUNS), (n, 2), generator=rng)
    first = torch.randint(len(COLOURS), (n,), generator=rng)
    colours = torch.stack(
        [first, (first + torch.randint(1, len(COLOURS), (n,), generator=rng)) % len(COLOURS)], 1
    )
    images, masks = zip(
        *(
            _pair(v, s, c, size, rng)
            for v, s, c in zip(*(p.split(CHUNK) for p in (verbs, nouns, colours)), strict=True)
        ),
        strict=True,
    )
    captions = tuple(
        f"a {COLOURS[c]} {NOUNS[a]} {_RELATIONS[VERBS[v]]} a {COLOURS[d]} {NOUNS[b]}"
        for v, (a, b), (c, d) in zip(verbs.tolist(), nouns.tolist(), colours.tolist(), strict=True)
    )
    return Scenes(torch.cat(images), torch.cat(masks), torch.zeros(n, dtype=torch.int64), captions=captions)


def _check(n: int, size: int) -> None:
    if n < 1 or size < 16:
        raise InputError(f"scenes need n >= 1 and a side of at least 16 pixels, got n={n} and size={size}.")


def _chunk(name: str, look: Look, labels: Tensor, size: int, coupled: bool, rng: torch.Generator) -> tuple:
    n, fine = len(labels), 2 * size
    canvas, grounds = _GROUNDS[look.ground](n, fine, rng)
    negative = torch.rand(n, generator=rng) < look.negatives
    canvas = _negative(canvas, negative)
    angle = _uniform(-torch.pi, torch.pi, n, rng)
    away = look.shift * (1 if name == "telling" else _uniform(0, 1, n, rng).sqrt())
    centre = torch.stack([angle.cos() * away, angle.sin() * away], 1)
    shortcut = None
    if name == "telling":
        told = labels if coupled else torch.randint(len(look.shapes), (n,), generator=rng)
        canvas, shortcut = _patch(canvas, told, len(look.shapes), -centre, rng)
    radius = _uniform(*look.radius, n, rng)
    inside = _place(list(look.shapes.values()), labels, centre, radius, fine, rng)
    colour = _negative(_apart(grounds, look.light, rng), negative)
    canvas = _over(canvas, inside, _textured(colour, fine, rng))
    return _finished(canvas, rng), _half(inside) > 0.5, None if shortcut is None else _half(shortcut) > 0.5


def _pair(
    verbs: Tensor, nouns: Tensor, colours: Tensor, size: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    n, fine = len(verbs), 2 * size
    canvas, _ = _soft(n, fine, rng)
    canvas = 0.3 * canvas  # darker than all colours of objects
    shapes = [SHAPES[name] for name in NOUNS]
    apart = torch.tensor([[0.46, 0.0], [0.0, -0.46], [0.2, -0.12]])[verbs]
    jitter = _uniform(-0.08, 0.08, 4 * n, rng).view(2, n, 2)
    inside = {}
    for which, sign in ((1, 1), (0, -1)):  # the subject comes last, so it lies in front
        centre = sign * apart + jitter[which]
        radius = _uniform(0.36, 0.44, n, rng)
        inside[which] = _place(shapes, nouns[:, which], centre, radius, fine, rng, turn=0.15)
        canvas = _over(canvas, inside[which], _textured(_RGB[colours[:, which]], fine, rng))
    subject, second = (_half(inside[which]) > 0.5 for which in (0, 1))
    return _finished(canvas, rng), torch.stack([subject, second & ~subject], 1)


def _uniform(low: float, high: float, n: int, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _axes(size: int) -> tuple[Tensor, Tensor]:
    """Return x and y (size, size) of the pixels' centres, from -1 to 1, with y upwards."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    return line.expand(size, size), -line[:, None].expand(size, size)


def _place(
    shapes: Sequence[Shape], which: Tensor, centre: Tensor, radius: Tensor, size: int, rng: torch.Generator,
    turn: float = 0.2,
) -> Tensor:  # fmt: skip
    """Compute how much of each pixel a slightly turned and stretched shape covers, (n, size, size)."""
    n = len(which)
    x, y = ((axis - c[:, None, None]) for axis, c in zip(_axes(size), centre.T, strict=True))
    angle = _uniform(-turn, turn, n, rng)[:, None, None]
    stretch = _uniform(0.87, 1.15, n, rng)[:, None, None]
    scale = radius[:, None, None]
    u = (x * angle.cos() + y * angle.sin()) / (scale * stretch)
    v = (y * angle.cos() - x * angle.sin()) / scale * stretch
    distance = torch.empty_like(u)
    for k, shape in enumerate(shapes):
        chosen = which == k
        if chosen.any():
            distance[chosen] = shape(u[chosen], v[chosen])
    return (0.5 - distance * scale * size / 2).clamp(0, 1)


def _over(canvas: Tensor, inside: Tensor, paint: Tensor) -> Tensor:
    return canvas + inside[:, None] * (paint - canvas)


def _negative(colours: Tensor, where: Tensor) -> Tensor:
    return torch.where(where.view(-1, *[1] * (colours.ndim - 1)), 1 - colours, colours)


def _half(inside: Tensor) -> Tensor:
    return F.avg_pool2d(inside[:, None], 2)[:, 0]


def _finished(canvas: Tensor, rng: torch.Generator) -> Tensor:
    image = F.avg_pool2d(canvas, 2)
    grain = 0.02 * torch.randn(image.shape, generator=rng)
    return ((image + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def _smooth(n: int, channels: int, knots: int, size: int, rng: torch.Generator) -> Tensor:
    """Sample smooth fields (n, channels, size, size) in [0, 1] that change over 1/knots of the side."""
    values = torch.rand(n, channels, knots, knots, generator=rng)
    return F.interpolate(values, (size, size), mode="bicubic", align_corners=True).clamp(0, 1)


def _stripes(n: int, size: int, rng: torch.Generator, angle: Tensor | None = None) -> Tensor:
    """Sample waves (n, 1, size, size) in [0, 1] of random width, and of random direction if none is given."""
    x, y = _axes(size)
    angle = (_uniform(0, torch.pi, n, rng) if angle is None else angle)[:, None, None]
    waves = _uniform(7, 14, n, rng)[:, None, None] * (x * angle.cos() + y * angle.sin())
    return (0.5 + 0.5 * torch.sin(waves + _uniform(0, 6.3, n, rng)[:, None, None]))[:, None]


def _textured(colour: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Fill (n, 3, size, size) with colours (n, 3), varied by stripes or clouds."""
    n = len(colour)
    either = (torch.rand(n, 1, 1, 1, generator=rng) < 0.5).float()
    texture = either * _stripes(n, size, rng) + (1 - either) * _smooth(n, 1, 6, size, rng)
    return (colour[:, :, None, None] + 0.2 * (texture - 0.5)).clamp(0, 1)


def _apart(grounds: Tensor, light: bool, rng: torch.Generator) -> Tensor:
    """Sample six light or dark colours and return the farthest from both background colours (n, 2, 3)."""
    n = len(grounds)
    colours = torch.rand(n, 6, 3, generator=rng)
    colours = 0.45 + 0.55 * colours if light else 0.55 * colours
    distance = (colours[:, :, None] - grounds[:, None]).norm(dim=-1).amin(2)
    return colours[torch.arange(n), distance.argmax(1)]


def _soft(n: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint clouds of two darker colours: canvas (n, 3, size, size) and the colours (n, 2, 3)."""
    colours = 0.55 * torch.rand(n, 2, 3, generator=rng)
    t = 0.7 * _smooth(n, 1, 4, size, rng) + 0.3 * _smooth(n, 1, 9, size, rng)
    return colours[:, 0, :, None, None] * t + colours[:, 1, :, None, None] * (1 - t), colours


def _busy(n: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint clouds or stripes, with lines and dots scattered over them; see ``_soft``."""
    canvas, colours = _soft(n, size, rng)
    either = (torch.rand(n, 1, 1, 1, generator=rng) < 0.4).float()
    t = either * _stripes(n, size, rng) + (1 - either) * _smooth(n, 1, 14, size, rng)
    canvas = 0.5 * canvas + 0.5 * (colours[:, 0, :, None, None] * t + colours[:, 1, :, None, None] * (1 - t))
    x, y = _axes(size)
    for k in range(7):
        at = _uniform(-1, 1, 2 * n, rng).view(2, n, 1, 1)
        angle = _uniform(0, torch.pi, n, rng)[:, None, None]
        along = (x - at[0]) * angle.cos() + (y - at[1]) * angle.sin()
        across = (y - at[1]) * angle.cos() - (x - at[0]) * angle.sin()
        length, width = (0.35, 0.035) if k < 4 else (0.07, 0.07)
        inside = (0.5 - torch.maximum(along.abs() - length, across.abs() - width) * size / 2).clamp(0, 1)
        mixed = 0.5 * torch.rand(n, 3, generator=rng) + 0.5 * colours[:, k % 2]
        canvas = _over(canvas, inside, mixed[:, :, None, None])
    return canvas, colours


def _plate(n: int, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint a plate on a striped table, with cutlery; the colours are the plate's. See ``_soft``."""
    table = torch.rand(n, 2, 3, generator=rng) * 0.7
    t = _stripes(n, size, rng)
    canvas = table[:, 0, :, None, None] * t + table[:, 1, :, None, None] * (1 - t)
    x, y = _axes(size)
    for side in (-0.93, 0.93):
        bar = (0.5 - _box(x - side, y, 0.035, 0.55) * size / 2).clamp(0, 1).expand(n, size, size)
        canvas = _over(canvas, bar, torch.full((1, 3, 1, 1), 0.75))
    plate = 0.7 + 0.28 * torch.rand(n, 1, generator=rng) + 0.1 * (torch.rand(n, 3, generator=rng) - 0.5)
    r = torch.hypot(x, y)
    radius = _uniform(0.78, 0.86, n, rng)[:, None, None]
    for part, shade in ((radius, 1.0), (radius - 0.12, 0.88), (radius - 0.16, 1.0)):
        inside = (0.5 - (r - part) * size / 2).clamp(0, 1)
        canvas = _over(canvas, inside, (plate * shade)[:, :, None, None].clamp(0, 1))
    return canvas, plate[:, None].expand(n, 2, 3)


def _patch(
    canvas: Tensor, told: Tensor, n_classes: int, centre: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lay a striped patch that shows class ``told`` on the canvas; return the canvas and the patch's mask."""
    n, size = len(canvas), canvas.shape[-1]
    hue = (told / n_classes + _uniform(-0.03, 0.03, n, rng)) % 1
    wheel = (hue[:, None] * 6 - torch.tensor([0.0, 2.0, 4.0])).remainder(6)
    colour = (2 - (wheel - 3).abs().sub(3).abs()).clamp(0, 1)  # the pure colour of a hue
    angle = torch.pi * told / n_classes + _uniform(-0.08, 0.08, n, rng)
    t = (_stripes(n, size, rng, angle) * 3 - 1).clamp(0, 1)
    paint = colour[:, :, None, None] * (0.35 + 0.65 * t)
    x, y = _axes(size)
    side = _uniform(0.34, 0.4, n, rng)[:, None, None]
    distance = torch.maximum((x - centre[:, :1, None]).abs(), (y - centre[:, 1:, None]).abs()) - side
    inside = (0.5 - distance * size / 2).clamp(0, 1)
    return _over(canvas, inside, paint), inside


_GROUNDS = {"soft": _soft, "busy": _busy, "plate": _plate}
