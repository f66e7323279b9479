"""What the paper published, and how a measured difference is judged against it."""

from typing import NamedTuple

UNKNOWN = "not available"
"""Stands wherever a cell of Tables 1 to 3 would: no public copy with the cells was found."""


class Published(NamedTuple):
    """A published value and where it stands."""

    value: float
    where: str


DICE_LSFT = Published(0.6588, "Table 2 and section 4.2.2")
CNN_ACCURACY = Published(0.95, "section 4.1.1, each of the nine CNNs")
CHINESE_MNIST_ACCURACY = Published(0.99, "section 4.1.1, average of the three CNNs")
EPOCHS_THREE_DATASETS = Published(1, "section 4.3.3")
EPOCHS_ONE_DATASET = Published(6, "section 4.3.3")

ORDERINGS = {
    "LSFT's average Dice is above GSFT's": "Table 2",
    "LSFT's average Dice is above Grad-CAM's": "Table 2",
    "GSFT has more true positives than LSFT on MNIST": "Table 1",
    "GSFT has more true positives than LSFT on EMNIST": "Table 1",
    "LSFT has more true negatives than GSFT": "Table 1",
}


def verdict(low: float, high: float) -> str:
    """Judge a claimed positive difference by its measured interval.

    The criterion, fixed beforehand: "holds" where the whole interval is above zero, "does not hold" where it is
    all below zero or shrunk onto it, "depends" where it contains zero.
    """
    if low > 0:
        return "holds"
    if high <= 0:
        return "does not hold"
    return "depends"
