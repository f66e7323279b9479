"""Where graphs begin and end, and what is left behind: the traps between a forward and a backward pass."""

import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sftgan import Explainer, Generator, InputError, Normalised, layer_cams
from sftgan.cams.conditions import ConditionSpec
from sftgan.cams.model_state import evaluation_mode
from sftgan.cams.targets import score
from tests.cams.any_cnn import hand_cams, pictures, plain


class Odd(nn.Module):
    """Two convolutions, what `between` makes of the first one's output, and batch norm before the second."""

    def __init__(self, between=torch.relu, named=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.between, self.named = between, named

    def forward(self, x):
        x = self.norm(self.between(self.first(x)))
        x = self.second(input=x) if self.named else self.second(x)
        return self.head(x.sin().mean((2, 3)))


def cams(model):
    """Where both signs of the logit are explained, no map is dead for want of positive evidence alone."""
    images = pictures(height=16, dtype=torch.float32)
    return [layer_cams(model.eval(), images, lambda out, sign=sign: sign * out[:, 0]) for sign in (1, -1)]


def test_a_convolution_called_by_keyword_does_not_cut_the_graph():
    for named, plainly in zip(cams(Odd(named=True)), cams(Odd()), strict=True):
        torch.testing.assert_close(named.maps, plainly.maps)


def test_features_detached_before_parameters_leave_the_layers_behind_alive():
    """Batch norm's parameters want a gradient, so that the graph goes on, but not from the images."""
    for cut, whole in zip(cams(Odd(lambda x: x.relu().detach())), cams(Odd()), strict=True):
        assert cut.dead[:, 0].all()
        torch.testing.assert_close(cut.maps[:, 1], whole.maps[:, 1])


@pytest.mark.parametrize(
    "plainly, in_place",
    [
        (F.leaky_relu, F.leaky_relu_), (F.elu, F.elu_), (F.selu, torch.selu_), (F.celu, torch.celu_),
        (torch.tanh, torch.tanh_), (torch.tanh, torch.Tensor.tanh_),
        (lambda x: F.hardtanh(x, -0.1, 0.1), lambda x: F.hardtanh_(x, -0.1, 0.1)),
    ],
)  # fmt: skip
def test_functions_that_act_in_place_make_no_difference(plainly, in_place):
    for one, other in zip(cams(Odd(in_place)), cams(Odd(plainly)), strict=True):
        torch.testing.assert_close(one.maps, other.maps, atol=1e-5, rtol=0)


def test_a_net_that_writes_in_place_is_not_held_twice():
    def adds(x):
        x += 1
        return x.sin()

    model, alive = Odd(adds).eval(), []
    outputs = []

    def watch(_module, _inputs, output):
        alive.append(sum(ref() is not None for ref in outputs))
        outputs.append(weakref.ref(output))

    model.second.register_forward_hook(watch)
    gc.disable()
    try:
        layer_cams(model, pictures(height=16, dtype=torch.float32))
    finally:
        gc.enable()
    assert alive == [0, 0]


def test_outputs_hold_no_graph():
    model = Odd()
    model.head.register_forward_hook(lambda _module, _inputs, out: {"out": out, "all": [out, out * 2]})
    logits = layer_cams(
        model.eval(), pictures(height=16, dtype=torch.float32), lambda out: out["out"][:, 0]
    ).logits
    assert not logits["out"].requires_grad and not any(out.requires_grad for out in logits["all"])


def test_scores_whose_sum_is_beyond_half_precision_are_finite():
    logits = torch.full((64, 3), 2000.0, dtype=torch.float16, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(logits * 1, 0, 64), logits)
    assert gradient[:, 0].tolist() == [1.0] * 64


def test_two_wrappers_of_one_net_share_its_mode():
    """As two threads, each with a face of its own, have it."""
    net = Odd().train()
    first, second = (evaluation_mode(Normalised(net, (0,), (1,))) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(module.training for module in net.modules())
    second.__exit__(None, None, None)
    assert all(module.training for module in net.modules())


def test_a_compiled_forward_is_not_compiled_for_an_explanation():
    torch._dynamo.reset()
    model, images, compiled = plain(), pictures(height=24), []
    names, maps = hand_cams(model, images, lambda out: out[:, 2])
    model.forward = torch.compile(model.forward, backend=lambda graph, _: compiled.append(graph) or graph)
    found = layer_cams(model, images, 2)
    assert found.names == names and not compiled
    torch.testing.assert_close(found.maps, maps, atol=1e-9, rtol=0)


def test_images_that_resizing_rounded_beyond_1_are_taken():
    white = F.interpolate(torch.ones(1, 3, 100, 100), (61, 61), mode="bilinear", antialias=True)
    assert white.max() > 1
    assert layer_cams(Odd().eval(), white).maps.isfinite().all()
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        layer_cams(Odd().eval(), white + 1e-3)


@pytest.mark.parametrize("images", [torch.zeros(0, 3, 16, 16), torch.zeros(2, 3, 16, 16).numpy(), "cat"])
def test_the_explainer_refuses_what_is_no_batch_of_images(images):
    with pytest.raises(InputError, match="images must"):
        Explainer(Generator("lsft", eta=2, width=4))(Odd(), images)


def test_a_model_that_is_no_module_is_refused():
    with pytest.raises(InputError, match="torch.nn.Module, got function"):
        layer_cams(lambda x: x, pictures(height=16))


def test_the_explainer_draws_at_its_size_and_enlarges():
    torch.manual_seed(0)
    generator, model, images = (
        Generator("lsft", eta=2, width=4),
        Odd().eval(),
        pictures(3, 32, 48, dtype=torch.float32),
    )
    shapes = []
    generator.register_forward_pre_hook(lambda _module, inputs: shapes.append([x.shape[-2:] for x in inputs]))
    maps = Explainer(generator, size=16, batch=2)(model, images)
    assert maps.shape == (3, 32, 48) and shapes == [[(16, 24)] * 2] * 2
    with torch.no_grad():
        shown = F.interpolate(images, (16, 24), mode="bilinear", antialias=True)
        drawn = generator.eval()(
            shown, ConditionSpec(2).conditions_and_target(layer_cams(model, images, size=(16, 24)).maps)[0]
        )
        expected = F.interpolate(drawn[:, None], (32, 48), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_a_reading_of_the_first_class_explains_it_unless_told_otherwise():
    torch.manual_seed(0)
    generator, model, images = (
        Generator("lsft", eta=2, width=4),
        Odd().eval(),
        pictures(6, 16, dtype=torch.float32),
    )
    explain = Explainer(generator, ConditionSpec(2, explained_class="first"))
    assert torch.equal(explain(model, images), explain(model, images, 0))
    assert not torch.equal(explain(model, images), explain(model, images, 1))


def test_threads_that_come_and_go_keep_their_hooks_to_themselves():
    model = Odd().eval()
    batches = [pictures(height=16, seed=seed, dtype=torch.float32) for seed in range(4)]
    expected = [layer_cams(model, images, 0).maps for images in batches]
    got = [[] for _ in batches]

    def work(i):
        got[i] = [layer_cams(model, batches[i], 0).maps for _ in range(40)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for maps, right in zip(got, expected, strict=True):
        assert len(maps) == 40 and all(torch.equal(m, right) for m in maps)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_net_that_overwrites_its_input_leaves_the_images(layout):
    """With and without batch norm, for which the images are laid out anew."""
    for net in (nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), Odd().eval()):
        net.register_forward_pre_hook(lambda _module, inputs: inputs[0].sub_(0.5))
        images = pictures(height=16, dtype=torch.float32).to(memory_format=layout)
        before = images.clone()
        layer_cams(net, images)
        assert torch.equal(images, before)
