"""Published values, the orderings that the paper claims, and the criterion that judges them."""

import pytest

from sftgan import metrics
from sftgan.companion.chapters import dice, faithfulness
from sftgan.companion.data.registry import REGISTRY
from sftgan.companion.report import paper, statistics
from sftgan.companion.study.frames import METHODS, TRUTHS


def test_published_values():
    assert paper.DICE_LSFT.value == 0.6588 and "Table 2" in paper.DICE_LSFT.where
    assert (
        paper.CNN_ACCURACIES == {"similar": 0.95, "dissimilar": 0.90}
        and paper.CHINESE_MNIST_ACCURACY.value == 0.99
    )
    assert (paper.EPOCHS_THREE_DATASETS.value, paper.EPOCHS_ONE_DATASET.value) == (1, 6)
    assert all(
        published.where for published in vars(paper).values() if isinstance(published, paper.Published)
    )


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.01, 0.2, "holds"),
        (1e-12, 1e-12, "holds"),
        (-0.2, -0.01, "does not hold"),
        (-0.1, 0.0, "does not hold"),
        (0.0, 0.0, "does not hold"),
        (0.0, 0.1, "depends"),
        (-0.1, 0.1, "depends"),
        (float("nan"), float("nan"), "depends"),
    ],
)
def test_verdict(low, high, expected):
    assert statistics.verdict(low, high) == expected


def test_every_ordering_can_be_measured_and_says_what_it_measures():
    assert len({ordering.claim for ordering in dice.ORDERINGS}) == len(dice.ORDERINGS)
    for claim, where, measure, larger, smaller, truth, dataset in dice.ORDERINGS:
        assert where == {"dice": "Table 2", "tp": "Table 1", "tn": "Table 1"}[measure]
        assert larger != smaller and {larger, smaller} <= set(METHODS) and truth in TRUTHS
        assert claim.startswith(larger) and claim.index(larger) < claim.index(smaller, len(larger))
        if dataset:
            assert dataset in REGISTRY and dataset.upper() in claim


def test_the_orderings_of_table_3_are_judged_in_both_definitions():
    orderings = faithfulness.FAITHFULNESS_ORDERINGS
    assert len(orderings) == len({ordering.claim for ordering in orderings}) == 16
    for claim, where, measure, larger, smaller, truth, dataset in orderings:
        assert (where, truth, dataset) == ("Table 3", None, None)
        assert larger != smaller and {larger, smaller} < {"LSFT", "GSFT", "Grad-CAM"}
        assert ("(Grad-CAM++)" in measure) == claim.endswith("as Grad-CAM++ defines it")
        if "drop" in measure:  # less is better: who is said to be below is the smaller one
            assert claim.startswith(f"{smaller}'s drop is below {larger}'s")
        elif "increase" in measure:
            assert claim.startswith(f"{larger}'s increase is above {smaller}'s")
        else:
            assert measure.startswith("balance")
    measures = {ordering.measure for ordering in orderings}
    assert measures == {*metrics.STATISTICS, "balance", "balance (Grad-CAM++)"}
