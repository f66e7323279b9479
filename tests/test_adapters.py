"""The faces give the explainer's own maps, and the other libraries' metrics give of them what is computed by hand."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sftgan import Explainer, Generator, InputError, Normalised, adapters, build
from sftgan.adapters import SFTGANCAM, quantus_explain
from sftgan.cnns.normalised import IMAGENET_MEAN, IMAGENET_STD
from sftgan.gan.networks import SFTLayer

# with powers of two and bytes over 256 the way to normalised images and back is exact
EXACT = {"mean": (0.5, 0.25, 0.5), "std": (0.5, 0.25, 0.125)}
CLASSES = [3, 0, 2]


def normalised(images, mean, std):
    return (images - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def as_images(inputs):
    mean, std = (torch.tensor(EXACT[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    return inputs * std + mean


@pytest.fixture(scope="module")
def parts():
    """A net for normalised images, an explainer, and images in [0, 1] that reach 0 and 255/256."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("resnet50", 4, width=1 / 16, size=32, last_map=4).net.eval()
        explainer = Explainer(Generator("lsft", eta=5, width=4))
        for layer in explainer.generator.modules():
            if isinstance(layer, SFTLayer):  # as training does: the CGMAs get their say
                layer.shift[-1].weight.data.mul_(20)
        images = (
            torch.randint(0, 256, (3, 3, 8, 8))
            .float()
            .div(256)
            .repeat_interleave(4, 2)
            .repeat_interleave(4, 3)
        )
    images[:, :, :4, :4], images[:, :, 4:8, :4] = 0, 255 / 256
    return net, explainer, images


@pytest.fixture(scope="module")
def inputs(parts):
    return normalised(parts[2], **EXACT)


def drawn(parts, images, targets=None):
    """What the explainer gives directly."""
    net, explainer, _ = parts
    return explainer(Normalised(net, **EXACT), images, targets)


@pytest.fixture(scope="module")
def cam(parts):
    return SFTGANCAM(parts[0], explainer=parts[1], **EXACT)


@pytest.fixture(scope="module")
def attribution(parts):
    return adapters.SFTGANAttribution(parts[0], parts[1], **EXACT)


def target_list(softmax=False):
    from pytorch_grad_cam.utils import model_targets

    kind = model_targets.ClassifierOutputSoftmaxTarget if softmax else model_targets.ClassifierOutputTarget
    return [kind(c) for c in CLASSES]


# ---------------------------------------------------------------- pytorch-grad-cam


@pytest.mark.parametrize("form", ["their targets", "classes", "predicted"])
def test_cam_is_the_explainers_map(parts, inputs, form):
    net, explainer, images = parts
    targets = {"their targets": target_list(), "classes": CLASSES, "predicted": None}[form]
    expected = drawn(parts, images, None if form == "predicted" else CLASSES)
    with SFTGANCAM(net, [net.layer4[-1]], explainer=explainer, **EXACT) as cam:
        maps = cam(input_tensor=inputs, targets=targets)
    assert maps.dtype == np.float32 and maps.shape == (3, 32, 32)
    assert 0 <= maps.min() < maps.max() <= 1
    np.testing.assert_array_equal(maps, expected.numpy())


def test_imagenets_normalisation_is_the_default(parts):
    net, explainer, images = parts
    maps = SFTGANCAM(net, explainer=explainer)(normalised(images, IMAGENET_MEAN, IMAGENET_STD), CLASSES)
    expected = explainer(Normalised(net), images, CLASSES)
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-4)
    assert np.abs(maps - drawn(parts, images, CLASSES).numpy()).max() > 1e-3  # the other normalisation's


def test_cam_leaves_the_model_alone_and_swallows_no_error(parts, inputs):
    net, explainer, _ = parts
    with pytest.raises(IndexError), SFTGANCAM(net, explainer=explainer, **EXACT) as cam:  # theirs prints it
        net.train()
        cam(inputs)
        assert net.training and net.bn1.training
        assert not any(m._forward_hooks for m in net.modules())
        _ = [][0]
    net.eval()
    assert cam.model is net and all(p.grad is None for p in net.parameters())


def test_outputs_are_the_models(parts, inputs, cam):
    with pytest.raises(AttributeError):
        _ = SFTGANCAM(parts[0], explainer=parts[1], **EXACT).outputs
    cam(inputs)
    with torch.no_grad():
        assert torch.equal(cam.outputs, parts[0](inputs))


@pytest.mark.filterwarnings("error")  # hooks in compiled code give one
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_cam_takes_wrapped_models(parts, inputs, wrap):
    net, explainer, images = parts
    maps = SFTGANCAM(wrap(net), explainer=explainer, **EXACT)(inputs, CLASSES)
    np.testing.assert_array_equal(maps, drawn(parts, images, CLASSES).numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_cam_takes_models_of_another_precision(parts, inputs, dtype):
    net, explainer, images = parts
    model = copy.deepcopy(net).to(dtype)
    maps = SFTGANCAM(model, explainer=explainer, **EXACT)(inputs.to(dtype), CLASSES)
    expected = explainer(Normalised(model, **EXACT).to(dtype), images.to(dtype), CLASSES)
    np.testing.assert_array_equal(maps, expected.float().numpy())
    rounded = normalised(images, IMAGENET_MEAN, IMAGENET_STD).to(dtype)  # in bfloat16 by up to 0.0018
    assert SFTGANCAM(model, explainer=explainer)(rounded, CLASSES).dtype == np.float32


def test_cam_follows_a_model_that_is_converted_afterwards(parts, inputs):
    net, explainer, _ = parts
    model = copy.deepcopy(net)
    cam = SFTGANCAM(model, explainer=explainer, **EXACT)
    model.bfloat16()
    afresh = SFTGANCAM(model, explainer=explainer, **EXACT)
    np.testing.assert_array_equal(cam(inputs, CLASSES), afresh(inputs, CLASSES))


def test_a_grayscale_model(parts):
    _, explainer, images = parts
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *[layer for i in range(6) for layer in (nn.Conv2d(4 if i else 1, 4, 3, 1, 1), nn.ReLU())],
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4),
        ).eval()  # fmt: skip
    grey = images[:, :1]
    for shape, channels in ((grey, 1), (images, 3)):  # a single value serves three channels too
        x = normalised(shape, (0.25,), (0.5,))
        model = net if channels == 1 else parts[0]
        maps = SFTGANCAM(model, explainer=explainer, mean=(0.25,), std=(0.5,))(x, 1)
        expected = explainer(Normalised(model, (0.25,), (0.5,)), shape, 1)
        np.testing.assert_array_equal(maps, expected.numpy())
    with pytest.raises(
        InputError, match=r"with 3 values in mean and std.*\(B, 3, H, W\), got \(3, 1, 32, 32\)"
    ):
        SFTGANCAM(net, explainer=explainer)(grey)


def test_aug_smooth_is_theirs_on_images_that_exist(parts, inputs, cam):
    """Their six copies, by the library they take them from; clipped to [0, 1], as 1.1 times white is no colour."""
    import ttach

    maps = []
    for augmented in ttach.Compose([ttach.HorizontalFlip(), ttach.Multiply(factors=[0.9, 1, 1.1])]):
        images = as_images(augmented.augment_image(inputs)).clamp(0, 1)
        maps.append(augmented.deaugment_mask(drawn(parts, images, CLASSES)[:, None])[:, 0])
    smooth = cam(inputs, target_list(), aug_smooth=True)
    assert len(maps) == 6 and smooth.dtype == np.float32
    np.testing.assert_allclose(smooth, torch.stack(maps).mean(0).numpy(), atol=1e-5)
    assert np.abs(smooth - cam(inputs, target_list())).max() > 1e-3


def test_images_beyond_their_range(parts, inputs):
    net, explainer, images = parts
    cam = SFTGANCAM(net, explainer=explainer, **EXACT)
    slightly = normalised(images.where(images > 0, -0.0009), **EXACT)
    np.testing.assert_array_equal(cam(slightly, CLASSES), cam(inputs, CLASSES))
    with pytest.raises(
        InputError, match=r"mean \(0.5, 0.25, 0.5\) and std \(0.5, 0.25, 0.125\) range from -0.002 to"
    ):
        cam(normalised(images.where(images > 0, -0.002), **EXACT))
    with pytest.raises(InputError, match="range from 0 to 255, not from 0 to 1"):
        cam(normalised(images * 256, **EXACT))
    with pytest.raises(InputError, match="NaN"):
        cam(inputs * torch.nan)


def test_bad_arguments_are_said_in_a_sentence(parts, inputs, cam):
    net, explainer, _ = parts
    with pytest.raises(InputError, match="eigen_smooth"):
        cam(inputs, eigen_smooth=True)
    with pytest.raises(InputError, match="reshape_transform"):
        SFTGANCAM(net, None, lambda x: x, explainer=explainer)
    with pytest.raises(InputError, match="model must be a torch.nn.Module.* got function"):
        SFTGANCAM(lambda x: net(x), explainer=explainer)
    with pytest.raises(
        InputError, match="explainer must be an sftgan.Explainer or the name of one, got Generator"
    ):
        SFTGANCAM(net, explainer=explainer.generator)
    with pytest.raises(InputError, match="lsft-disimilar"):
        SFTGANCAM(net, explainer="lsft-disimilar")
    for mean, std in (((0.5,), (0.5, 0.5, 0.5)), ((0.5,), (0.0,)), (0.5, 0.5)):
        with pytest.raises(
            InputError, match="mean and std must be sequences of equal length with positive std"
        ):
            SFTGANCAM(net, explainer=explainer, mean=mean, std=std)
    with pytest.raises(InputError, match="must be a tensor of shape.* got ndarray"):
        cam(inputs.numpy())
    with pytest.raises(InputError, match="class index 4 is out of range"):
        cam(inputs, 4)
    with pytest.raises(InputError, match="there are 3 targets for 2 images"):
        cam(inputs[:2], target_list())


def test_a_model_that_normalises_itself_takes_images(parts):
    net, explainer, images = parts
    model = Normalised(net, **EXACT)
    with pytest.raises(InputError, match=r"this model normalises images itself.*mean=\(0,\) and std=\(1,\)"):
        SFTGANCAM(model, explainer=explainer)
    cam = SFTGANCAM(model, explainer=explainer, mean=(0,), std=(1,))
    np.testing.assert_array_equal(cam(images, CLASSES), drawn(parts, images, CLASSES).numpy())
    assert cam(images, CLASSES, aug_smooth=True).shape == (3, 32, 32)  # though 0 and 1 are integers


def test_their_overlay(parts, inputs, cam):
    import cv2
    from pytorch_grad_cam.utils.image import show_cam_on_image

    picture, seen = parts[2][0].permute(1, 2, 0).numpy(), cam(inputs, target_list())[0]
    jet = cv2.applyColorMap(np.uint8(255 * seen), cv2.COLORMAP_JET)[..., ::-1] / np.float32(255)
    mixed = 0.5 * jet + 0.5 * picture
    overlay = show_cam_on_image(picture, seen, use_rgb=True)
    assert overlay.shape == (32, 32, 3) and overlay.dtype == np.uint8
    np.testing.assert_array_equal(overlay, np.uint8(255 * (mixed / mixed.max())))


def test_their_confidence_metrics(parts, inputs, cam):
    from pytorch_grad_cam.metrics import cam_mult_image

    maps, targets = cam(inputs, target_list()), target_list(softmax=True)
    with torch.no_grad():
        before, after = (
            parts[0](x).softmax(1)[range(3), CLASSES]
            for x in (inputs, inputs * torch.from_numpy(maps)[:, None])
        )
    change = (after - before).numpy()
    assert np.abs(change).min() > 1e-4
    for metric, expected in (
        (cam_mult_image.CamMultImageConfidenceChange(), change),
        (cam_mult_image.DropInConfidence(), np.maximum(-change, 0)),
        (cam_mult_image.IncreaseInConfidence(), change > 0),
    ):
        np.testing.assert_allclose(metric(inputs, maps, targets, parts[0]), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # numpy's about their code
def test_their_road(parts, inputs, cam):
    """Pixels at and above a percentile of the map are imputed from their neighbours, or those below."""
    from pytorch_grad_cam.metrics import road

    maps, targets = cam(inputs, target_list()), target_list(softmax=True)
    torch.manual_seed(0)  # the imputed pixels get a little noise
    combined = road.ROADCombined(percentiles=[50])(inputs, maps, targets, parts[0])
    torch.manual_seed(0)
    scores = []
    for order in (1 - maps, maps):  # least relevant first, then most
        kept = [torch.from_numpy(np.float32(m < np.percentile(m, 50))) for m in order]
        imputed = torch.stack([road.NoisyLinearImputer()(x, k) for x, k in zip(inputs, kept, strict=True)])
        with torch.no_grad():
            scores.append(parts[0](imputed).softmax(1)[range(3), CLASSES])
    expected = (scores[0] - scores[1]) / 2
    assert expected.abs().min() > 1e-4
    np.testing.assert_allclose(combined, expected.numpy(), atol=1e-6)


def test_their_coherency_calls_the_face_as_their_own_method(parts, inputs, cam):
    from pytorch_grad_cam.metrics.arcc import Coherency

    maps = cam(inputs, target_list())
    found = Coherency()(inputs, maps, target_list(), parts[0], cam)
    again = cam(inputs * torch.from_numpy(maps)[:, None], target_list())
    expected = [(np.corrcoef(a.ravel(), b.ravel())[0, 1] + 1) / 2 for a, b in zip(maps, again, strict=True)]
    assert max(expected) < 0.999
    np.testing.assert_allclose(found, expected, atol=1e-4)


# ---------------------------------------------------------------- captum


def test_attribution_is_the_map_on_every_channel(parts, inputs, attribution):
    from captum.attr import Attribution

    assert isinstance(attribution, Attribution) and attribution.forward_func is parts[0]
    expected = drawn(parts, parts[2], CLASSES)[:, None].expand(3, 3, 32, 32)
    attributions = attribution.attribute(inputs, CLASSES)
    assert torch.equal(attributions, expected) and not attributions.requires_grad
    (in_a_tuple,) = attribution.attribute((inputs,), target=torch.tensor(CLASSES))
    assert torch.equal(in_a_tuple, expected)
    assert torch.equal(attribution.attribute(inputs)[:, 0], drawn(parts, parts[2]))
    with pytest.raises(InputError, match="one input, got 2"):
        attribution.attribute((inputs, inputs))


@pytest.mark.parametrize("target", [2, torch.tensor(2), torch.tensor([2]), (2,), [(2,)] * 3, [2, 2, 2]])
def test_captums_ways_to_name_a_target(parts, inputs, attribution, target):
    assert torch.equal(attribution.attribute(inputs, target)[:, 0], drawn(parts, parts[2], 2))


def test_a_target_is_a_place_in_an_output_of_more_dimensions(parts, inputs):
    net, explainer, images = parts

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)[:, :, None] * torch.tensor([1.0, -2.0])

    attribution = adapters.SFTGANAttribution(Dense(), explainer, **EXACT)
    negative = drawn(parts, images, [lambda out, c=c: -2 * out[c] for c in CLASSES])
    assert torch.equal(attribution.attribute(inputs, [(c, 1) for c in CLASSES])[:, 0], negative)
    assert torch.equal(attribution.attribute(inputs, (3, 0))[:, 0], drawn(parts, images, 3))
    assert not torch.equal(negative, drawn(parts, images, CLASSES))


def test_captums_infidelity(parts, inputs, attribution):
    from captum.metrics import infidelity

    attributions = attribution.attribute(inputs, CLASSES)
    measure = {"forward_func": parts[0], "inputs": inputs, "attributions": attributions, "target": CLASSES}
    nothing = infidelity(perturb_func=lambda x: (torch.zeros_like(x), x), **measure)
    assert torch.equal(nothing, torch.zeros(3))
    step = torch.linspace(-0.02, 0.03, 3 * 32 * 32).view(1, 3, 32, 32)
    found = infidelity(perturb_func=lambda x: (step.expand_as(x), x - step), n_perturb_samples=2, **measure)
    with torch.no_grad():
        change = (parts[0](inputs) - parts[0](inputs - step))[range(3), CLASSES]
    expected = ((attributions * step).sum((1, 2, 3)) - change) ** 2
    assert expected.min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_captums_sensitivity(parts, inputs, attribution):
    """With its own noise, uniform in the normalised values, on two copies of each image."""
    from captum.metrics import sensitivity_max

    measure = {"explanation_func": attribution.attribute, "inputs": inputs, "target": CLASSES}
    nothing = sensitivity_max(perturb_func=lambda x: x.clone(), n_perturb_samples=1, **measure)
    assert torch.equal(nothing, torch.zeros(3))
    torch.manual_seed(0)
    found = sensitivity_max(perturb_radius=0.25, n_perturb_samples=2, **measure)
    torch.manual_seed(0)
    noisy = inputs.repeat_interleave(2, 0) + torch.empty(6, 3, 32, 32).uniform_(-0.25, 0.25)
    maps = drawn(parts, parts[2], CLASSES).repeat_interleave(2, 0)
    moved = drawn(parts, as_images(noisy).clamp(0, 1), np.repeat(CLASSES, 2).tolist())
    shares = (moved - maps).flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    expected = shares.unflatten(0, (3, 2)).amax(1)
    assert expected.min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_captums_noise_tunnel(parts, inputs, attribution):
    """The noisy images, two of each, are clipped to [0, 1]."""
    from captum.attr import NoiseTunnel

    tunnel = NoiseTunnel(attribution)
    plain = attribution.attribute(inputs, CLASSES)
    without = tunnel.attribute(inputs, nt_samples=2, stdevs=0.0, target=CLASSES)
    torch.testing.assert_close(without, plain, rtol=0, atol=1e-6)
    torch.manual_seed(0)
    found = tunnel.attribute(inputs, nt_samples=2, stdevs=0.5, target=CLASSES)
    torch.manual_seed(0)
    noisy = inputs.repeat_interleave(2, 0) + torch.normal(0, torch.full((6, 3, 32, 32), 0.5))
    images = as_images(noisy)
    assert images.min() < -0.1 and images.max() > 1.1
    expected = drawn(parts, images.clamp(0, 1), np.repeat(CLASSES, 2).tolist()).unflatten(0, (3, 2)).mean(1)
    torch.testing.assert_close(found, expected[:, None].expand(3, 3, 32, 32), rtol=0, atol=1e-4)
    assert (found - plain).abs().max() > 1e-3


def test_bytes_are_refused_though_noise_is_clipped(parts, attribution):
    with pytest.raises(InputError, match="range from 0 to 255, not from 0 to 1"):
        attribution.attribute(normalised(parts[2] * 256, **EXACT), 0)


def test_captum_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.delitem(vars(adapters), "SFTGANAttribution", raising=False)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match="needs captum: run `pip install captum`"):
        _ = adapters.SFTGANAttribution
    with pytest.raises(AttributeError, match="no attribute 'SFTGANAttributions'"):
        _ = adapters.SFTGANAttributions


def test_no_foreign_library_is_imported_with_the_adapters():
    code = "import sys, sftgan.adapters; print({'captum', 'pytorch_grad_cam', 'quantus'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_captum_class_is_one_class(attribution):
    assert type(attribution) is adapters.SFTGANAttribution
    assert pickle.loads(pickle.dumps(adapters.SFTGANAttribution)) is adapters.SFTGANAttribution


# ---------------------------------------------------------------- Quantus


@pytest.fixture(scope="module")
def quantus_call(parts, inputs):
    """What Quantus' metrics are called with."""
    return {
        "model": parts[0], "x_batch": inputs.numpy(), "y_batch": np.array(CLASSES),
        "explain_func": quantus_explain, "explain_func_kwargs": {"explainer": parts[1], **EXACT},
    }  # fmt: skip


def quiet(metric, **kwargs):
    import quantus

    return getattr(quantus, metric)(disable_warnings=True, return_aggregate=False, **kwargs)


def test_quantus_gets_the_explainers_maps(parts, inputs):
    net, explainer, images = parts
    maps = quantus_explain(net, inputs.numpy(), np.array(CLASSES), explainer=explainer, **EXACT)
    assert maps.dtype == np.float32 and maps.shape == (3, 1, 32, 32) and maps.flags.writeable
    np.testing.assert_array_equal(maps[:, 0], drawn(parts, images, CLASSES).numpy())
    doubles = inputs.numpy().astype(np.float64)  # as Quantus' perturbations make them
    again = quantus_explain(net, doubles, np.array(CLASSES), explainer=explainer, device="cpu", **EXACT)
    np.testing.assert_array_equal(again, maps)
    with pytest.raises(TypeError, match="methods"):
        quantus_explain(net, inputs.numpy(), np.array(CLASSES), methods="Saliency")


def test_quantus_sparseness(parts, quantus_call):
    """The Gini coefficient of each map."""
    found = quiet("Sparseness")(**quantus_call)
    flat = drawn(parts, parts[2], CLASSES).flatten(1).double().numpy()
    differences = np.abs(flat[:, :, None] - flat[:, None]).mean((1, 2))
    np.testing.assert_allclose(found, differences / (2 * flat.mean(1)), atol=1e-5)
    assert len(set(np.round(found, 6))) == 3


def test_quantus_pixel_flipping(parts, inputs, quantus_call):
    """The score while a sixth of the values after the other, by falling relevance, becomes the image's lowest."""
    found = quiet("PixelFlipping", features_in_step=512)(**quantus_call, softmax=False)
    maps = drawn(parts, parts[2], CLASSES)[:, None].expand_as(inputs).flatten(1).numpy()
    order = np.argsort(-(maps / maps.max()), axis=1)
    flipped, scores = inputs.flatten(1).clone().numpy(), []
    lowest = flipped.min(1)
    for step in range(6):
        for i in range(3):
            flipped[i, order[i, 512 * step : 512 * (step + 1)]] = lowest[i]
        with torch.no_grad():
            scores.append(parts[0](torch.tensor(flipped).view_as(inputs))[range(3), CLASSES].numpy())
    np.testing.assert_allclose(found, np.stack(scores, axis=1), atol=1e-5)
    assert np.ptp(found, axis=1).min() > 1e-3


def test_quantus_faithfulness_correlation(parts, inputs, quantus_call):
    """Over random subsets of the values: relevance in the subset against what the score loses without it."""
    np.random.seed(0)  # noqa: NPY002 (theirs is the global generator)
    found = quiet("FaithfulnessCorrelation", nr_runs=6, subset_size=512, perturb_baseline=0.0)(**quantus_call)
    maps = drawn(parts, parts[2], CLASSES)[:, None].expand_as(inputs).flatten(1)
    np.random.seed(0)  # noqa: NPY002
    flat, relevance, lost = inputs.flatten(1), [], []
    with torch.no_grad():
        before = parts[0](inputs)[range(3), CLASSES]
        for _ in range(6):
            subset = torch.tensor(np.stack([np.random.choice(3072, 512, replace=False) for _ in range(3)]))  # noqa: NPY002
            emptied = flat.scatter(1, subset, 0.0)
            relevance.append(maps.gather(1, subset).sum(1))
            lost.append(before - parts[0](emptied.view_as(inputs))[range(3), CLASSES])
    pairs = zip(torch.stack(relevance, 1), torch.stack(lost, 1), strict=True)
    expected = [torch.corrcoef(torch.stack(pair).double())[0, 1].item() for pair in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_quantus_max_sensitivity_explains_again(parts, inputs, quantus_call):
    """It calls the face on noisy images, which are clipped."""
    np.random.seed(0)  # noqa: NPY002
    found = quiet("MaxSensitivity", nr_samples=2, lower_bound=0.2)(**quantus_call)
    np.random.seed(0)  # noqa: NPY002
    maps, shares = drawn(parts, parts[2], CLASSES).flatten(1), []
    for _ in range(2):
        noise = torch.from_numpy(np.random.uniform(-0.2, 0.2, (3, 3072))).view_as(inputs)  # noqa: NPY002
        moved = drawn(parts, as_images((inputs + noise).float()).clamp(0, 1), CLASSES).flatten(1)
        shares.append((moved - maps).norm(dim=1) / maps.norm(dim=1))
    expected = torch.stack(shares).amax(0)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3)


def test_quantus_evaluates_the_face_beside_other_methods(parts, inputs, quantus_call):
    import quantus

    ramp = np.tile(np.arange(1024, dtype=np.float32).reshape(1, 32, 32), (3, 1, 1, 1))
    found = quantus.evaluate(
        {"Gini": quiet("Sparseness")},
        {"SFT-GAN": quantus_explain, "ramp": ramp},
        **{name: quantus_call[name] for name in ("model", "x_batch", "y_batch", "explain_func_kwargs")},
    )
    np.testing.assert_allclose(found["SFT-GAN"]["Gini"], quiet("Sparseness")(**quantus_call), atol=1e-7)
    np.testing.assert_allclose(found["ramp"]["Gini"], [1025 / 3072] * 3, atol=1e-5)


# ---------------------------------------------------------------- pretrained explainers by name


@pytest.fixture
def forgetful():
    adapters._pretrained.cache_clear()
    yield
    adapters._pretrained.cache_clear()


def test_a_name_is_a_pretrained_explainer_read_once(parts, inputs, monkeypatch, forgetful):
    net, explainer, images = parts
    read = []
    monkeypatch.setattr(Explainer, "from_pretrained", lambda name: read.append(name) or explainer)
    expected = drawn(parts, images, CLASSES).numpy()
    for _ in range(2):
        maps = quantus_explain(net, inputs.numpy(), np.array(CLASSES), explainer="gsft-similar", **EXACT)
        np.testing.assert_array_equal(maps[:, 0], expected)
    np.testing.assert_array_equal(
        SFTGANCAM(net, explainer="gsft-similar", **EXACT)(inputs, CLASSES), expected
    )
    assert read == ["gsft-similar"]
    adapters.SFTGANAttribution(net, **EXACT)
    assert read == ["gsft-similar", "lsft-dissimilar"]
