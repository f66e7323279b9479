"""CNNs by a word: what is built, what is loaded into it, and what is said of words that mean nothing."""

from urllib.error import URLError

import pytest
import skimage.data
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from sftgan import InputError
from sftgan.cnns import loading
from sftgan.cnns.loading import load_cnn


def head_of(net: nn.Module) -> nn.Module:
    return [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]


@pytest.mark.parametrize(
    "name, size, classes",
    [("squeezenet1_1", 224, 7), ("mobilenet_v3_small", 224, 1000), ("efficientnet_b1", 240, 4)],
)
def test_torchvisions_nets_get_the_classes_of_the_file(tmp_path, name, size, classes):
    torch.manual_seed(0)
    saved = torchvision.models.get_model(name, weights=None, num_classes=classes).eval()
    save_file({k: v.contiguous() for k, v in saved.state_dict().items()}, tmp_path / "my.safetensors")
    cnn = load_cnn(f"torchvision:{name}", tmp_path / "my.safetensors")
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(cnn.model(images), saved((images - mean) / std), atol=1e-5)
    assert cnn.size == size and cnn.names == () and cnn.weights == str(tmp_path / "my.safetensors")
    assert not cnn.model.training


def test_auxiliary_heads_get_the_classes_of_the_file_too(tmp_path):
    saved = torchvision.models.googlenet(num_classes=7, aux_logits=True, init_weights=False)
    save_file({k: v.contiguous() for k, v in saved.state_dict().items()}, tmp_path / "my.safetensors")
    net = load_cnn("torchvision:googlenet", tmp_path / "my.safetensors").model.net
    assert len(net.fc.weight) == len(net.aux1.fc2.weight) == len(net.aux2.fc2.weight) == 7


def test_names_of_classes_that_differ_in_case_only():
    """One is a garment, the other a dog."""
    cnn = loading.CNN(nn.Identity(), "a net", "", 224, loading.IMAGENET)
    assert [loading.IMAGENET[cnn.index(name)] for name in ("cardigan", "Cardigan")] == [
        "cardigan",
        "Cardigan",
    ]


def test_timms_nets_get_their_own_normalisation(tmp_path):
    timm = pytest.importorskip("timm")
    saved = timm.create_model("test_resnet", num_classes=6).eval()
    save_file({k: v.contiguous() for k, v in saved.state_dict().items()}, tmp_path / "my.safetensors")
    cnn = load_cnn("timm:test_resnet", tmp_path / "my.safetensors")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(cnn.model(images), saved((images - 0.5) / 0.5), atol=1e-5)
    assert cnn.size == saved.pretrained_cfg["input_size"][-1] == 160


def test_efficientnet_lite0_brings_weights_and_names(tmp_path):
    cnn = load_cnn("efficientnet-lite0")
    picture = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None, :, :, 75:375].float() / 255
    seen = nn.functional.interpolate(picture, (224, 224), mode="bilinear", antialias=True).clamp(0, 1)
    with torch.no_grad():
        best = cnn.model(seen).argmax().item()
    assert cnn.names[best] in ("tabby", "tiger cat", "Egyptian cat")
    assert cnn.index("Tabby") == cnn.index("281") == 281 and cnn.index("-1") == -1
    with pytest.raises(InputError, match="unknown class 'tabbi': did you mean 'tabby'"):
        cnn.index("tabbi")
    small = {
        k: v[:5].clone() if k.startswith("_fc") else v.contiguous()
        for k, v in cnn.model.net.state_dict().items()
    }
    save_file(small, tmp_path / "five.safetensors")
    five = load_cnn("efficientnet-lite0", tmp_path / "five.safetensors")
    with torch.no_grad():
        assert torch.allclose(five.model(seen), cnn.model(seen)[:, :5], atol=1e-5)
    with pytest.raises(InputError, match="class names of efficientnet-lite0 are not known"):
        five.index("tabby")


def test_offline_says_what_to_do(monkeypatch):
    def offline(name, weights):
        raise URLError("no network")

    monkeypatch.setattr(loading, "get_model", offline)
    sentence = "ImageNet weights of torchvision:resnet50 could not be downloaded .*--weights FILE.safetensors"
    with pytest.raises(InputError, match=sentence):
        load_cnn("torchvision:resnet50")


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("torchvision:resnet5", "unknown torchvision model 'resnet5': did you mean .*'resnet50'"),
        ("torchvision:zzzz", "unknown torchvision model 'zzzz': there is no similar name"),
        ("torchvison:resnet50", "unknown model 'torchvison:resnet50': did you mean 'torchvision:resnet50'"),
        ("resnet50", "unknown model 'resnet50': did you mean 'torchvision:resnet50'"),
        ("efficientnet-lite", "did you mean 'efficientnet-lite0'"),
        ("torchvision", "write torchvision:NAME"),
        ("timm:resnet5000", "unknown timm model 'resnet5000': did you mean"),
        ("nowhere/net.py:make", "there is no file nowhere/net.py"),
        ("net.py", "unknown model 'net.py'"),
    ],
)
def test_unknown_words_get_the_nearest(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        load_cnn(spec)


# A file of one's own

NET = """
from dataclasses import dataclass
import torch
from torch import nn
import neighbour

@dataclass
class Options:
    classes: "int" = 3

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, Options().classes))

def broken():
    values = {}
    return values["weights"]

def text():
    return neighbour.WORD
"""


@pytest.fixture
def net_file(tmp_path):
    (tmp_path / "neighbour.py").write_text("WORD = 'hello'\n")
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def test_a_function_of_ones_own_gets_images_as_they_are(net_file, tmp_path):
    import sys

    before = list(sys.path)
    cnn = load_cnn(f"{net_file}:make")
    images = torch.rand(2, 3, 16, 16)
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3)
    assert torch.equal(cnn.model[0](images), convolution(images))
    assert (cnn.size, cnn.names, cnn.weights) == (224, (), "as make() made them") and sys.path == before
    other = {k: v + 1 for k, v in cnn.model.state_dict().items()}
    save_file(other, tmp_path / "my.safetensors")
    loaded = load_cnn(f"{net_file}:make", tmp_path / "my.safetensors").model.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in other.items())


@pytest.mark.parametrize(
    "factory, sentence",
    [
        ("mak", "unknown function of net.py 'mak': did you mean 'make'"),
        ("broken", "broken.. in --model failed at .*net.py, line 17: KeyError: 'weights'"),
        ("text", "text.. in .*net.py returned a str"),
    ],
)
def test_what_is_wrong_with_a_function_is_one_sentence(net_file, factory, sentence):
    with pytest.raises(InputError, match=sentence):
        load_cnn(f"{net_file}:{factory}")


def test_a_file_that_does_not_run_is_named_with_its_line(net_file):
    net_file.write_text("x = 1\ny = 1 / 0\n")
    with pytest.raises(InputError, match="the file in --model failed at .*net.py, line 2: ZeroDivisionError"):
        load_cnn(f"{net_file}:make")
    net_file.write_text("def make(:\n")
    with pytest.raises(InputError, match="SyntaxError"):
        load_cnn(f"{net_file}:make")


def test_names_come_from_a_file_or_are_imagenets(net_file, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndög\nowl\n\n", encoding="utf-8")
    cnn = load_cnn(f"{net_file}:make", names=str(tmp_path / "names.txt"))
    assert cnn.names == ("cat", "dög", "owl") and cnn.index("owl") == 2
    assert load_cnn(f"{net_file}:make", names="imagenet").names[281] == "tabby"
    with pytest.raises(InputError, match="class names cannot be read"):
        load_cnn(f"{net_file}:make", names=str(tmp_path / "gone.txt"))


def test_weights_that_do_not_fit_are_refused(net_file, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "my.pt")
    with pytest.raises(InputError, match="never opened here"):
        load_cnn("torchvision:squeezenet1_1", tmp_path / "my.pt")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not fit the model"):
        load_cnn("torchvision:squeezenet1_1", tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_cnn("torchvision:squeezenet1_1", tmp_path / "gone.safetensors")
