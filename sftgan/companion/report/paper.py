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
NOISE_DENSITIES = (0.05, 0.5)
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
PUBLISHED_RELEVANCE = {
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
