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

CONVOLUTIONS = {
    "VGG16": 13,
    "VGG19": 16,
    "ResNet50": 53,
    "MobileNetV2": 52,
    "InceptionV3": 94,
    "Xception": 40,
}
"""N, the convolutions of the paper's architectures: projections count, a separable convolution counts once."""


class Ordering(NamedTuple):
    """A claim that one method's mean of a measure is larger than another's, and where the paper makes it."""

    claim: str
    where: str
    measure: str
    larger: str
    smaller: str
    truth: str
    dataset: str | None = None


ORDERINGS = (
    Ordering(
        "GSFT has more true positives than LSFT on MNIST", "Table 1", "tp", "GSFT", "LSFT", "strokes", "mnist"
    ),
    Ordering(
        "GSFT has more true positives than LSFT on EMNIST",
        "Table 1",
        "tp",
        "GSFT",
        "LSFT",
        "strokes",
        "emnist",
    ),
    Ordering("LSFT has more true negatives than GSFT", "Table 1", "tn", "LSFT", "GSFT", "strokes"),
    Ordering("LSFT's Dice is above GSFT's, truth: strokes", "Table 2", "dice", "LSFT", "GSFT", "strokes"),
    Ordering("LSFT's Dice is above GSFT's, truth: Grad-CAM", "Table 2", "dice", "LSFT", "GSFT", "Grad-CAM"),
    Ordering(
        "LSFT's Dice is above Grad-CAM's, truth: strokes", "Table 2", "dice", "LSFT", "Grad-CAM", "strokes"
    ),
)
"""The orderings of Tables 1 and 2 that the text gives (sections 4.2.1 and 4.2.2)."""


def verdict(low: float, high: float) -> str:
    """Judge a claimed positive difference by its measured interval.

    The criterion, fixed beforehand: "holds" where the whole interval is above zero, "does not hold" where no
    part of it is, "depends" otherwise.
    """
    if low > 0:
        return "holds"
    if high <= 0:
        return "does not hold"
    return "depends"
