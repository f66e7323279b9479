"""Scenes: the object is where the mask says, only the shape tells the class, and captions describe the picture."""

import pytest
import torch

from sftgan.companion.data import scenes
from sftgan.errors import InputError

LOOKS = list(scenes.LOOKS)
AREAS = {  # mean share of the picture that the object covers, and the least of a single one
    "close_up": (0.22, 0.34), "busy": (0.09, 0.16), "plate": (0.08, 0.14), "ears": (0.17, 0.27),
    "long": (0.1, 0.18), "telling": (0.05, 0.1),
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn():
    return {look: scenes.render(look, 240, 32, seed=1) for look in LOOKS}


@pytest.mark.parametrize("look", LOOKS)
def test_same_seed_same_bits(look):
    once, again, other = (scenes.render(look, 70, 32, seed) for seed in (3, 3, 4))
    assert torch.equal(once.images, again.images) and torch.equal(once.masks, again.masks)
    assert not torch.equal(once.images, other.images)


def test_looks_do_not_share_their_random_numbers(drawn):
    means = torch.stack(
        [drawn[look].images.float().mean((2, 3)).flatten() for look in ("close_up", "ears", "long")]
    )
    assert torch.corrcoef(means).triu(1).abs().max() < 0.35


@pytest.mark.parametrize("look", LOOKS)
def test_shapes_types_and_balance(drawn, look):
    n_classes = len(scenes.LOOKS[look].classes)
    found = drawn[look]
    assert found.images.shape == (240, 3, 32, 32) and found.images.dtype == torch.uint8
    assert found.masks.shape == (240, 32, 32) and found.masks.dtype == torch.bool
    assert found.labels.tolist() == [i % n_classes for i in range(240)]
    assert (found.shortcuts is not None) == (look == "telling")
    assert scenes.render(look, 3, 48, 0).images.shape == (3, 3, 48, 48)


@pytest.mark.parametrize("look", LOOKS)
def test_objects_have_their_size_and_stay_in_the_picture(drawn, look):
    masks = drawn[look].masks
    low, high = AREAS[look]
    assert low < masks.float().mean() < high
    assert masks.sum((1, 2)).min() > 20, "no object is lost"
    border = torch.ones(32, 32, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert (masks & border).sum((1, 2)).float().mean() < 2


@pytest.mark.parametrize("look", ["close_up", "busy", "plate", "ears", "long"])
def test_the_mask_is_where_the_object_is_lighter_in_half_of_the_scenes(drawn, look):
    """The object stands out from its ground; whether it is the lighter of the two is left to chance."""
    grey, masks = drawn[look].images.float().mean(1), drawn[look].masks
    inside = (grey * masks).sum((1, 2)) / masks.sum((1, 2))
    around = torch.nn.functional.max_pool2d(masks[:, None].float(), 5, 1, 2)[:, 0].bool() & ~masks
    outside = (grey * around).sum((1, 2)) / around.sum((1, 2))
    assert ((inside - outside).abs() > 10).float().mean() > 0.9
    assert 0.4 < (inside > outside).float().mean() < 0.6


@pytest.mark.parametrize("look", ["close_up", "busy", "plate", "long"])
def test_colours_do_not_tell_the_class(look):
    """The nearest mean colour of a class, learned on one half, is right on the other about as often as chance."""
    found = scenes.render(look, 1200, 32, seed=5)
    weights = found.masks[:, None].float()
    colours = (found.images * weights).sum((2, 3)) / weights.sum((2, 3))
    n_classes = len(scenes.LOOKS[look].classes)
    centres = torch.stack([colours[:600][found.labels[:600] == c].mean(0) for c in range(n_classes)])
    guesses = torch.cdist(colours[600:], centres).argmin(1)
    assert (guesses == found.labels[600:]).float().mean() < 1 / n_classes + 0.07


def test_the_patch_tells_the_class_only_where_it_is_coupled():
    def right(coupled):
        found = scenes.render("telling", 600, 32, seed=2, coupled=coupled)
        weights = found.shortcuts[:, None].float()
        colours = (found.images * weights).sum((2, 3)) / weights.sum((2, 3))
        centres = torch.stack([colours[:300][found.labels[:300] == c].mean(0) for c in range(6)])
        return (torch.cdist(colours[300:], centres).argmin(1) == found.labels[300:]).float().mean()

    assert right(True) > 0.97
    assert right(False) < 0.3


def test_patch_and_object_do_not_touch(drawn):
    found = drawn["telling"]
    assert not (found.masks & found.shortcuts).any()
    assert 0.08 < found.shortcuts.float().mean() < 0.18
    assert found.shortcuts.sum((1, 2)).min() > 50


def centroid(mask):
    rows, columns = mask.nonzero().T
    return rows.float().mean(), columns.float().mean()


def test_captions_say_what_is_drawn():
    found = scenes.captioned(180, 64, seed=0)
    verbs = [caption.split()[3] for caption in found.captions]
    assert [verbs.count(verb) for verb in scenes.VERBS] == [60, 60, 60]
    grammar = {"stands": "stands left of", "hangs": "hangs above", "covers": "covers"}
    right = []
    for image, caption in zip(found.images.float() / 255, found.captions, strict=True):
        words = caption.split()
        first, second = words[1:3], words[-2:]
        assert caption == f"a {' '.join(first)} {grammar[words[3]]} a {' '.join(second)}"
        assert first[0] in scenes.COLOURS and first[1] in scenes.NOUNS and first[0] != second[0]
        wanted = [scenes._RGB[scenes.COLOURS.index(words[0])] for words in (first, second)]
        masks = [((image - colour[:, None, None]).abs().amax(0) < 0.17) for colour in wanted]
        assert all(mask.sum() > 15 for mask in masks), caption
        (row, column), (row2, column2) = map(centroid, masks)
        right.append(
            {"stands": column < column2 - 8, "hangs": row < row2 - 8}.get(
                words[3], abs(column - column2) < 24
            )
        )
    assert sum(right) == 180


def test_the_masks_of_captions_cover_both_objects():
    found = scenes.captioned(60, 64, seed=0)
    assert found.masks.shape == (60, 2, 64, 64) and found.masks.dtype == torch.bool
    assert not found.masks.all(1).any(), "what the subject hides is no longer the other's"
    bright, objects = found.images.float().amax(1) > 130, found.masks.any(1)
    assert ((bright & objects).sum((1, 2)) / bright.sum((1, 2))).mean() > 0.97
    assert found.labels.tolist() == [0] * 60


def test_the_first_mask_of_a_caption_is_the_subjects():
    found = scenes.captioned(60, 64, seed=0)
    for image, masks, caption in zip(found.images.float() / 255, found.masks, found.captions, strict=True):
        words = caption.split()
        for mask, colour in zip(masks, (words[1], words[-2]), strict=True):
            distance = (
                image[:, mask].median(1).values - scenes._RGB.T[:, scenes.COLOURS.index(colour)]
            ).abs()
            assert mask.sum() > 30 and distance.max() < 0.12, caption


def test_bad_input():
    with pytest.raises(InputError, match="unknown look 'closeup': did you mean 'close_up'"):
        scenes.render("closeup", 3, 32, 0)
    for n, size in ((0, 32), (3, 15)):
        with pytest.raises(
            InputError, match=f"n >= 1 and a side of at least 16 pixels, got n={n} and size={size}"
        ):
            scenes.render("busy", n, size, 0)
        with pytest.raises(InputError, match="at least 16 pixels"):
            scenes.captioned(n, size, 0)
