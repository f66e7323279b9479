"""`sftgan explain` and `sftgan train`: what they write, what they say, and one sentence for what cannot be used."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sftgan import Explainer, Generator, cli, pictures
from sftgan.cnns.loading import load_cnn

NET = """
import torch
from torch import nn

def make(convolutions=5):
    torch.manual_seed(0)
    convs = [layer for k in range(convolutions) for layer in (nn.Conv2d(3 if k == 0 else 4, 4, 3, 1, 1), nn.ReLU())]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def short():
    return make(3)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with pictures, a net, its weights and a generator, and the program in it."""
    monkeypatch.chdir(tmp_path)
    for k in range(6):
        path = tmp_path / "photos" / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(1)
    Explainer(Generator("lsft", eta=5, width=4), size=16).save(tmp_path / "g.safetensors")
    state = load_cnn("net.py:make").model.state_dict()
    save_file({name: value + 0.1 for name, value in state.items()}, tmp_path / "w.safetensors")
    return tmp_path


def sftgan(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code


OWN = ("--model", "net.py:make", "--generator", "g.safetensors", "--size", "32", "--device", "cpu")


def test_one_picture_gives_a_picture_a_map_and_json(here, capsys):
    given = (
        "explain",
        "photos/0.png",
        *OWN,
        "--weights",
        "w.safetensors",
        "--class",
        "2",
        "--out",
        "out/map.png",
    )
    assert sftgan(*given) == 0
    out, err = capsys.readouterr()
    images = pictures.stacked([pictures.read("photos/0.png", 32)])
    model = load_cnn("net.py:make", "w.safetensors").model
    expected = Explainer.load("g.safetensors")(model, images, 2)[0]
    record = json.loads((here / "out" / "map.json").read_text())
    assert np.allclose(np.load(here / "out" / "map.npy"), expected, atol=1e-6)
    assert record["map"]["mean"] == pytest.approx(expected.mean().item(), abs=1e-6)
    assert record["probability"] == pytest.approx(model(images).softmax(1)[0, 2].item(), abs=1e-5)
    assert record["class"] == 2 and record["image"] == "photos/0.png" and record["size"] == 32
    assert record["model"] == "net.py:make" and record["weights"] == "w.safetensors"
    assert record["generator"] == "g.safetensors"
    assert (
        out == f"photos/0.png: class 2 (2), probability {record['probability']:.3f}: out/map.png\n"
        and err == ""
    )
    assert sorted(f.name for f in (here / "out").iterdir()) == ["map.json", "map.npy", "map.png"]


def test_a_folder_gives_a_sheet_and_the_predicted_classes(here, capsys):
    (here / "names.txt").write_text("cat\ndog\nowl\n")
    assert sftgan("explain", "photos", *OWN, "--names", "names.txt", "--batch", "4") == 0
    assert capsys.readouterr().out == "6 pictures explained, explained/contact_sheet.png\n"
    model = load_cnn("net.py:make").model
    images = pictures.stacked([pictures.read(f"photos/{k}.png", 32) for k in range(6)])
    for k, best in enumerate(model(images).argmax(1).tolist()):
        record = json.loads((here / "explained" / f"{k}.json").read_text())
        assert record["class"] == best and record["name"] == ("cat", "dog", "owl")[best]
    sheet = Image.open(here / "explained" / "contact_sheet.png")
    assert sheet.width > 6 * 150 and len(list((here / "explained").iterdir())) == 19


def test_a_class_may_be_named(here):
    (here / "names.txt").write_text("cat\ndog\nowl\n")
    named = ("explain", "photos/1.png", *OWN, "--names", "names.txt", "--out", "map.png", "--class", "Dog")
    assert sftgan(*named) == 0
    assert json.loads((here / "map.json").read_text())["class"] == 1


def test_an_unreadable_picture_among_others_is_exit_code_1(here, capsys):
    (here / "photos" / "3.png").write_text("hello")
    assert sftgan("explain", "photos/*.png", *OWN) == 1
    out, err = capsys.readouterr()
    assert err == "sftgan: the picture photos/3.png cannot be read (not a picture, or damaged): replace it.\n"
    assert out.startswith("5 of 6 pictures explained") and (here / "explained" / "5.json").exists()


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"pictures": "gone.jpg"}, "there is no picture gone.jpg"),
        ({"pictures": "text.jpg"}, "text.jpg cannot be read"),
        ({"pictures": "photos/*.webp"}, "no picture matches photos/*.webp"),
        ({"--weights": "w.pt"}, "is a pickle or a zip file"),
        ({"--weights": "other.safetensors"}, "other.safetensors does not fit the model"),
        ({"--weights": "gone.safetensors"}, "there is no file gone.safetensors"),
        ({"--class": "3"}, "class index 3 is out of range: the model has 3 classes"),
        ({"--class": "-1"}, "class index -1 is out of range"),
        ({"--class": "cat"}, "class names of net.py:make are not known"),
        ({"--out": "text.jpg/out"}, "nothing can be written to the folder text.jpg/out"),
        ({"--out": "photos"}, "photos contains the pictures to be explained"),
        ({"--model": "torchvision:resnet5"}, "unknown torchvision model 'resnet5': did you mean"),
        ({"--model": "net.py:mak"}, "unknown function of net.py 'mak': did you mean 'make'?"),
        ({"--model": "net.py:short"}, "eta is 5, but the net has 3 convolutions"),
        ({"--generator": "lsft-similer"}, "did you mean 'lsft-similar'"),
        ({"--generator": "w.safetensors"}, "does not say which generator it holds"),
        ({"--device": "gpu"}, "unknown device 'gpu'"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(here, capsys, changed, sentence):
    (here / "text.jpg").write_text("hello")
    torch.save({"w": torch.zeros(1)}, here / "w.pt")
    save_file({"other": torch.zeros(1)}, here / "other.safetensors")
    options = dict(zip(OWN[::2], OWN[1::2], strict=True)) | {"pictures": "photos/0.png"} | changed
    picture = options.pop("pictures")
    assert sftgan("explain", picture, *(word for pair in options.items() for word in pair)) == 2
    out, err = capsys.readouterr()
    assert err.startswith("sftgan: ") and sentence in err and err.count("\n") == 1 and out == ""
    assert not list(here.glob("explained/*"))


def test_a_huge_picture_is_one_sentence(here, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    assert sftgan("explain", "photos/0.png", *OWN) == 2
    err = capsys.readouterr().err
    assert err == "sftgan: the picture photos/0.png has more than 0.001 million pixels: make it smaller.\n"


TRAIN = ("--eta", "3", "--width", "2", "--map-size", "16", "--size", "24", "--epochs", "1", "--device", "cpu")


def test_a_generator_is_trained_and_used(here, capsys):
    given = (
        "train",
        "photos",
        "--model",
        "net.py:make",
        "--weights",
        "w.safetensors",
        "--out",
        "mine.safetensors",
    )
    assert sftgan(*given, *TRAIN) == 0
    out = capsys.readouterr().out
    checkpoints = list(here.glob("mine.*.checkpoint"))
    assert (
        "5 pictures to train on, 1 held out" in out and len(checkpoints) == 1 and checkpoints[0].name in out
    )
    names = [line.split("Dice")[0].strip() for line in out.splitlines() if "Dice" in line]
    assert names == ["generator", "mean map", "linear fit"] and out.endswith("written: mine.safetensors\n")
    from sftgan.gan.weights import describe

    said = describe("mine.safetensors")
    assert (said["eta"], said["width"], said["size"]) == (3, 2, 16)
    assert said["about"]["pictures"] == "5 to train on, 1 held out" and "Dice" in said["about"]["result"]
    assert said["about"]["weights"] == "w.safetensors"
    assert sftgan("explain", "photos/0.png", *OWN, "--generator", "mine.safetensors", "--out", "map.png") == 0


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"folder": "gone"}, "gone is not a folder of pictures"),
        ({"--out": "mine.pt"}, "let its name end in .safetensors"),
        ({"--out": "net.py/mine.safetensors"}, "nothing can be written to the folder net.py"),
        ({"--kind": "gsfd"}, "unknown generator 'gsfd': did you mean 'gsft'"),
        ({"--model": "net.py:short", "--eta": "4"}, "eta is 4, but the net has 3 convolutions"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_one_sentence(here, capsys, changed, sentence):
    options = dict(zip(TRAIN[::2], TRAIN[1::2], strict=True))
    options |= {"folder": "photos", "--model": "net.py:make", "--out": "mine.safetensors"} | changed
    folder = options.pop("folder")
    assert sftgan("train", folder, *(word for pair in options.items() for word in pair)) == 2
    err = capsys.readouterr().err
    assert err.startswith("sftgan: ") and sentence in err and err.count("\n") == 1


def test_help_teaches(capsys):
    for command in ("explain", "train"):
        assert sftgan(command, "--help") == 0
        told = capsys.readouterr().out
        assert f"Example: sftgan {command} " in told and "torchvision:NAME" in told


def test_the_program_itself_imports_nothing_large():
    """So that help and mistyped options are answered at once."""
    code = """
import sys, types, importlib.util
place = importlib.util.find_spec("sftgan")
package = sys.modules["sftgan"] = types.ModuleType("sftgan")
package.__path__ = place.submodule_search_locations
import sftgan.cli
print(*sorted({"torch", "numpy", "pandas", "matplotlib", "PIL"} & set(sys.modules)))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
