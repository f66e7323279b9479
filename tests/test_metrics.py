"""Metrics against hand-computed values, and the properties that hold for any pair of masks."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sftgan import metrics
from sftgan.errors import InputError
from sftgan.intervals import bootstrap_ci, resampled, statistic_ci
from sftgan.metrics import binarise, confusion, correlation, dice

PREDICTION = torch.tensor([[[1, 1, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]], dtype=torch.bool)
TRUTH = torch.tensor([[[1, 0, 0], [1, 1, 1]], [[0, 1, 0], [0, 0, 0]]], dtype=torch.bool)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
mask_pairs = shapes.flatmap(lambda s: st.tuples(arrays(bool, s), arrays(bool, s))).map(
    lambda pair: tuple(torch.from_numpy(mask) for mask in pair)
)


def test_binarise_is_strictly_above_the_grey_level():
    grey = torch.tensor([[[0.0, 126.0], [127.0, 128.0], [254.0, 255.0]]], dtype=torch.float64)
    assert binarise(grey / 255).int().tolist() == [[[0, 0], [0, 1], [1, 1]]]
    assert binarise(grey / 255, threshold=0).int().tolist() == [[[0, 1], [1, 1], [1, 1]]]
    assert not binarise(grey / 255, threshold=255).any()


@pytest.mark.parametrize(
    ("maps", "threshold", "sentence"),
    [
        (torch.tensor([0.0, 2.5]), 127, "range from 0 to 2.5"),
        (torch.tensor([-0.5, 1.0]), 127, "range from -0.5 to 1"),
        (torch.tensor([float("nan"), 1.0]), 127, "without NaN"),
        (torch.tensor([0, 255], dtype=torch.uint8), 127, "torch.uint8"),
        (torch.tensor([0.5]), 256, "threshold is 256"),
        (torch.tensor([0.5]), -1, "threshold is -1"),
    ],
)
def test_binarise_refuses(maps, threshold, sentence):
    with pytest.raises(InputError, match=sentence):
        binarise(maps, threshold)


def test_confusion_by_hand():
    counts = {name: count.tolist() for name, count in confusion(PREDICTION, TRUTH).items()}
    # A false positive is background called foreground: one pixel of the first image, none of the second.
    assert counts == {"tp": [2, 0], "tn": [1, 5], "fp": [1, 0], "fn": [2, 1]}
    assert all(count.dtype == torch.int64 for count in confusion(PREDICTION, TRUTH).values())


def test_dice_by_hand():
    value = dice(PREDICTION, TRUTH)
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx([4 / 7, 0.0], abs=1e-15)


def test_dice_of_empty_masks():
    empty, full = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    assert dice(empty, empty).tolist() == [1.0]
    assert dice(empty, full).tolist() == [0.0]
    assert dice(full, empty).tolist() == [0.0]


@given(mask_pairs)
@settings(deadline=None)
def test_dice_and_confusion_agree(masks):
    prediction, truth = masks
    tp, tn, fp, fn = (confusion(prediction, truth)[name] for name in ("tp", "tn", "fp", "fn"))
    assert (tp + tn + fp + fn == prediction[0].numel()).all()
    counts = (tp.tolist(), fp.tolist(), fn.tolist())
    expected = [2 * t / (2 * t + p + n) if t + p + n else 1.0 for t, p, n in zip(*counts, strict=True)]
    np.testing.assert_allclose(dice(prediction, truth), expected, rtol=0, atol=1e-12)


@given(mask_pairs)
@settings(deadline=None)
def test_dice_is_symmetric_bounded_and_one_only_for_equal_masks(masks):
    prediction, truth = masks
    value = dice(prediction, truth)
    assert torch.equal(value, dice(truth, prediction))
    assert ((value >= 0) & (value <= 1)).all()
    assert torch.equal(value == 1, (prediction == truth).all(dim=(1, 2)))
    assert (dice(truth, truth) == 1).all()


@pytest.mark.parametrize("function", [confusion, dice])
@pytest.mark.parametrize(
    ("prediction", "truth", "sentence"),
    [
        (PREDICTION.float(), TRUTH, "prediction is torch.float32: binarise"),
        (PREDICTION, TRUTH.long(), "truth is torch.int64: binarise"),
        (PREDICTION[0], TRUTH[0], r"prediction has shape \(2, 3\)"),
        (PREDICTION, TRUTH[:1], r"\(2, 2, 3\) and truth \(1, 2, 3\)"),
    ],
)
def test_masks_are_checked(function, prediction, truth, sentence):
    with pytest.raises(InputError, match=sentence):
        function(prediction, truth)


def test_bootstrap_matches_the_normal_interval_and_repeats():
    values = np.random.default_rng(1).normal(0.6, 0.2, size=400)
    low, high = bootstrap_ci(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert (low, high) == bootstrap_ci(torch.from_numpy(values))
    assert (low, high) != bootstrap_ci(values, seed=1)


def test_bootstrap_narrows_with_images_and_widens_with_level():
    values = np.random.default_rng(2).random(1600)

    def width(sample, level=0.95):
        low, high = bootstrap_ci(sample, level)
        return high - low

    assert width(values[:100]) / width(values) == pytest.approx(4, rel=0.2)  # square root of 16
    assert width(values, 0.99) > 1.2 * width(values) > 1.2 * width(values, 0.9)


@given(arrays(float, st.integers(2, 30), elements=st.floats(-1, 1, width=16)))
@settings(deadline=None, max_examples=30)
def test_bootstrap_contains_the_mean(values):
    low, high = bootstrap_ci(values, level=0.99, n=500)
    assert low - 1e-12 <= values.mean() <= high + 1e-12


def test_bootstrap_covers_the_true_mean_as_often_as_it_says():
    samples = np.random.default_rng(3).random((300, 40))  # uniform: the true mean is 0.5
    intervals = [bootstrap_ci(sample, level=0.9, n=300, seed=k) for k, sample in enumerate(samples)]
    coverage = np.mean([low <= 0.5 <= high for low, high in intervals])
    assert (
        0.84 <= coverage <= 0.95
    )  # 0.9 within three standard errors, a little less as percentile intervals are


def test_bootstrap_of_constant_and_single_values():
    assert bootstrap_ci(np.full(7, 0.25)) == (0.25, 0.25)
    assert all(math.isnan(limit) for limit in bootstrap_ci([0.25]))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: bootstrap_ci([]), r"shape \(0,\)"),
        (lambda: bootstrap_ci(np.zeros((2, 2))), r"shape \(2, 2\)"),
        (lambda: bootstrap_ci([0.1, float("nan"), 0.3]), "at 1 of 3 images"),
        (lambda: bootstrap_ci([0.1, 0.2], level=95), "level is 95"),
        (lambda: bootstrap_ci([0.1, 0.2], n=0), "n is 0"),
        (
            lambda: statistic_ci(np.mean, [0.1, 0.2], [0.1]),
            "columns have 2, 1 values: give all columns the same",
        ),
    ],
)
def test_bootstrap_refuses(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_paired_interval_sees_what_unpaired_ones_hide():
    rng = np.random.default_rng(4)
    hard = rng.random(200)  # images differ far more than the methods do
    a, b = hard + 0.02, hard + rng.normal(0, 0.01, size=200)
    low, high = statistic_ci(lambda a, b, axis: (a - b).mean(axis), a, b)
    assert 0.015 < low < (a - b).mean() < high < 0.025
    assert statistic_ci(lambda a, b, axis: (a - b).mean(axis), b, a) == pytest.approx((-high, -low), abs=1e-3)
    assert bootstrap_ci(a)[0] < bootstrap_ci(b)[1]  # the unpaired intervals overlap


@pytest.mark.parametrize("seeds", [None, [3] * 30], ids=["no seeds", "one seed"])
def test_without_several_seeds_the_interval_is_scipys_to_the_bit(seeds):
    values = np.random.default_rng(5).normal(size=30)
    theirs = scipy.stats.bootstrap(
        [np.arange(30)], lambda drawn, axis: values[drawn].mean(axis), vectorized=True, method="percentile",
        n_resamples=2000, batch=10**7 // 30, rng=np.random.default_rng(0),
    )  # fmt: skip
    found = resampled(np.mean, values, seeds=seeds)
    assert found[:2] == tuple(theirs.confidence_interval) == bootstrap_ci(values)
    assert found.p == 2 * (theirs.bootstrap_distribution >= 0).mean()


def test_seeds_are_drawn_before_images():
    """Images that are alike leave the mean of three draws from three seeds, whose distribution is known."""
    values = np.repeat([0.0, 1.0, 2.0], 10)
    seeds = np.repeat([0, 1, 2], 10)
    # k / 3 with 1, 3, 6, 7, 6, 3, 1 chances of 27: 3.7 % at either end, 14.8 % with the next
    assert statistic_ci(np.mean, values, seeds=seeds) == (0, 2)
    assert statistic_ci(np.mean, values, seeds=seeds, level=0.9) == pytest.approx((1 / 3, 5 / 3))
    low, high = statistic_ci(np.mean, values)
    assert 0.6 < low < high < 1.4, "thirty images of one seed would be less uncertain"
    assert resampled(np.mean, values - 1, seeds=seeds).p == 1
    assert resampled(np.mean, values, seeds=seeds).p == pytest.approx(2 / 27, rel=0.3), (
        "of all resamples at 0"
    )


def test_images_are_drawn_within_each_seed_and_data_set():
    rng = np.random.default_rng(6)
    stratum = np.tile([0, 1], 90)
    seeds = np.repeat([0, 1, 2], 60)
    noise = rng.normal(size=(3, 30, 2))
    values = 10.0 * stratum + (noise - noise.mean(1, keepdims=True)).ravel()  # no seed differs from another
    low, high = statistic_ci(np.mean, values, strata=stratum, seeds=seeds)
    pooled = np.subtract(*statistic_ci(np.mean, values, strata=stratum)[::-1])
    assert (high - low) / pooled == pytest.approx(1, abs=0.1)
    assert np.subtract(*statistic_ci(np.mean, values, seeds=seeds)[::-1]) > 5 * (high - low)
    alone = np.append(stratum[:-1], 2)  # the last image is the only one of its data set
    assert all(map(math.isnan, resampled(np.mean, values, strata=alone, seeds=seeds)))


def test_an_image_keeps_its_rows_together_within_its_seed():
    values, seeds = np.random.default_rng(7).normal(size=60), np.repeat([0, 1, 2], 20)
    one = resampled(np.mean, values, seeds=seeds)
    three = resampled(
        np.mean, np.repeat(values, 3), units=np.repeat(np.arange(60), 3), seeds=np.repeat(seeds, 3)
    )
    assert three == pytest.approx(one)
    with pytest.raises(InputError, match="rows of several seeds: give it a different unit for each"):
        resampled(np.mean, values, units=np.tile(np.arange(20), 3), seeds=seeds)


def test_trainings_that_differ_are_covered_only_if_seeds_are_drawn():
    rng, seeds = np.random.default_rng(8), np.repeat([0, 1, 2, 3, 4], 20)
    hits = {"pooled": 0, "hierarchical": 0}
    for _ in range(100):
        values = rng.normal(size=5).repeat(20) + rng.normal(size=100)  # the true mean is 0
        for name, own in (("pooled", None), ("hierarchical", seeds)):
            low, high = statistic_ci(np.mean, values, seeds=own, n=200)
            hits[name] += low <= 0 <= high
    assert hits["pooled"] < 60 and hits["hierarchical"] >= 75, "of 95; five seeds are few for a bootstrap"


def test_p_is_that_of_the_normal_distribution_and_never_zero():
    values = np.random.default_rng(9).normal(0.1, 1, size=400)
    found = resampled(np.mean, values)
    z = values.mean() / values.std() * math.sqrt(len(values))
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), abs=0.02)
    assert resampled(np.mean, -values).p == pytest.approx(found.p, abs=0.02)
    assert resampled(np.mean, values + 5).p == 1 / 2000 and resampled(np.mean, values - 5, n=100).p == 1 / 100
    assert resampled(np.mean, np.zeros(9)).p == 1 and resampled(np.mean, np.ones(9)).p == 1 / 2000


@given(arrays(float, st.integers(2, 30), elements=st.floats(-1, 1, width=16)))
@settings(deadline=None, max_examples=30)
def test_an_interval_that_contains_zero_goes_with_a_p_above_its_tail(values):
    low, high, p = resampled(np.mean, values, n=500)
    assert p >= 0.048 if low <= 0 <= high else p <= 0.052


def test_correlation_equals_numpy_and_is_zero_for_flat_maps():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, 4, 4, generator=generator), torch.rand(3, 4, 4, generator=generator)
    b[1], b[2] = -2 * a[1] + 3, 0.5
    expected = np.corrcoef(a[0].flatten(), b[0].flatten())[0, 1]
    assert correlation(a, b).tolist() == pytest.approx([expected, -1.0, 0.0])


@pytest.mark.parametrize("threshold", [-1, 256, "127", None, True, float("nan")])
def test_a_bad_threshold_is_refused_in_a_sentence(threshold):
    with pytest.raises(InputError, match="give a grey level from 0 to 255"):
        binarise(torch.zeros(1, 2, 2), threshold)


# Faithfulness (Eq. 7, 8)

BEFORE = np.array([0.8, 0.5, 0.4, 0.2])  # on the images
AFTER = np.array([0.6, 0.5, 0.1, 0.3])  # on their energy maps: two fall, one stays, one rises


def test_drop_and_increase_by_hand():
    assert metrics.average_drop(BEFORE, AFTER) == pytest.approx(100 * (0.2 + 0.3) / (0.8 + 0.4))
    assert metrics.average_increase(BEFORE, AFTER) == pytest.approx(100 * 0.1 / 0.2)
    assert metrics.drop_plus_plus(BEFORE, AFTER) == pytest.approx(100 * (0.25 + 0 + 0.75 + 0) / 4)
    assert metrics.increase_plus_plus(BEFORE, AFTER) == pytest.approx(25)


def test_the_two_definitions_are_not_the_same():
    """One image that loses everything among nine that gain: 100 % by the paper, 10 % by Grad-CAM++."""
    original, energy = np.full(10, 0.5), np.array([0.0, *[0.6] * 9])
    assert metrics.average_drop(original, energy) == pytest.approx(100)
    assert metrics.drop_plus_plus(original, energy) == pytest.approx(10)


def test_a_win_of_grad_cam_plus_plus_is_a_smaller_relative_drop():
    assert metrics.relative_drop(BEFORE, AFTER).tolist() == pytest.approx([0.25, 0, 0.75, 0])
    assert metrics.relative_drop(np.zeros(2), np.array([0.0, 0.5])).tolist() == [0, 0]


def test_statistics_know_the_images_they_are_about():
    about = {name: statistic.counts(BEFORE, AFTER).tolist() for name, statistic in metrics.STATISTICS.items()}
    assert about == {
        "average drop": [True, False, True, False],
        "average increase": [False, False, False, True],
        "average drop (Grad-CAM++)": [True] * 4,
        "increase in confidence (Grad-CAM++)": [True] * 4,
    }


def test_no_drop_and_no_increase_are_zero():
    assert metrics.average_drop(BEFORE, BEFORE) == metrics.average_increase(BEFORE, BEFORE) == 0
    assert metrics.drop_plus_plus(BEFORE, BEFORE) == metrics.increase_plus_plus(BEFORE, BEFORE) == 0


@pytest.mark.parametrize("name", metrics.STATISTICS)
def test_statistics_work_along_the_last_axis(name):
    """As the bootstrap calls them."""
    columns, statistic, _ = metrics.STATISTICS[name]
    assert columns == ("E", "O")
    rows = statistic(np.stack([BEFORE, AFTER, BEFORE]), np.stack([AFTER, BEFORE, BEFORE]), axis=-1)
    assert rows.tolist() == pytest.approx([statistic(BEFORE, AFTER), statistic(AFTER, BEFORE), 0.0])


def test_grad_cam_plus_plus_definitions_equal_pytorch_grad_cams():
    """Its metrics multiply the image with the map as well, in a model whose score is the mean brightness."""
    from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Brightness(torch.nn.Module):
        def forward(self, images):
            mean = images.mean((1, 2, 3))
            return torch.stack([mean, 1 - mean], 1)

    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(6, 3, 8, 8, generator=generator), torch.rand(6, 8, 8, generator=generator)
    for c in (0, 1):
        targets = [ClassifierOutputTarget(c)] * 6
        theirs = [
            m()(images, maps.numpy(), targets, Brightness()) for m in (DropInConfidence, IncreaseInConfidence)
        ]
        original = Brightness()(images)[:, c].double().numpy()
        energy = Brightness()(metrics.energy_map(images, maps))[:, c].double().numpy()
        assert metrics.increase_plus_plus(original, energy) == pytest.approx(100 * theirs[1].mean())
        relative = np.maximum(original - energy, 0)
        assert relative == pytest.approx(theirs[0], abs=1e-6)  # theirs is not divided by the original


def test_energy_maps():
    images, maps = torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8)
    assert torch.equal(metrics.energy_map(images, maps), images * maps[:, None])
    larger = metrics.energy_map(images, torch.full((2, 4, 4), 0.5))
    torch.testing.assert_close(larger, images / 2)


# Insertion and deletion


def test_pixels_go_in_the_order_of_the_map():
    image = torch.ones(1, 3, 2, 2)
    order = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    removed, added = zip(*metrics.perturbed(image, order, 4), strict=True)
    assert [part[0, 0].flatten().tolist() for part in removed] == [
        [1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert all(torch.equal(a + b, image) for a, b in zip(removed, added, strict=True))


def test_curves_equal_those_of_a_loop_over_pixels():
    """Pixel after pixel in the order of the map, on a CNN that is one layer; the map has ties."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 3, 4, generator=generator)
    maps = torch.rand(2, 3, 4, generator=generator).round(decimals=1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)).requires_grad_(False)
    classes = torch.tensor([2, 0])
    pairs = list(metrics.perturbed(images, maps, 12))
    for k, (image, order, c) in enumerate(zip(images, maps, classes.tolist(), strict=True)):
        places = [(y, x) for y in range(3) for x in range(4)]
        places.sort(key=lambda place: -order[place].item())  # stable: equal values from the top left
        without, only = image.clone(), torch.zeros_like(image)
        for step in range(13):
            for part, expected in zip(pairs[step], (without, only), strict=True):
                found = metrics.confidence(model, part, classes)[k]
                assert found == pytest.approx(model(expected[None]).softmax(1)[0, c].item(), abs=1e-6)
            if step < 12:
                y, x = places[step]
                without[:, y, x], only[:, y, x] = 0, image[:, y, x]


def test_confidence_is_of_the_class_asked_for():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.eye(2)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear)
    found = metrics.confidence(
        model, logits[:, :, None, None].repeat(100, 1, 1, 1), torch.tensor([0, 0] * 100)
    )
    assert found.dtype == torch.float64 and found.shape == (200,)
    assert found[:2].tolist() == pytest.approx([1 / (1 + np.e), 1 / (1 + np.exp(-2))])
    assert torch.equal(found[:2], found[-2:])


def test_equal_values_count_from_the_top_left():
    removed = [part for part, _ in metrics.perturbed(torch.ones(1, 3, 2, 2), torch.zeros(1, 2, 2), 2)]
    assert removed[1][0, 0].tolist() == [[0, 0], [1, 1]]


def test_area_under_a_curve():
    assert metrics.area_under_curve(torch.tensor([1.0, 1.0, 1.0])) == 1
    assert metrics.area_under_curve(torch.tensor([[0.0, 1.0], [1.0, 0.5]])).tolist() == [0.5, 0.75]


# Noise (Eq. 9), shortcuts, relevance (Eq. 10)

MAPS = torch.tensor([[[1.0, 0.5], [0.25, 0.25]], [[0.0, 0.0], [0.0, 0.0]]])
MASK = torch.tensor([[[True, False], [False, False]]]).expand(2, 2, 2)


def test_background_error_by_hand():
    assert metrics.background_error(MAPS, MASK).tolist() == pytest.approx([1 / 3, 0.0])
    assert metrics.background_error(MAPS, ~MASK).tolist() == pytest.approx([1.0, 0.0])


def test_foreground_share_does_not_depend_on_brightness():
    assert metrics.foreground_share(MAPS, MASK).tolist() == pytest.approx([0.75, 0.5])
    assert metrics.foreground_share(MAPS / 7, MASK)[0] == pytest.approx(0.75)
    assert metrics.background_error(MAPS / 7, MASK)[0] == pytest.approx(1 / 21), (
        "but the background error does"
    )
    assert metrics.foreground_share(torch.full((1, 2, 2), 0.3), MASK[:1])[0] == pytest.approx(0.5)


def test_intensity_on_the_object():
    found = metrics.foreground_mean(MAPS, MASK)
    assert found.tolist() == pytest.approx([1.0, 0.0])
    assert metrics.foreground_mean(MAPS, torch.zeros_like(MASK)).isnan().all()


def test_additional_regions_by_hand():
    marks = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]])  # the second finds nothing new
    known = torch.tensor([[[1.0, 0.0, 0.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]])
    other = torch.tensor([[[0.9, 0.7, 0.2, 0.4]], [[0.9, 0.7, 0.2, 0.4]]])
    first, second = metrics.additional_regions(marks, known, other)
    assert first == pytest.approx(0.7 - (0.2 + 0.4) / 2) and second.isnan()
    everywhere = metrics.additional_regions(torch.ones(1, 1, 4), known[:1], other[:1])
    assert everywhere.isnan(), "nothing is left to compare with"


def test_mass_share():
    share = metrics.mass_share(MAPS, MASK)
    assert share[0] == pytest.approx(0.5) and share[1].isnan()


def test_relevance_by_hand():
    assert metrics.relevance(MAPS, torch.full((2, 2, 2), 0.25)).tolist() == pytest.approx([1.0, 1.0])
    assert metrics.relevance(MAPS, MAPS).tolist() == [0, 0]


def test_one_cgma_at_a_time_is_replaced():
    conditions = torch.arange(1.0, 7.0).view(3, 2, 1, 1)
    found = [
        (name, c, part.flatten(1).tolist())
        for name, c, part in metrics.replaced(conditions, conditions.mean(0))
    ]
    assert found == [
        ("zeros", 0, [[0, 2], [0, 4], [0, 6]]),
        ("zeros", 1, [[1, 0], [3, 0], [5, 0]]),
        ("mean", 0, [[3, 2], [3, 4], [3, 6]]),
        ("mean", 1, [[1, 4], [3, 4], [5, 4]]),
        ("another image", 0, [[5, 2], [1, 4], [3, 6]]),
        ("another image", 1, [[1, 6], [3, 2], [5, 4]]),
    ]
    assert conditions.flatten().tolist() == [1, 2, 3, 4, 5, 6], "the conditions given are left alone"


def test_rank_correlation_equals_scipy_and_does_not_see_monotone_changes():
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(1)
    a, b = (
        torch.rand(3, 4, 5, generator=generator),
        torch.rand(3, 4, 5, generator=generator).round(decimals=1),
    )
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert metrics.rank_correlation(a, b).tolist() == pytest.approx(expected)
    torch.testing.assert_close(metrics.rank_correlation(a**3, a), torch.ones(3, dtype=torch.float64))


def test_confidence_is_that_of_the_net_in_evaluation_mode_in_any_batch():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(12, 3)).train()
    images, classes = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 2, 1, 0])
    found = [metrics.confidence(net, images, classes, batch) for batch in (1, 2, 128)]
    assert net.training
    with torch.no_grad():
        expected = net.eval()(images).softmax(1).gather(1, classes[:, None])[:, 0].double()
    for values in found:
        torch.testing.assert_close(values.detach(), expected, atol=1e-6, rtol=0)
