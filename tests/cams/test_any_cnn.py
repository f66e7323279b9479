"""Any CNN: those of torchvision and timm, odd ones, wrapped ones, every kind of output and target, with values.

`python tests/test_any_cnn.py [name ...]` prints how well `layer_cams` agrees with pytorch-grad-cam, as a table.
"""

import sys
import threading
import warnings
import weakref
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils import model_targets
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sftgan import Explainer, Generator, InputError, build, cgma, conditions, layer_cams
from tests.cams.any_cnn import (
    NAMES,
    ODD,
    Net,
    agreement,
    default_parts,
    difference,
    hand_cams,
    net,
    odd,
    pictures,
    plain,
    randomised,
    side,
)  # fmt: skip


def label(c):
    """A score (B,): the logit of class c."""
    return lambda logits: logits[:, c]


def close(cams, names, maps, atol=1e-9):
    """`layer_cams` found these layers and drew these maps; what is dead is zeros and nothing else."""
    assert cams.names == names
    torch.testing.assert_close(cams.maps, maps, atol=atol, rtol=0)
    assert torch.equal(cams.dead, (cams.maps == 0).all(-1).all(-1))


def right(model, images, targets, score):
    """`layer_cams` is what a bare backward gives, layer by layer, and more than a third of the maps have contrast."""
    expected = hand_cams(model, images, score)
    before = images.clone()
    cams = layer_cams(model, images, targets)
    close(cams, *expected)
    assert torch.equal(images, before)
    assert cams.dead.double().mean() < 2 / 3
    return cams


# Torchvision and timm


@pytest.mark.parametrize("name", NAMES)
def test_nets_of_torchvision_and_timm(name):
    """All layers against a bare backward, four of them against pytorch-grad-cam; the script below compares all."""
    model, images = net(name), pictures(height=side(name))
    cams = right(model, images, [3, 7], lambda logits: logits[[0, 1], [3, 7]])
    assert difference(model, images, [3, 7], cams, most=4) < 2e-6


# Odd nets, and in what state and context they may be


@pytest.mark.parametrize("name", ODD)
def test_odd_nets_in_every_context(name):
    model, images = odd(name), pictures(height=24, width=32)
    expected = hand_cams(model, images, label(2))
    close(layer_cams(model, images, 2), *expected)
    with torch.no_grad():
        close(layer_cams(model, images, 2), *expected)
    with torch.inference_mode():
        close(layer_cams(model, images.clone(), 2), *expected)
    model.requires_grad_(False)
    close(layer_cams(model, images, 2), *expected)
    with torch.inference_mode():
        close(layer_cams(model, images.clone(), 2), *expected)
    list(model.parameters())[-1].requires_grad_(True)  # only the head's bias is fitted
    close(layer_cams(model, images, 2), *expected)


@pytest.mark.parametrize("name", ["detached branch", "unused branch", "branch under no_grad"])
def test_what_no_gradient_reaches_is_dead(name):
    cams = layer_cams(odd(name), pictures(height=24), 2)
    assert cams.dead[:, cams.names.index("side")].all() and not cams.dead.all()


def test_images_that_want_a_gradient_get_none():
    model, images = plain(), pictures(height=24).requires_grad_()
    expected = hand_cams(model, images.detach(), label(0))
    cams = layer_cams(model, images, 0)
    close(cams, *expected)
    assert images.grad is None and not cams.maps.requires_grad and not cams.logits.requires_grad


@pytest.mark.parametrize("name", ["spectral norm", "batch norm first", "scale and shift first"])
def test_training_mode_is_left_and_nothing_counted(name):
    model, images = odd(name), pictures(height=24)
    expected = hand_cams(model, images, label(1))
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    close(layer_cams(model, images, 1), *expected)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_models_own_hooks_stay_and_are_obeyed():
    model, images = plain(), pictures(height=24)
    model.parts[6].register_forward_hook(lambda _module, _inputs, output: output[:, [5, 4, 3, 2, 1, 0]])
    right(model, images, 2, label(2))
    assert [len(module._forward_hooks) for module in model.parts] == [0, 0, 0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("of_model", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("of_images", [torch.channels_last, torch.contiguous_format])
def test_memory_formats_make_no_difference_and_stay(of_model, of_images):
    model, images = net("timm:regnety_002"), pictures()
    expected = hand_cams(model, images, label(3))
    model, images = model.to(memory_format=of_model), images.to(memory_format=of_images)
    before = [(p, p.data_ptr(), p.stride()) for p in model.parameters()]
    close(layer_cams(model, images, 3), *expected)
    after = [(p, p.data_ptr(), p.stride()) for p in model.parameters()]
    assert all(a[0] is b[0] and a[1:] == b[1:] for a, b in zip(after, before, strict=True))
    assert images.is_contiguous(memory_format=of_images)


@pytest.mark.parametrize("channels_last", [True, False])
def test_bfloat16_and_autocast(channels_last):
    """Of 8 bits: 0.01 of the contrast in the mean."""
    model, images = plain(torch.float32), pictures(dtype=torch.float32)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    exact = layer_cams(model, images, 1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer_cams(model, images, 1)
        assert torch.is_autocast_enabled("cpu") and cast.logits.dtype == torch.bfloat16
    bf16 = layer_cams(model.bfloat16(), images.bfloat16(), 1)
    for rough in (cast, bf16):
        assert rough.maps.dtype == torch.float32 and torch.equal(rough.dead, exact.dead)
        assert 0 < (rough.maps - exact.maps).abs().mean() < 0.01


# Wrapped, compiled, scripted


def wrappers(backend="eager"):
    compiled = partial(torch.compile, backend=backend)
    return {
        "DataParallel": nn.DataParallel,
        "its module": lambda model: nn.DataParallel(model).module,
        "torch.compile": compiled,
        "DataParallel of a compiled model": lambda model: nn.DataParallel(compiled(model)),
        "compiled in place": lambda model: model.compile(backend=backend) or model,
        "a compiled part": lambda model: model.set_submodule("parts", compiled(model.parts)) or model,
        "graph module": torch.fx.symbolic_trace,
        "in a Sequential": nn.Sequential,
    }


@pytest.mark.parametrize("name", wrappers())
def test_wrapped_models(name):
    torch._dynamo.reset()
    model, images = plain(), pictures(height=24)
    names, maps = hand_cams(model, images, label(2))
    logits = model(images).detach()
    wrapped = wrappers()[name](model)
    for _ in range(2):  # not yet run, and run
        cams = layer_cams(wrapped, images, 2)
        assert len(cams.names) == len(names)
        assert all(ours.endswith(n.rpartition(".")[2]) for ours, n in zip(cams.names, names, strict=True))
        torch.testing.assert_close(cams.maps, maps, atol=1e-9, rtol=0)
        torch.testing.assert_close(wrapped(images).detach(), logits, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [name for name in wrappers() if "compile" in name])
def test_nothing_is_compiled_for_an_explanation(name):
    """That would take a minute, and drag the hooks into the compiled code."""
    torch._dynamo.reset()
    compiled = []
    model = wrappers(backend=lambda graph, _: compiled.append(graph) or graph)[name](plain())
    layer_cams(model, pictures(height=24), 2)
    assert not compiled


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("part", [False, True])
def test_scripted_models_are_refused_in_a_sentence(part):
    model, images = plain(), pictures(height=24)
    if part:
        model.parts = torch.jit.script(model.parts)
    else:
        model = torch.jit.script(model)
    with pytest.raises(InputError, match=r"(?i)script"):
        layer_cams(model, images, 2)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_traced_models_are_refused_in_a_sentence():
    model, images = plain(), pictures(height=24)
    with pytest.raises(InputError, match=r"(?i)script|trace"):
        layer_cams(torch.jit.trace(model, images), images, 2)


# Several threads


class Pause(nn.Module):
    """Stops a thread at its first call in here until it is told to go on."""

    def __init__(self, *threads):
        super().__init__()
        self.inside = {name: threading.Event() for name in threads}
        self.go = {name: threading.Event() for name in threads}

    def forward(self, x):
        name = threading.current_thread().name
        if name in self.go:
            self.inside[name].set()
            assert self.go[name].wait(20)
        return x


def results(**work):
    """What each function returns when all run at once, each in a thread of its name."""
    got = {}
    threads = [
        threading.Thread(target=lambda n=n, f=f: got.__setitem__(n, f()), name=n) for n, f in work.items()
    ]
    [thread.start() for thread in threads]
    return threads, got


def test_threads_explain_different_images_on_one_model():
    model = build("resnet50", N := 4, width=1 / 16, size=32, last_map=4).eval()
    images = {f"thread {i}": pictures(3, 32, dtype=torch.float32, seed=i) for i in range(N)}
    expected = {name: layer_cams(model, x).maps for name, x in images.items()}
    work = {n: lambda x=x: [layer_cams(model, x).maps for _ in range(4)] for n, x in images.items()}
    threads, got = results(**work)
    [thread.join() for thread in threads]
    for name, maps in expected.items():
        assert len(got[name]) == 4 and all(torch.equal(m, maps) for m in got[name])


@pytest.mark.parametrize("frozen", [True, False])
def test_another_thread_that_uses_the_model_meanwhile_is_not_touched(frozen):
    """Its whole forward pass falls into the explaining thread's, hooks and all."""
    parts = default_parts()
    pause = Pause("explains")
    model = randomised(Net(*parts[:5], pause, *parts[6:])).double().requires_grad_(not frozen)
    images, others = pictures(height=24), pictures(height=24, seed=2)
    expected, logits = layer_cams(model, images, 1), model(others)
    threads, got = results(explains=lambda: layer_cams(model, images, 1))
    assert pause.inside["explains"].wait(20)
    meanwhile = model(others)
    pause.go["explains"].set()
    threads[0].join()
    assert torch.equal(meanwhile, logits) and meanwhile.requires_grad is not frozen
    assert torch.equal(got["explains"].maps, expected.maps) and got["explains"].names == expected.names
    assert not any(module._forward_hooks for module in model.modules())


def test_threads_on_a_model_in_training_mode():
    """The first to enter leaves first: the second must not find itself in training mode."""
    pause = Pause("first", "second")
    model = randomised(Net(pause, *default_parts())).double()
    images, others = pictures(height=24), pictures(height=24, seed=2)
    expected = [layer_cams(model, x, 1).maps for x in (images, others)]
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    threads, got = results(first=lambda: layer_cams(model, images, 1).maps)
    assert pause.inside["first"].wait(20)
    more, also = results(second=lambda: layer_cams(model, others, 1).maps)
    pause.inside["second"].wait(1)  # unless it has to wait outside
    for name, thread in zip(("first", "second"), (*threads, *more), strict=True):
        pause.go[name].set()
        thread.join()
    assert torch.equal(got["first"], expected[0]) and torch.equal(also["second"], expected[1])
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_threads_on_a_model_with_a_compiled_part_leave_it_compiled():
    """The first to leave does not start compilation for the second, nor does the second stop it for good."""
    torch._dynamo.reset()
    compiled, pause = [], Pause("first", "second")
    model = randomised(Net(pause, *default_parts())).double()
    images = pictures(height=24)
    expected = layer_cams(model, images, 1).maps
    model.head = torch.compile(model.head, backend=lambda graph, _: compiled.append(graph) or graph)
    work = {name: lambda: layer_cams(model, images, 1).maps for name in pause.go}
    threads, got = results(**work)
    for name in pause.go:
        pause.inside[name].wait(1)  # unless it has to wait outside
    for name, thread in zip(pause.go, threads, strict=True):
        pause.go[name].set()
        thread.join()
    assert all(torch.equal(maps, expected) for maps in got.values()) and not compiled
    model(images)
    assert len(compiled) == 1


# What a model puts out


class ModelOutput(dict):
    """As Hugging Face's: a dict whose entries are attributes, too."""

    __getattr__ = dict.__getitem__


class Heads(Net):
    """Puts out what `form` makes of the logits (B, 4) and of the maps (B, 6, h, w) behind the last convolution."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        maps = self.features(x)
        return self.form(self.head(maps.mean((2, 3))), maps)


def heads(form):
    torch.manual_seed(0)
    return randomised(Heads(form)).double()


FORMS = {
    "a tuple": (lambda logits, maps: (maps, logits), lambda out: out[1][:, 2]),
    "a dict": (lambda logits, maps: {"out": maps, "aux": logits}, lambda out: out["aux"][:, 2]),
    "a model output": (lambda logits, maps: ModelOutput(logits=logits), lambda out: out.logits[:, 2]),
    "maps": (lambda logits, maps: maps, lambda out: out[:, 2].sum((1, 2))),
    "a vector per place": (
        lambda logits, maps: maps.flatten(2).transpose(1, 2),
        lambda out: out[:, 3:9, 2].mean(1),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_callable_target_takes_the_whole_output(name):
    form, score = FORMS[name]
    model, images = heads(form), pictures(height=24)
    cams = right(model, images, score, score)
    close(layer_cams(model, images, lambda out: score(out).sum()), cams.names, cams.maps)
    for targets in (None, 2, [2, 2]):
        with pytest.raises(InputError, match=r"(?i)target|callable"):
            layer_cams(model, images, targets)


def test_a_list_of_detections_goes_by_one_callable_per_image():
    model = heads(lambda logits, maps: [{"scores": row} for row in logits])
    images = pictures(height=24)
    targets = [lambda found: found["scores"][2], lambda found: found["scores"][:2].sum()]
    right(model, images, targets, lambda out: torch.stack([t(o) for t, o in zip(targets, out, strict=True)]))


@pytest.mark.parametrize("arch", ["lraspp_mobilenet_v3_large", "fcn_resnet50"])
def test_segmentation(arch):
    torch.manual_seed(0)
    model = torchvision.models.get_model(arch, weights=None, weights_backbone=None, num_classes=5)
    model, images = randomised(model).double(), pictures(height=40, width=56)
    place = (slice(None), 2, slice(10, 30), slice(20, 40))
    cams = right(model, images, score := lambda out: out["out"][place].sum((1, 2)), score)
    assert len(cams.names) > 45 and "classifier" in cams.names[-1]
    with pytest.raises(InputError, match=r"(?i)target|callable"):
        layer_cams(model, images)


def test_segmentation_with_pytorch_grad_cams_own_target():
    model, images = heads(lambda logits, maps: maps), pictures(height=24)
    masks = np.zeros((2, 12, 12), np.float32)
    masks[0, 2:5, 3:9], masks[1, 6:, 6:] = 1e7, 1e7
    targets = [model_targets.SemanticSegmentationTarget(4, mask) for mask in masks]
    cams = layer_cams(model, images, targets)
    for i, layer in enumerate([model.parts[1], model.parts[2], model.parts[6]]):
        with GradCAM(model, [layer]) as peer, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = torch.from_numpy(peer(images, targets))
        torch.testing.assert_close(cams.maps[:, i].float(), theirs, atol=1e-6, rtol=0)


def test_the_feature_pyramid_of_detectors():
    torch.manual_seed(0)
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone
    model = backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)
    model, images = randomised(model).double(), pictures(height=64, width=96)
    both = lambda out: out["1"][:, 7, 2:5, 3].sum(1) + out["3"].square().mean((1, 2, 3))  # noqa: E731
    cams = right(model, images, both, both)
    unused = [cams.dead[:, cams.names.index(f"fpn.layer_blocks.{i}.0")].all().item() for i in range(4)]
    assert unused == [True, False, True, False]


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images(channels):
    torch.manual_seed(0)
    model = randomised(Net(*default_parts(channels))).double()
    right(model, pictures(height=24, channels=channels), 1, label(1))


def test_the_generator_sees_grey_images_in_three_channels():
    torch.manual_seed(0)
    model = randomised(Net(*default_parts(channels=1)))
    images = pictures(3, 24, 32, channels=1, dtype=torch.float32)
    generator = Generator("lsft", eta=3, width=4).eval()
    with torch.no_grad():
        expected = generator(
            images.expand(-1, 3, -1, -1), conditions(model, images, eta=3, targets=[0, 1, 2])
        )
    maps = Explainer(generator)(model, images, [0, 1, 2])
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


# Targets


@pytest.mark.parametrize(
    "targets",
    [
        [2, 2], torch.tensor([2, 2]), torch.tensor([2, 2], dtype=torch.uint8), np.array([2, 2]), np.int64(2), (2, 2),
        [model_targets.ClassifierOutputTarget(2)] * 2, model_targets.ClassifierOutputTarget(2),
        label(2), lambda logits: logits[:, 2].sum(), [lambda logits: logits[2]] * 2, [lambda logits: logits[2:3]] * 2,
        torch.tensor([[0.0, 0, 1, 0]] * 2), torch.tensor([[0, 0, 0.5, 0]] * 2, dtype=torch.float16),
    ],
)  # fmt: skip
def test_ways_to_name_a_class(targets):
    model, images = plain(), pictures(height=24)
    cams = right(model, images, 2, label(2))
    close(layer_cams(model, images, targets), cams.names, cams.maps)


def test_several_labels_at_once():
    model, images = plain(), pictures(height=24)
    weights = torch.tensor([[1.0, 0, -2, 0], [0.5, 0.5, 0, 1]], dtype=torch.float64)
    cams = right(model, images, weights, lambda logits: (weights * logits).sum(1))
    close(layer_cams(model, images, lambda logits: (weights * logits).sum(1)), cams.names, cams.maps)
    for i, row in enumerate(weights):  # and each image by its own weights
        alone = layer_cams(model, images[i : i + 1], row[None])
        torch.testing.assert_close(alone.maps, cams.maps[i : i + 1], atol=1e-9, rtol=0)
    assert layer_cams(model, images, torch.zeros(2, 4)).dead.all()


@pytest.mark.parametrize(
    "target", [model_targets.ClassifierOutputSoftmaxTarget(1), model_targets.ClassifierOutputReST(1)]
)
def test_pytorch_grad_cams_other_targets(target):
    model, images = plain(), pictures(height=24)
    cams = right(model, images, [target] * 2, lambda out: torch.stack([target(row).squeeze() for row in out]))
    assert not torch.allclose(cams.maps, layer_cams(model, images, 1).maps)


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_binary_heads(shape):
    images = pictures(6, height=24)
    mean = heads(lambda logits, _: logits[:, 0])(images).detach().mean()
    model, logit = heads(lambda logits, _: (logits[:, 0] - mean).view(shape)), torch.ravel
    signs = logit(model(images)).detach().sign()
    assert signs.unique().tolist() == [-1, 1]
    yes = right(model, images, 1, logit)
    no = right(model, images, 0, lambda out: -logit(out))
    predicted = right(model, images, None, lambda out: signs * logit(out))
    close(layer_cams(model, images, (signs > 0).long()), predicted.names, predicted.maps)
    close(layer_cams(model, images, signs.view(shape)), predicted.names, predicted.maps)
    close(layer_cams(model, images, logit), yes.names, yes.maps)
    binary = model_targets.BinaryClassifierOutputTarget
    close(layer_cams(model, images, [binary(1)] * 6), yes.names, yes.maps)
    close(layer_cams(model, images, [binary(0)] * 6), no.names, no.maps)
    with pytest.raises(InputError, match="class index 2 is out of range"):
        layer_cams(model, images, 2)


@pytest.mark.parametrize(
    "targets, sentence",
    [
        ([0, 1, 2], "one class index or 2"), ([], "(?i)target"), ([label(0)] * 3, "(?i)target"),
        (torch.ones(2, 3), r"(?i)(target|weights).*\(2, 3\)"), (torch.ones(4), r"(?i)(target|weights).*\(4,\)"),
        (torch.full((2, 4), torch.nan), "(?i)NaN"), (torch.ones(2, 4, dtype=torch.long), "(?i)target"),
        (torch.tensor([True, False]), "(?i)target"), ([0.5, 1.0], "integers"), ("cat", "(?i)target"),
        ([0, lambda logits: logits[0]], "(?i)target"), ({"class": 1}, "(?i)target"), (4, "class index 4"),
        (lambda logits: logits, r"(?i)target.*\(2, 4\)"), (lambda logits: logits[:1, 0], r"(?i)target.*\(1,\)"),
        (lambda logits: None, "(?i)target.*None"), (lambda logits: 1.0, "(?i)target.*float"),
        (lambda logits: logits[:, 0].detach(), "(?i)target.*no gradient|no gradient.*target"),
        (lambda logits: torch.ones(2, dtype=torch.float64, requires_grad=True), "(?i)target|gradient"),
        (lambda logits: logits[:, 0] / 0 * 0, "(?i)NaN"),
        (model_targets.RawScoresOutputTarget(), r"(?i)target.*\(2, 4\)"),
        ([model_targets.RawScoresOutputTarget()] * 2, r"(?i)target.*\(4,\)"),
        ([lambda logits: logits[0].detach()] * 2, "(?i)target.*no gradient|no gradient.*target"),
        ([lambda logits: logits[0] * torch.nan] * 2, "(?i)NaN"), ([lambda logits: None] * 2, "(?i)target.*None"),
    ],
)  # fmt: skip
def test_wrong_targets_are_refused_in_a_sentence(targets, sentence):
    with pytest.raises(InputError, match=sentence):
        layer_cams(plain(), pictures(height=24), targets)


@pytest.mark.parametrize("targets", [None, 1])
def test_logits_of_nan_are_refused_in_a_sentence(targets):
    model = plain()
    nn.init.constant_(model.head.bias, torch.nan)
    with pytest.raises(InputError, match="NaN"):
        layer_cams(model, pictures(height=24), targets)


class UnderNoGrad(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class UnderInferenceMode(Net):
    @torch.inference_mode()
    def forward(self, x):
        return super().forward(x)


class SeesBothSides(Net):
    """Averages over an image and its mirror image, which it puts into one batch."""

    def forward(self, x):
        return super().forward(torch.cat([x, x.flip(-1)])).unflatten(0, (2, -1)).mean(0)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "start, sentence",
    [(UnderNoGrad, "no gradient"), (UnderInferenceMode, "gradient"), (SeesBothSides, "(?i)batch|images")],
)
def test_nets_that_cannot_be_explained_are_refused_in_a_sentence(start, sentence, frozen):
    model = start().double().requires_grad_(not frozen)
    with pytest.raises(InputError, match=sentence):
        layer_cams(model, pictures(height=24), 1)


@pytest.mark.parametrize("model_in, images_in", [("float32", "float64"), ("bfloat16", "float32")])
def test_a_model_of_another_precision_than_the_images(model_in, images_in):
    """Numpy's division by 255 makes float64 of bytes."""
    model, images = plain(getattr(torch, model_in)), pictures(dtype=getattr(torch, images_in))
    with pytest.raises(InputError, match=rf"(?=.*\b{model_in}\b)(?=.*\b{images_in}\b)"):
        layer_cams(model, images, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_too_small_images_are_refused_with_a_size_that_works(dtype):
    model = torchvision.models.mobilenet_v3_small(num_classes=3).to(dtype)
    with pytest.raises(InputError, match="use at least 33 pixels"):
        layer_cams(model, pictures(height=32, dtype=torch.float64).to(dtype), 1)


@pytest.mark.parametrize("size", [0, -3, (0, 4), 3.5, (4,), (4, 5, 6), "big", True])
def test_wrong_sizes_are_refused_in_a_sentence(size):
    with pytest.raises(InputError, match="size"):
        layer_cams(plain(), pictures(height=24), 1, size=size)


@pytest.mark.parametrize("model_at, images_at", [("cpu", "meta"), ("meta", "cpu")])
@pytest.mark.parametrize("start", [lambda: net("timm:regnety_002"), lambda: odd("batch norm first")])
def test_a_model_on_another_device_than_the_images(model_at, images_at, start):
    model, images = start().to(model_at), pictures().to(images_at)
    with pytest.raises(InputError, match=rf"(?=.*\b{model_at}\b)(?=.*\b{images_at}\b)"):
        layer_cams(model, images, 1)


# Fused conditions


@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [None, 96, 16, (24, 40), (100, 7)])
@pytest.mark.parametrize("name", ["timm:regnety_002", "torchvision:squeezenet1_1", "two stems"])
def test_conditions_are_the_averages_of_the_maps(name, size, dtype, atol):
    model = (odd if name in ODD else net)(name, dtype)
    images = pictures(3, 48, 64, dtype=dtype)
    eta = 3 if name in ODD else 8
    for targets, tap, rounding in [([1, 2, 0], "post", "double"), (None, "pre", "single")]:
        expected = cgma(layer_cams(model, images, targets, tap, size).maps, eta, rounding)
        fused = conditions(model, images, eta, targets, tap, size, rounding)
        assert fused.dtype == dtype and fused.shape[:2] == (3, eta)
        torch.testing.assert_close(fused, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("eta", [1, 2, 40])
def test_as_many_conditions_as_one_likes(eta):
    model, images = net("timm:convnext_atto", torch.float32), pictures(dtype=torch.float32)
    expected = cgma(layer_cams(model, images).maps, eta)
    torch.testing.assert_close(conditions(model, images, eta), expected, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="40"):
        conditions(model, images, eta=41)


class FullSize(TorchDispatchMode):
    """Counts the elements that live at once in tensors with sides of `size`, where no activation is as large."""

    def __init__(self, size):
        super().__init__()
        self.size, self.made, self.most = size, [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.shape[-2:] == self.size:
                self.made.append(weakref.ref(tensor))
        alive = [tensor.untyped_storage() for tensor in (ref() for ref in self.made) if tensor is not None]
        storages = {storage.data_ptr(): storage.nbytes() for storage in alive}
        self.most = max(self.most, sum(storages.values()) // 8)
        return out


@pytest.mark.parametrize("stride", [2, 4])
def test_conditions_never_hold_all_maps_at_full_size(stride):
    model = Net(nn.Conv2d(3, 6, 3, stride, padding=1), *(nn.Conv2d(6, 6, 3, padding=1) for _ in range(39)))
    model, images, size = model.double(), pictures(height=40), (40, 40)
    with FullSize(size) as whole:
        layer_cams(model, images)
    with FullSize(size) as fused:
        conditions(model, images, eta=4)
    assert whole.most >= 40 * images[:, 0].numel()
    assert fused.most < 20 * images[:, 0].numel()  # three images, four conditions, and some to work with


# Explainer


def explained(model, images, targets=None, batch=16):
    torch.manual_seed(0)
    return Explainer(Generator("lsft", eta=3, width=4), batch=batch)(model, images, targets)


@pytest.mark.parametrize(
    "targets",
    [
        None, 2, [0, 1, 2, 3, 0], torch.tensor([0, 1, 2, 3, 0]), torch.eye(5, 4), label(1),
        [lambda logits, c=c: logits[c] for c in (0, 1, 2, 3, 0)],
    ],
)  # fmt: skip
def test_the_explainers_batches_make_no_difference(targets):
    model, images = plain(torch.float32), pictures(5, 24, 32, dtype=torch.float32)
    together, apart = explained(model, images, targets), explained(model, images, targets, batch=2)
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("targets", [[0, 1], torch.ones(3, 4), [label(0)] * 6, torch.tensor([0, 1])])
def test_targets_for_another_number_of_images_are_refused(targets):
    """Not only within one of the explainer's batches."""
    model, images = plain(torch.float32), pictures(5, 24, dtype=torch.float32)
    with pytest.raises(InputError, match="(?i)target"):
        explained(model, images, targets, batch=2)


def test_the_explainer_takes_any_precision():
    model, images = plain(torch.float32), pictures(3, 24, dtype=torch.float32)
    expected = explained(model, images, 1)
    with torch.inference_mode():
        torch.testing.assert_close(explained(model, images.clone(), 1), expected, atol=1e-5, rtol=0)
    double = explained(model.double(), images.double(), 1)
    torch.testing.assert_close(double.float(), expected, atol=1e-4, rtol=0)
    rough = explained(model.bfloat16(), images.bfloat16(), 1)
    torch.testing.assert_close(rough.float(), expected, atol=0.05, rtol=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| model | N | largest difference |\n|---|--:|--:|")
    for name in sys.argv[1:] or NAMES:
        n_layers, largest = agreement(name)
        print(f"| {name} | {n_layers} | {largest:.1e} |", flush=True)
