"""Files of weights: what was saved comes back bit by bit, and what does not fit is said in a sentence."""

import hashlib
import json
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns import loading
from sftgan.cnns.normalised import Normalised
from sftgan.errors import InputError
from sftgan.gan import weights
from sftgan.gan.networks import ConcatGenerator, Generator


def generator(kind="lsft", eta=5, width=4, **others) -> Generator:
    torch.manual_seed(0)
    return Generator(kind, eta, width, **others)


def cnn(classes=10, width=6) -> nn.Sequential:
    torch.manual_seed(1)
    convs = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 8, 3)]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


@pytest.fixture
def path(tmp_path):
    """Of a saved generator."""
    weights.save(tmp_path / "g.safetensors", generator(), ConditionSpec(5), 32, {"data": "digits"})
    return tmp_path / "g.safetensors"


def file_of(state, path, metadata=None):
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata)
    return path


def said(call, *arguments) -> str:
    """The one sentence that comes of it."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Generators


@pytest.mark.parametrize("kind", ["lsft", "gsft"])
@pytest.mark.parametrize("others", [{}, {"variant": "released"}, {"channels": 3}])
@pytest.mark.parametrize("size", [None, 24])
def test_what_is_saved_comes_back_bit_by_bit(tmp_path, kind, others, size):
    saved = generator(kind, **others)
    spec = ConditionSpec(6, tap="pre", leave_out=1, minmax_conditions=True)
    weights.save(tmp_path / "g.safetensors", saved, spec, size)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    loaded, read, drawn_at = weights.load(tmp_path / "g.safetensors")
    assert torch.equal(torch.get_rng_state(), before), "random numbers were drawn"
    assert (read, drawn_at, loaded.training) == (spec, size, False)
    for name in ("kind", "eta", "width", "variant", "channels"):
        assert getattr(loaded, name) == getattr(saved, name)
    for (name, ours), (other, theirs) in zip(
        loaded.state_dict().items(), saved.state_dict().items(), strict=True
    ):
        assert name == other and ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
        assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))
    images, conditions = torch.rand(2, 3, 16, 16), torch.rand(2, 5, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded(images, conditions), saved.eval()(images, conditions))
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())


def test_a_generator_in_half_precision_stays_one(tmp_path):
    weights.save(tmp_path / "g.safetensors", generator().bfloat16(), ConditionSpec(5))
    loaded, *_ = weights.load(tmp_path / "g.safetensors")
    assert loaded.tail.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.tail.weight, generator().bfloat16().tail.weight)


def test_the_file_says_everything(path):
    spec = {"eta": 5, "tap": "post", "rounding": "double", "target": "last", "leave_out": 0}
    found = weights.describe(path)
    assert found.pop("reading").items() >= spec.items()
    assert found == {
        "version": 1,
        "kind": "lsft",
        "eta": 5,
        "width": 4,
        "variant": "paper",
        "channels": 1,
        "size": 32,
        "about": {"data": "digits"},
    }


def test_the_same_generator_gives_the_same_bytes_in_another_process(path, tmp_path):
    """safetensors writes the entries of its metadata in an order that differs from process to process."""
    code = (
        "import sys, torch; from sftgan.gan.weights import *; from sftgan.cams.conditions import ConditionSpec;"
        "torch.set_num_threads(1);"
        "g, r, s = load(sys.argv[1]); save(sys.argv[2], g, r, s, describe(sys.argv[1])['about'])"
    )
    again = tmp_path / "again.safetensors"
    subprocess.run([sys.executable, "-c", code, str(path), str(again)], check=True)
    assert again.read_bytes() == path.read_bytes()


def test_saving_replaces_in_one_step_and_leaves_nothing_behind(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert "cannot be written (disk full)" in said(weights.save, path, generator("gsft"), ConditionSpec(5))
    assert path.read_bytes() == before and [p.name for p in path.parent.glob("g*")] == [path.name]


def test_what_cannot_be_saved_is_said_in_a_sentence(tmp_path):
    net, path = generator(), tmp_path / "g.safetensors"
    (tmp_path / "taken").write_text("")
    for arguments, sentence in (
        (
            (path, ConcatGenerator(5, 4), ConditionSpec(5)),
            "only a Generator can be saved, but this is a ConcatGenerator",
        ),
        ((path, net, ConditionSpec(8)), "the spec gives 8 conditions, but the generator takes 5"),
        ((tmp_path / "g.pt", net, ConditionSpec(5)), "let its name end in .safetensors"),
        ((path, net, ConditionSpec(5), 0), "size is 0"),
        ((path, net, ConditionSpec(5), 32, {"epochs": 3}), "give strings only"),
        (
            (tmp_path / "taken" / "g.safetensors", net, ConditionSpec(5)),
            "cannot be written .* choose another place",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            weights.save(*arguments)
    assert not path.exists()


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("read", [weights.load, weights.describe, lambda p: loading.load_model(cnn(), p)])
def test_pickles_are_refused_and_never_opened(tmp_path, read):
    trap = tmp_path / "sprung"
    torch.save({"a": Evil(trap)}, tmp_path / "net.pt")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Evil(trap)))
    (tmp_path / "net.safetensors").write_bytes(pickle.dumps(Evil(trap)))  # the name does not count
    for name in ("net.pt", "net.pkl", "net.safetensors"):
        sentence = said(read, tmp_path / name)
        assert "never opened here" in sentence and "weights_only=True" in sentence
        assert not trap.exists()


def test_the_advice_for_pickles_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = cnn().to(memory_format=torch.channels_last)
    torch.save(net.state_dict(), "net.pt")
    lines = said(loading.load_model, cnn(), "net.pt").split("`")[1:4:2]
    exec("import torch, safetensors.torch\n" + "\n".join(lines))
    other = cnn(width=6)
    nn.init.zeros_(other[0].weight)
    loading.load_model(other, "net.safetensors")
    assert torch.equal(other[0].weight, net[0].weight)


def test_files_that_hold_no_generator_are_refused(path, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:-5])
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    plain = file_of(cnn().state_dict(), tmp_path / "cnn.safetensors")
    for file, words in (
        (tmp_path / "nowhere.safetensors", "there is no file"),
        (tmp_path, "cannot be read"),
        (broken, "not a safetensors file or is damaged"),
        (empty, "not a safetensors file or is damaged"),
        (
            plain,
            "does not say which generator it holds and may hold a CNN (it has 0.bias, 0.weight, 1.bias",
        ),
    ):
        assert words in said(weights.load, file) and words in said(weights.describe, file)


def altered(path, tensors=None, **fields):
    """The file at `path` with other tensors or another description."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["sftgan"])
    return file_of(state | (tensors or {}), path, {"sftgan": json.dumps(header | fields)})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"version": 2}, "format 2, but this sftgan reads format 1: update sftgan"),
        ({"version": "one"}, "description in .* cannot be read"),
        ({"kind": "xsft"}, "does not describe a known generator .*unknown generator 'xsft'"),
        ({"width": None}, "does not describe a known generator .*width"),
        (
            {"reading": {"eta": 5, "colour": "red"}},
            "does not describe a known generator .*unexpected keyword argument 'colour'",
        ),
        ({"reading": {"eta": 8}}, "but its spec gives 8 conditions"),
        ({"eta": 4, "reading": {"eta": 4}}, r"eta 4, .* but that generator lacks \d+ of its tensors"),
        ({"kind": "gsft"}, r"condition_network.0.0.weight is \(8, 1, 3, 3\) in the file and \(8, 5, 3, 3\)"),
        ({"width": 8}, "width 8, variant paper, channels 1, but .*the first of"),
        ({"tensors": {"tail.weight": torch.zeros(3, 4, 3, 3)}}, "tail.weight is"),
        ({"tensors": {"extra": torch.zeros(1)}}, r"that generator lacks 1 of its tensors \(extra\)"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(path, change, words):
    with pytest.raises(InputError, match=words) as caught:
        weights.load(altered(path, **change))
    assert "\n" not in str(caught.value)


# Weights of CNNs


WRAPPED = {
    "bare": lambda net: net,
    "Normalised": Normalised,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled inside": lambda net: Normalised(torch.compile(net)),
}


@pytest.mark.parametrize("model", WRAPPED)
@pytest.mark.parametrize("saved", WRAPPED)
def test_prefixes_of_wrappers_do_not_count(tmp_path, saved, model):
    source, target = cnn(), cnn()
    nn.init.normal_(source[0].weight)
    source[1].running_mean.fill_(3)
    file = file_of(WRAPPED[saved](source).state_dict(), tmp_path / "cnn.safetensors")
    wrapped = WRAPPED[model](target)
    if "mean" in WRAPPED[saved](source).state_dict() and "mean" not in wrapped.state_dict():
        assert "load it into Normalised(net)" in said(loading.load_model, wrapped, file)
        return
    loading.load_model(wrapped, file)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_the_normalisation_comes_from_the_file_if_it_has_one(tmp_path):
    source = Normalised(cnn(), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    file = file_of(source.state_dict(), tmp_path / "all.safetensors")
    bare = file_of(source.net.state_dict(), tmp_path / "bare.safetensors")
    for path, expected in ((file, [0.1, 0.2, 0.3]), (bare, [0.5, 0.5, 0.5])):
        model = Normalised(cnn(), (0.5,) * 3)
        loading.load_model(model, path)
        torch.testing.assert_close(model.mean.flatten(), torch.tensor(expected))


def test_counters_of_batch_norm_may_be_missing(tmp_path):
    state = cnn().state_dict()
    del state["1.num_batches_tracked"]
    model = cnn()
    nn.init.zeros_(model[0].weight)
    loading.load_model(model, file_of(state, tmp_path / "cnn.safetensors"))
    assert torch.equal(model[0].weight, state["0.weight"])


@pytest.mark.parametrize(
    "other, words",
    [
        (
            cnn(classes=4).state_dict(),
            "6.weight is (4, 8) in the file and (10, 8) in the model (the first of 2 that differ): "
            "the numbers of classes differ.",
        ),
        (
            cnn(width=5).state_dict(),
            "0.weight is (5, 3, 3, 3) in the file and (6, 3, 3, 3) in the model (the first of 7 that differ).",
        ),
        (
            cnn().state_dict() | {"0.weight": torch.zeros(6, 1, 3, 3)},  # of grey images
            "0.weight is (6, 1, 3, 3) in the file and (6, 3, 3, 3) in the model.",
        ),
        (
            {f"layer{i}": torch.zeros(2) for i in range(5)},
            "it lacks 10 of the 11 tensors of the model (0.weight, 0.bias, 1.weight and 7 more); the model "
            "lacks 5 of its tensors (layer0, layer1, layer2 and 2 more).",
        ),
        (
            {n: v for n, v in cnn().state_dict().items() if n != "6.bias"},
            "it lacks 1 of the 11 tensors of the model (6.bias).",
        ),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_loaded(tmp_path, other, words):
    model = cnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = {name: value + 1 for name, value in other.items()}
    sentence = said(loading.load_model, model, file_of(other, tmp_path / "cnn.safetensors"))
    assert sentence.endswith(f"does not fit the model, nothing was loaded: {words}")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_generator_is_no_cnn(path):
    assert "read it with Explainer.load" in said(loading.load_model, cnn(), path)


# The package's own


@pytest.fixture
def packaged(path, monkeypatch):
    folder = path.parent / "pretrained"
    folder.mkdir()
    file = path.rename(folder / "lsft-similar.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  gsft-similar.safetensors\n{digest}  {file.name}\n")
    monkeypatch.setattr(weights, "_FOLDER", folder)
    return file


def test_a_packaged_file_is_found_by_its_name(packaged):
    assert weights.pretrained("lsft-similar") == packaged
    assert weights.load(weights.pretrained("lsft-similar"))[0].kind == "lsft"
    assert "unknown pretrained generator 'lsft-simlar': did you mean 'lsft-similar'?" in said(
        weights.pretrained, "lsft-simlar"
    )


def test_a_damaged_package_is_not_used(packaged):
    assert "cannot be read" in said(weights.pretrained, "gsft-dissimilar")
    data = bytearray(packaged.read_bytes())
    data[-1] ^= 1
    packaged.write_bytes(data)
    assert "is damaged (its checksum is not the published one)" in said(weights.pretrained, "lsft-similar")
    (packaged.parent / "SHA256SUMS").unlink()
    assert "install sftgan again" in said(weights.pretrained, "lsft-similar")
