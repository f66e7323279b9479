"""Pictures in, and what is written beside each other: values, not only files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sftgan import Explainer, Generator, InputError, pictures
from sftgan.cnns.loading import CNN
from sftgan.folders import explain


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(1)
    return Explainer(Generator("lsft", eta=5, width=4))


def net(classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    convs = [layer for k in range(6) for layer in (nn.Conv2d(3 if k == 0 else 5, 5, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes)).eval()


def cnn(classes: int = 3, names: tuple[str, ...] = ("cat", "dog", "owl")) -> CNN:
    return CNN(net(classes), "net.py:make", "made", 32, names)


def picture(path, width=48, height=40, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "photos"
    made.mkdir()
    for seed, name in enumerate(["b.png", "a.png", "c.bmp"]):
        picture(made / name, seed=seed)
    return made


# Finding


def test_files_folders_and_patterns_give_each_picture_once(folder, tmp_path):
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "deeper").mkdir()
    picture(folder / "deeper" / "d.png")
    out = tmp_path / "out"
    names = [p.name for p in pictures.find([str(folder)], out)]
    assert names == ["a.png", "b.png", "c.bmp"]
    assert [p.name for p in pictures.find([f"{folder}/**/*.png"], out)] == ["a.png", "b.png", "d.png"]
    assert [p.name for p in pictures.find([str(folder / "b.png"), str(folder)], out)] == [
        "b.png",
        "a.png",
        "c.bmp",
    ]
    assert [p.name for p in pictures.find([f"{folder}/**/*.png"], folder / "deeper")] == ["a.png", "b.png"]
    odd = picture(folder / "x[1].png")
    assert pictures.find([str(odd)], out) == [odd], "a file is no pattern"


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("nothing.jpg", "there is no picture"),
        ("*.webp", "no picture matches"),
        ("empty", "holds no pictures"),
    ],
)
def test_a_source_without_pictures_is_told_of(tmp_path, source, sentence):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=sentence):
        pictures.find([str(tmp_path / source)], tmp_path / "out")


def test_class_folders_and_loose_pictures_are_found_for_training(folder):
    (folder / "cats").mkdir()
    inside = picture(folder / "cats" / "d.png")
    assert pictures.pictures_in(folder) == sorted([*folder.glob("*.png"), folder / "c.bmp", inside])
    with pytest.raises(InputError, match="is not a folder of pictures"):
        pictures.pictures_in(folder / "nowhere")


# Where things go


def test_pictures_of_one_name_are_numbered(folder, tmp_path):
    given = [folder / "a.png", folder / "a.jpg", tmp_path / "a.png", tmp_path / "contact_sheet.png"]
    where = explain.places(given, tmp_path / "out")
    names = ["a.png", "a_2.png", "a_3.png", "contact_sheet_2.png"]
    assert list(where) == given and [p.name for p in where.values()] == names
    assert explain.places(given[:1], tmp_path / "new" / "map.jpg") == {given[0]: tmp_path / "new" / "map.jpg"}


def test_nothing_is_written_over_or_among_the_pictures(folder, tmp_path):
    a, b = folder / "a.png", folder / "b.png"
    with pytest.raises(InputError, match="is the picture to be explained"):
        explain.places([a], a)
    with pytest.raises(InputError, match="contains the pictures to be explained"):
        explain.places([a], folder)
    with pytest.raises(InputError, match="2 pictures cannot be written to one file"):
        explain.places([a, b], tmp_path / "map.png")
    with pytest.raises(InputError, match=r"has an unsupported suffix: choose \.png"):
        explain.places([a], tmp_path / "map.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="nothing can be written to the folder .*file/out"):
        explain.places([a, b], tmp_path / "file" / "out")


# Reading


def test_the_central_square_is_taken_and_resized(tmp_path):
    path = picture(tmp_path / "wide.png", 60, 40)
    photo = pictures.read(path, 20)
    assert photo.box == (10, 0, 50, 40) and photo.shown.size == (384, 384)
    square = Image.open(path).crop(photo.box)
    assert np.array_equal(
        photo.seen.transpose(1, 2, 0), np.array(square.resize((20, 20), Image.Resampling.BILINEAR))
    )
    assert pictures.read(path, 40).seen.transpose(1, 2, 0).tolist() == np.array(square).tolist()


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    left_red = np.zeros((40, 40, 3), np.uint8)
    left_red[:, :20, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: its left becomes its top
    Image.fromarray(left_red).save(tmp_path / "turned.png", exif=exif)
    seen = pictures.read(tmp_path / "turned.png", 40).seen
    assert (seen[0, :20] == 255).all() and (seen[0, 20:] == 0).all()


def test_other_kinds_of_pixels(tmp_path):
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 8, 4))
    half.save(tmp_path / "transparent.png")
    seen = pictures.read(tmp_path / "transparent.png", 8).seen
    assert seen[:, 0, 0].tolist() == [0, 0, 255] and seen[:, 7, 0].tolist() == [255, 255, 255], (
        "white, not red"
    )
    Image.new("LA", (8, 8), (50, 0)).save(tmp_path / "la.png")
    assert (pictures.read(tmp_path / "la.png", 8).seen == 255).all()
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert (pictures.read(tmp_path / "grey.png", 8).seen == 77).all()
    Image.fromarray(np.full((8, 8), 65535 // 3, np.uint16)).save(tmp_path / "sixteen.png")
    assert (pictures.read(tmp_path / "sixteen.png", 8).seen == 85).all()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    assert pictures.read(tmp_path / "print.tif", 8).seen[:, 0, 0].tolist() == [255, 0, 0]
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="floating-point pixels"):
        pictures.read(tmp_path / "float.tif", 8)


def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match=r"text\.png cannot be read .not a picture, or damaged."):
        pictures.read(tmp_path / "text.png", 8)
    path = picture(tmp_path / "cut.png")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.png cannot be read"):
        pictures.read(path, 8)
    with pytest.raises(InputError, match="No such file"):
        pictures.read(tmp_path / "gone.png", 8)
    whole = picture(tmp_path / "whole.png", 50, 40)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 2000)
    pictures.read(whole, 8)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1999)
    with pytest.raises(InputError, match=r"whole\.png has more than 0\.001999 million pixels"):
        pictures.read(whole, 8)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 10**9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)  # Pillow itself refuses twice as many
    with pytest.raises(InputError, match="more than"):
        pictures.read(whole, 8)


# Explaining


@pytest.mark.parametrize("batch, target", [(1, None), (2, None), (8, 2)])
def test_what_is_written_is_what_the_explainer_draws(folder, tmp_path, explainer, batch, target):
    given = sorted(folder.iterdir())
    where = explain.places(given, tmp_path / "out")
    written = explain.explain(where, cnn(), explainer, target, batch=batch, about={"generator": "mine"})
    seen = pictures.stacked([pictures.read(path, 32) for path in given])
    chances = net()(seen).softmax(1)
    maps = explainer(net(), seen, target)
    for k, (path, made) in enumerate(where.items()):
        record = json.loads(made.with_suffix(".json").read_text())
        values = np.load(made.with_suffix(".npy"))
        assert values.dtype == np.float32 and np.allclose(values, maps[k], atol=1e-6)
        shown = chances[k].argmax().item() if target is None else target
        assert record["class"] == shown and record["name"] == ("cat", "dog", "owl")[shown]
        assert record["probability"] == pytest.approx(chances[k, shown].item(), abs=1e-5)
        assert [t["class"] for t in record["top"]] == chances[k].argsort(descending=True).tolist()
        assert sum(t["probability"] for t in record["top"]) == pytest.approx(1, abs=1e-5)
        assert record["image"] == str(path) and record["square"] == [4, 0, 44, 40] and record["size"] == 32
        assert record["map"]["maximum"] == pytest.approx(maps[k].max().item(), abs=1e-6)
        assert record["map"]["mean"] == pytest.approx(maps[k].mean().item(), abs=1e-6)
        place = record["map"]["brightest_pixel"]
        assert values[place["row"], place["column"]] == values.max()
        assert (
            record["generator"] == "mine" and record["versions"]["torch"] == torch.__version__.split("+")[0]
        )
        drawn = np.array(Image.open(made))
        assert drawn.shape == (384, 3 * 384 + 16, 3)
        assert np.array_equal(drawn, np.array(explain.panels(pictures.read(path, 32).shown, values)))
    assert written.sheets == [tmp_path / "out" / "contact_sheet.png"] and written.failures == []
    assert written.summary() == f"3 pictures explained, {written.sheets[0]}"
    assert len(list((tmp_path / "out").iterdir())) == 3 * 3 + 1


def test_the_colours_are_those_of_the_map():
    shown = Image.new("RGB", (16, 16), (100, 100, 100))
    whole = np.array(explain.panels(shown, np.eye(2, dtype=np.float32).repeat(8, 0).repeat(8, 1)))
    photo, over, heat = (whole[:, k : k + 16] for k in (0, 24, 48))
    assert (photo == 100).all() and (whole[:, 16:24] == 255).all()
    assert heat[0, 0].tolist() == [252, 254, 164] and heat[0, 15].tolist() == [0, 0, 3], "inferno's two ends"
    assert over[0, 0].tolist() == [176, 177, 132] and over[0, 15].tolist() == [50, 50, 51]


def test_one_unreadable_picture_is_told_of_and_the_others_go_on(folder, tmp_path, explainer, capsys):
    (folder / "b.png").write_text("hello")
    where = explain.places(sorted(folder.iterdir()), tmp_path / "out")
    written = explain.explain(where, cnn(), explainer)
    assert [record["image"][-5:] for record in written.records] == ["a.png", "c.bmp"]
    assert written.summary().startswith("2 of 3 pictures explained")
    assert "b.png cannot be read" in written.failures[0] and len(written.failures) == 1
    assert f"sftgan: {written.failures[0]}" in capsys.readouterr().err
    for name in ("a.png", "c.bmp"):
        (folder / name).write_text("hello")
    written = explain.explain(where, cnn(), explainer)
    assert written.summary() == "0 of 3 pictures explained" and written.sheets == []
    with pytest.raises(InputError, match="b.png cannot be read"):
        explain.explain({folder / "b.png": tmp_path / "out" / "b.png"}, cnn(), explainer)


def test_contact_sheets_are_filled_one_after_the_other(folder, tmp_path, explainer, monkeypatch):
    monkeypatch.setattr(explain, "_COLUMNS", 2)
    monkeypatch.setattr(explain, "_ROWS", 1)
    where = explain.places(sorted(folder.iterdir()), tmp_path)
    names = [path.name for path in explain.explain(where, cnn(), explainer).sheets]
    assert names == ["contact_sheet.png", "contact_sheet_2.png"]


def test_a_binary_head_has_two_classes(folder, tmp_path, explainer):
    where = explain.places([folder / "a.png"], tmp_path / "map.png")
    one = CNN(net(1), "net.py:make", "made", 32)
    written = explain.explain(where, one, explainer)
    logit = net(1)(pictures.stacked([pictures.read(folder / "a.png", 32)])).item()
    chances = {top["class"]: top["probability"] for top in written.records[0]["top"]}
    assert chances[1] == pytest.approx(torch.tensor(logit).sigmoid().item(), abs=1e-5)
    assert chances[0] == pytest.approx(1 - chances[1], abs=1e-5)
    assert written.records[0]["name"] is None
    assert f"a.png: class {int(logit > 0)} ({int(logit > 0)}), probability " in written.summary()


def test_names_that_do_not_fit_and_classes_that_are_not_there(folder, tmp_path, explainer):
    where = explain.places([folder / "a.png"], tmp_path / "map.png")
    with pytest.raises(InputError, match="there are 2 class names, but 3 classes"):
        explain.explain(where, cnn(names=("cat", "dog")), explainer)
    with pytest.raises(InputError, match="class index 3 is out of range"):
        explain.explain(where, cnn(), explainer, 3)
    assert not list(tmp_path.glob("map.*"))
