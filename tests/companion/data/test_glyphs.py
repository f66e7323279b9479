"""Rendered glyphs: exact, varied, legible, and true to their masks."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label as components

from sftgan.companion.data import glyphs
from sftgan.errors import InputError

EMNIST, NUMERALS = glyphs.ALPHABETS["emnist"], glyphs.ALPHABETS["chinese_mnist"]


def draw(alphabet, n, size=32, seed=0, **options):
    fonts = glyphs.font_paths(alphabet.fonts)
    return glyphs.render(alphabet.characters, n, size, seed, fonts, **{"pen": alphabet.pen} | options)


@pytest.fixture(scope="module")
def letters():
    return draw(EMNIST, 1040)


def test_alphabets_are_complete():
    assert EMNIST.classes[0] == "A" and EMNIST.characters[0] == "Aa" and len(EMNIST.classes) == 26
    assert dict(zip(NUMERALS.classes, NUMERALS.characters, strict=True))["10000"] == "万"
    assert len(set("".join(NUMERALS.characters))) == 15


@pytest.mark.parametrize("alphabet", [EMNIST, NUMERALS], ids=["letters", "numerals"])
def test_every_shape_has_lines_in_the_frame(alphabet):
    for font in glyphs.font_paths(alphabet.fonts):
        for character in "".join(alphabet.characters):
            distance = glyphs.shape(character, font)
            rows, columns = np.nonzero(distance == 0)
            extent = max(np.ptp(rows), np.ptp(columns)) / glyphs.GRID
            assert 0.5 <= extent <= glyphs.EXTENT + 0.02, (character, font)
            border = np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]])
            assert border.min() > 0.1, (character, font)


def test_shape_is_a_distance_in_parts_of_the_side():
    bar = glyphs.shape("一", glyphs.font_paths(NUMERALS.fonts)[0])
    column = bar[:, glyphs.GRID // 2]
    middle = int(column.argmin())
    assert column[middle] == 0
    assert np.allclose(column[middle : middle + 20], np.arange(20) / glyphs.GRID, atol=1e-6)


def test_types_ranges_and_balance(letters):
    images, masks, labels = letters
    assert images.dtype == torch.uint8 and images.shape == (1040, 32, 32)
    assert masks.dtype == torch.bool and masks.shape == images.shape
    assert labels.tolist() == [i % 26 for i in range(1040)]
    assert (images == 0).float().mean() > 0.6  # black ground, exactly
    assert images.flatten(1).max(1).values.min() > 140  # no glyph has faded away
    cover = masks.float().mean((1, 2))
    assert cover.min() > 0.01 and cover.max() < 0.5 and 0.08 < cover.mean() < 0.2


def test_mask_is_the_stroke(letters):
    images, masks, _ = letters
    assert images[masks].float().mean() > 190 and images[~masks].float().mean() < 15
    ink = images > 127
    overlap = (ink & masks).sum((1, 2)) / (ink | masks).sum((1, 2))
    assert overlap.mean() > 0.9


def test_pen_width_is_obeyed():
    thin = draw(NUMERALS, 60, 64, pen=(0.02, 0.02))[1].float().mean()
    thick = draw(NUMERALS, 60, 64, pen=(0.04, 0.04))[1].float().mean()
    assert 1.5 < thick / thin < 2.3


def test_seed_decides_every_bit():
    first, again, other = draw(EMNIST, 300, seed=5), draw(EMNIST, 300, seed=5), draw(EMNIST, 300, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_no_two_glyphs_are_alike():
    images = draw(NUMERALS, 15 * 20)[0]
    assert len({image.numpy().tobytes() for image in images}) == len(images)
    ones = images[1::15].float() / 255  # 一: position, length, tilt and ink all vary
    assert ones.std(0).max() > 0.25
    height = torch.stack([(one.sum(1) > 1).sum() for one in ones]).float()
    assert height.std() > 0.8


def test_strokes_stay_whole():
    masks = draw(NUMERALS, 15 * 20, 64)[1]
    pieces = [components(mask.numpy(), np.ones((3, 3)))[1] for mask in masks[10::15]]  # 十 is one piece
    assert np.mean([p == 1 for p in pieces]) > 0.9
    pieces = [components(mask.numpy(), np.ones((3, 3)))[1] for mask in masks[3::15]]  # 三 is three
    assert np.mean([p == 3 for p in pieces]) > 0.9


def test_classes_can_be_told_apart():
    """The nearest class mean, the weakest of classifiers, is far above chance (1/15) on new glyphs."""
    train, _, labels = draw(NUMERALS, 15 * 40, 32, seed=0)
    test, _, truth = draw(NUMERALS, 15 * 20, 32, seed=1)
    means = torch.stack([train[labels == k].float().mean(0) for k in range(15)]).flatten(1)
    guess = torch.cdist(test.float().flatten(1), means).argmin(1)
    assert (guess == truth).float().mean() > 0.5


def test_missing_character_and_font_are_named():
    caladea = glyphs.font_paths([("font_caladea", "Caladea-Regular.ttf")])
    with pytest.raises(InputError, match="Caladea-Regular.ttf.*no glyph for '零'"):
        glyphs.render(("零",), 1, 32, 0, caladea)
    with pytest.raises(InputError, match="pip install font-nowhere"):
        glyphs.font_paths([("font_nowhere", "Nowhere.ttf")])
    with pytest.raises(InputError, match="holds no 'Nowhere.ttf'"):
        glyphs.font_paths([("font_caladea", "Nowhere.ttf")])
