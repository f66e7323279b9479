"""Values and claims that the paper published, and the rule that judges a measured difference."""

from typing import NamedTuple

UNKNOWN = "not available"
"""Stands for every cell of Tables 1 to 3, because no public copy of the paper with these cells was found."""


class Published(NamedTuple):
    """A published value and where it stands.

    Attributes
    ----------
    value
        The value.
    where
        Section or table of the paper.
    """

    value: float
    where: str


DICE_LSFT = Published(0.6588, "Table 2 and section 4.2.2")
CNN_ACCURACIES = {"similar": 0.95, "dissimilar": 0.90}
"""Section 4.1.1, by strategy: a bound for each of the nine CNNs, and one for averages over the data sets."""
CHINESE_MNIST_ACCURACY = Published(0.99, "section 4.1.1, average of the three CNNs")
ANIMALS10_ACCURACY = Published(0.95, "section 4.1.1, average of the three CNNs")
EPOCHS_THREE_DATASETS = Published(1, "section 4.3.3")
EPOCHS_ONE_DATASET = Published(6, "section 4.3.3")
AVERAGE_DROP_LSFT = Published(9.95, "Table 3 and section 4.2.3, per cent")
AVERAGE_INCREASE_LSFT = Published(6.82, "Table 3 and section 4.2.3, per cent")
WIN_LSFT = Published(53.9, "Table 3 and section 4.2.3, per cent against Grad-CAM")
CATS_DOGS_ACCURACY = Published(0.99, "section 4.3.4, InceptionV3")
EMNIST_ACCURACY = Published(0.97, "section 4.3.4, Xception")
NOISE = (0.05, 0.5)
"""Lowest and highest noise density of section 4.4."""
UNSEEN = {"emnist": "xception", "cats_vs_dogs": "inception_v3", "instruments": "vgg19"}
"""The unseen pairs of sections 4.3.4 and 5: data set -> CNN."""


class Survey(NamedTuple):
    """Published counts of a survey (section 6): questions by the answer of the majority.

    Attributes
    ----------
    task
        What the CNN did: "classification" or "captioning".
    people
        Number of participants.
    lsft
        Questions in which the majority preferred LSFT.
    grad_cam
        Questions in which the majority preferred Grad-CAM.
    tie
        Questions that ended in a tie.
    where
        Section and figure of the paper.
    """

    task: str
    people: int
    lsft: int
    grad_cam: int
    tie: int
    where: str


SURVEYS = (
    Survey("classification", 25, 16, 3, 1, "section 6.1, Fig. 17"),
    Survey("captioning", 25, 7, 3, 0, "section 6.2, Fig. 18"),
)

RELEVANCE = {
    "EMNIST, Xception": {
        "b": (2720, 920, 2740, 2560, 3030, 2800, 2470, 2510),
        "o": (490, 2790, 2420, 2670, 2500, 2670, 2880, 2960),
        "e": (2470, 3070, 2990, 3000, 330, 2570, 2920, 3060),
    },
    "Cats vs Dogs, InceptionV3": {
        "1": (4570, 4670, 4270, 480, 3300, 4230, 5080, 6080),
        "2": (4450, 4600, 4400, 4360, 4110, 3820, 5300, 5200),
        "3": (4640, 3990, 4730, 5080, 4890, 3990, 5520, 4550),
    },
    "Musical Instruments, VGG19": {
        "1": (4050, 4130, 4490, 4360, 4460, 3320, 3190, 5040),
        "2": (4240, 4670, 4750, 5040, 4420, 4630, 620, 4090),
        "3": (5590, 4750, 5490, 4060, 5360, 4610, 5500, 4240),
    },
}
"""Fig. 14: relevance of CGMAs 0 to 7 for nine images.

The values were read off the picture, to about 10 units for EMNIST and 20 for the others.
"""
RELEVANCE_MAXIMUM = 64 * 64 * 3
"""Largest possible value of Eq. 10 in Fig. 14.

One value, 6080, exceeds 64 * 64, so the paper's sum includes the three colours.
"""

CONVOLUTIONS = {
    "VGG16": 13,
    "VGG19": 16,
    "ResNet50": 53,
    "MobileNetV2": 52,
    "InceptionV3": 94,
    "Xception": 40,
}
"""Number N of convolutions in the paper's architectures.

Projections count; a separable convolution counts once.
"""


class Ordering(NamedTuple):
    """A claim that one method's mean of a measure is larger than another's.

    Attributes
    ----------
    claim
        The claim in words.
    where
        Where the paper makes it, or "beyond the paper".
    measure
        Column of a frame, or one of ``metrics.STATISTICS``.
    larger
        Method with the larger value.
    smaller
        Method with the smaller value.
    truth
        Ground truth to which the claim is limited; None for frames without a ground truth.
    dataset
        Data set to which the claim is limited; None for all.
    """

    claim: str
    where: str
    measure: str
    larger: str
    smaller: str
    truth: str | None = None
    dataset: str | None = None


ORDERINGS = (
    Ordering(
        "GSFT has more true positives than LSFT on MNIST", "Table 1", "tp", "GSFT", "LSFT", "object", "mnist"
    ),
    Ordering(
        "GSFT has more true positives than LSFT on EMNIST",
        "Table 1",
        "tp",
        "GSFT",
        "LSFT",
        "object",
        "emnist",
    ),
    Ordering("LSFT has more true negatives than GSFT", "Table 1", "tn", "LSFT", "GSFT", "object"),
    Ordering("LSFT's Dice is above GSFT's, truth: the object", "Table 2", "dice", "LSFT", "GSFT", "object"),
    Ordering("LSFT's Dice is above GSFT's, truth: Grad-CAM", "Table 2", "dice", "LSFT", "GSFT", "Grad-CAM"),
    Ordering(
        "LSFT's Dice is above Grad-CAM's, truth: the object", "Table 2", "dice", "LSFT", "Grad-CAM", "object"
    ),
)
"""The orderings of Tables 1 and 2 that the text states (sections 4.2.1 and 4.2.2)."""


FAITHFULNESS_ORDERINGS = tuple(
    Ordering(f"{claim}, {definition}", "Table 3", f"{measure}{suffix}", larger, smaller)
    for definition, suffix, increase in (
        ("as the paper defines it", "", "average increase"),
        ("as Grad-CAM++ defines it", " (Grad-CAM++)", "increase in confidence"),
    )
    for claim, measure, larger, smaller in (
        ("LSFT's drop is below Grad-CAM's", "average drop", "Grad-CAM", "LSFT"),
        ("LSFT's drop is below GSFT's", "average drop", "GSFT", "LSFT"),
        ("Grad-CAM's drop is below GSFT's", "average drop", "GSFT", "Grad-CAM"),
        ("LSFT's increase is above Grad-CAM's", increase, "LSFT", "Grad-CAM"),
        ("LSFT's increase is above GSFT's", increase, "LSFT", "GSFT"),
        ("LSFT wins against Grad-CAM more often than it loses", "balance", "LSFT", "Grad-CAM"),
        ("GSFT loses against Grad-CAM more often than it wins", "balance", "Grad-CAM", "GSFT"),
        ("LSFT's wins minus losses against Grad-CAM are above GSFT's", "balance", "LSFT", "GSFT"),
    )
)
"""The orderings of Table 3 that the text states (section 4.2.3), in two definitions.

The definitions are the paper's and that of Grad-CAM++.
The measure ``balance`` is wins minus losses against Grad-CAM; see ``faithfulness.confidences``.
"""


NOISE_LEVELS = (
    Ordering("GSFT's background error is above LSFT's", "4.4, Fig. 13", "background", "GSFT", "LSFT"),
    Ordering(
        "LSFT's foreground share is above GSFT's", "beyond the paper", "foreground share", "LSFT", "GSFT"
    ),
    Ordering(
        "LSFT's foreground share is above the mean map's",
        "beyond the paper",
        "foreground share",
        "LSFT",
        "mean map",
    ),
)
"""Claims on the means over the densities of section 4.4."""
NOISE_SLOPES = (
    Ordering(
        "GSFT's background error grows faster than LSFT's: the gap widens",
        "4.4, Fig. 13",
        "background",
        "GSFT",
        "LSFT",
    ),
    Ordering(
        "GSFT's foreground share falls faster than LSFT's: key regions vanish faster",
        "4.4, Fig. 12",
        "foreground share",
        "LSFT",
        "GSFT",
    ),
)
"""Claims on the slopes over the densities of section 4.4."""


QUALITATIVE_ORDERINGS = {
    "likeness": tuple(
        Ordering(
            f"LSFT's whole map is more like Vanilla Saliency than Grad-CAM's is (our reading), {name}",
            "section 4.3.2", measure, "LSFT", "Grad-CAM", dataset="mnist",
        )
        for measure, name in (("rank correlation", "rank correlation"), ("SSIM", "structural similarity"))
    ),
    "unseen": (
        *(
            Ordering(
                f"LSFT is better than Grad-CAM on an unseen data set and CNN, {pair} (Dice with the object)",
                "section 1", "dice", "LSFT", "Grad-CAM", "object", dataset,
            )
            for dataset, pair in zip(
                UNSEEN,
                ("EMNIST and Xception", "Cats vs Dogs and InceptionV3", "Musical Instruments and VGG19"),
                strict=True,
            )
        ),
        Ordering(
            "Grad-CAM is better than LSFT on Musical Instruments (Dice with the object)",
            "section 4.3.4", "dice", "Grad-CAM", "LSFT", "object", "instruments",
        ),
    ),
    "intensity": (
        Ordering(
            "LSFT marks the letters of EMNIST with more intensity than Grad-CAM (mean of the map on the object)",
            "section 4.3.4", "intensity", "LSFT", "Grad-CAM", dataset="emnist",
        ),
    ),
    "strategies": (
        Ordering(
            "Dissimilar semantics gives the more general LSFT: better on Cats vs Dogs (Dice with the object)",
            "section 4.3.5", "dice", "trained on dissimilar", "trained on similar", "object", "cats_vs_dogs",
        ),
        Ordering(
            "Similar semantics gives the more specific LSFT: marks less on Tamil letters (share of the picture)",
            "section 4.3.5", "marked", "trained on dissimilar", "trained on similar", "Grad-CAM", "tamil",
        ),
    ),
}  # fmt: skip
"""What the text says of Figs. 6, 8 and 9.

The keys are the frames that ``claims.qualitative_claims`` takes.
"""


def verdict(low: float, high: float) -> str:
    """Judge the claim that a difference is positive by its interval.

    Every claim is judged by this criterion.

    Parameters
    ----------
    low
        Lower end of the measured interval.
    high
        Upper end of the measured interval.

    Returns
    -------
    str
        "holds" if the whole interval lies above zero, "does not hold" if no part of it does, and "depends"
        (undecided) otherwise.

    Examples
    --------
    >>> verdict(0.1, 0.3), verdict(-0.3, -0.1), verdict(-0.1, 0.1)
    ('holds', 'does not hold', 'depends')
    """
    if low > 0:
        return "holds"
    if high <= 0:
        return "does not hold"
    return "depends"


def verdict_between(low: float, high: float, at_least: float, at_most: float) -> str:
    """Judge the claim that a value lies within a range by its interval.

    Parameters
    ----------
    low
        Lower end of the measured interval.
    high
        Upper end of the measured interval.
    at_least
        Lower end of the claimed range.
    at_most
        Upper end of the claimed range.

    Returns
    -------
    str
        "holds" if the whole interval lies in the range, "does not hold" if no part of it does, and "depends"
        (undecided) otherwise.

    Examples
    --------
    >>> verdict_between(0.45, 0.55, 0.4, 0.6), verdict_between(0.5, 0.7, 0.4, 0.6)
    ('holds', 'depends')
    """
    if at_least <= low and high <= at_most:
        return "holds"
    if high < at_least or low > at_most:
        return "does not hold"
    return "depends"
