"""CNNs of torchvision and timm, odd ones made by hand, and two independent Grad-CAMs to compare `layer_cams` with.

`hand_cams` is a bare forward and `torch.autograd.grad`, all layers at once; `peer_cams` is pytorch-grad-cam, one layer
at a time. Both find the layers by module hooks, where the package watches functions too.
"""

import warnings
from collections import Counter
from contextlib import contextmanager

import timm
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sftgan import build, layer_cams

TORCHVISION = (
    "resnet18", "densenet121", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf", "mobilenet_v3_large",
    "inception_v3", "squeezenet1_1", "vgg11", "googlenet", "shufflenet_v2_x0_5", "mnasnet0_5",
)  # fmt: skip
TIMM = (
    "resnet18d", "densenetblur121d", "efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "regnety_002",
    "ghostnet_050", "tf_mobilenetv3_small_minimal_100", "skresnet18", "test_nfnet",
)  # fmt: skip
NAMES = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in TIMM),
    "timm:legacy_xception, thinned",
)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Tanh, timm.layers.GELU)


def net(name, dtype=torch.float64):
    """The CNN of that name with random weights that give most of its maps contrast, in evaluation mode."""
    torch.manual_seed(0)
    library, _, arch = name.partition(":")
    if arch.endswith("thinned"):
        model = build("xception", 10, width=1 / 16, size=64, last_map=4)
    elif arch == "vgg11":
        model = vgg11()
    elif library == "torchvision":
        fast = {"aux_logits": False, "init_weights": False} if arch in ("inception_v3", "googlenet") else {}
        model = torchvision.models.get_model(arch, weights=None, num_classes=10, **fast)
    else:
        model = timm.create_model(arch, pretrained=False, num_classes=10)
    return randomised(model).to(dtype)


def vgg11():
    """Torchvision's, but for its dense layers of 120 million weights."""
    with torch.device("meta"):
        model = torchvision.models.vgg11(num_classes=10)
    model.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"], batch_norm=False)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(2), nn.Linear(2048, 10)
    return model


def randomised(model, seed=0):
    """Batch norms as after training, and nothing that starts at zero, as residual branches and layer scales do."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    for name, parameter in model.named_parameters():
        if name.endswith(("gamma", "layer_scale", "skipinit_gain")):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.eval()


def side(name):
    """The side of the images: InceptionV3 has no padding and makes one pixel of smaller ones."""
    return 107 if name.endswith("inception_v3") else 64


def pictures(n=2, height=64, width=None, channels=3, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width or height, generator=generator, dtype=dtype)


@contextmanager
def hooked(modules, hook):
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def out_of_place(model):
    """No activation overwrites its input meanwhile: what hooks have kept stays as it was."""
    before = [module for module in model.modules() if getattr(module, "inplace", False)]
    for module in before:
        module.inplace = False
    try:
        yield
    finally:
        for module in before:
            module.inplace = True


def layers(model, images):
    """Of each layer its name, the module whose output is its tap "post", and which call of that module it is.

    An activation called with a convolution's very output takes that convolution's place; so does a 1 x 1
    convolution called with a depthwise one's.
    """
    names = {module: name for name, module in model.named_modules()}
    calls, found = Counter(), {}  # found: id of the tensor -> (name, module, call, is depthwise, the tensor)

    def note(module, inputs, output):
        calls[module] += 1
        before = found.get(id(inputs[0])) if inputs else None
        if isinstance(module, nn.Conv2d) and output.shape[-2:].numel() > 1:
            if before and before[3] and module.kernel_size == (1, 1):
                del found[id(inputs[0])]
            call = "" if calls[module] == 1 else f" (call {calls[module]})"
            depthwise = module.groups == module.in_channels > 1
            found[id(output)] = names[module] + call, module, calls[module], depthwise, output
        elif isinstance(module, ACTIVATIONS) and before and isinstance(before[1], nn.Conv2d):
            # in its place, so that the order stays that of the convolutions
            found[id(inputs[0])] = before[0], module, calls[module], False, (inputs[0], output)

    with hooked(model.modules(), note), out_of_place(model), torch.no_grad():
        model(images.clone())
    return [layer[:3] for layer in found.values()]


def hand_cams(model, images, score, size=None):
    """Names (N,) and Grad-CAMs (B, N, H, W) by a bare forward and backward; `score` maps the model's output to (B,).

    The model may be frozen. What follows a layer gets a copy of its output, so that nothing can overwrite it.
    """
    taps = layers(model, images)
    calls, outputs = Counter(), {}

    def keep(module, _inputs, output):
        calls[module] += 1
        outputs[module, calls[module]] = output
        return output.clone()

    with hooked({module for _, module, _ in taps}, keep), out_of_place(model), torch.enable_grad():
        score = score(model(1 * images.clone().requires_grad_())).sum()
    outputs = [outputs[module, call] for _, module, call in taps]
    reached = [output for output in outputs if output.requires_grad]
    gradients = dict(zip(reached, torch.autograd.grad(score, reached, allow_unused=True), strict=True))
    cams = [scaled(output, gradients.get(output), size or images.shape[-2:]) for output in outputs]
    return tuple(name for name, *_ in taps), torch.stack(cams, 1)


def scaled(activation, gradient, size):
    """One layer's Grad-CAM (B, H, W), min-max scaled after it was enlarged; zeros where it is flat but for rounding."""
    activation, gradient = (
        x if x is None or x.dtype == torch.float64 else x.float() for x in (activation, gradient)
    )
    if gradient is None:
        return activation.new_zeros(len(activation), *size).detach()
    weights = gradient.sum((2, 3)) / gradient[0, 0].numel()
    cam = torch.einsum("bk,bkhw->bhw", weights, activation.detach()).relu()
    shrinks = size[0] < cam.shape[1] or size[1] < cam.shape[2]
    cam = F.interpolate(cam[:, None], size, mode="bilinear", align_corners=False, antialias=shrinks)[:, 0]
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    flat = high - low <= 16 * torch.finfo(cam.dtype).eps * high
    return torch.where(flat, 0.0, (cam - low) / (high - low))


def peer_cams(model, images, classes, module):
    """pytorch-grad-cam of one layer (B, H, W) float32; the target's gradient dwarfs its `+ 1e-7`."""
    targets = [lambda output, c=c: 1e7 * output[c] for c in classes]
    model.requires_grad_(False)  # what lies before the layer needs no backward
    (module if list(module.parameters()) else model).requires_grad_(True)
    with GradCAM(model, [module]) as cam, out_of_place(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = torch.from_numpy(cam(images, targets))
    model.zero_grad()
    model.requires_grad_(True)
    return maps


def difference(model, images, classes, cams, most):
    """The largest one between `cams` and pytorch-grad-cam's, in `most` of the layers."""
    taps = layers(model, images)
    assert cams.names == tuple(tap[0] for tap in taps)
    some = torch.linspace(0, len(taps) - 1, most).round().int().tolist()
    theirs = torch.stack([peer_cams(model, images, classes, taps[i][1]) for i in some], 1)
    return (cams.maps[:, some] - theirs).abs().max().item()


def agreement(name):
    """Number of layers of the CNN `name`, and the largest difference between `layer_cams` and pytorch-grad-cam.

    Over two images and all layers; maps without contrast must be zeros on both sides.
    """
    model, images, classes = net(name), pictures(height=side(name)), [3, 7]
    cams = layer_cams(model, images, targets=classes)
    return len(cams.names), difference(model, images, classes, cams, most=len(cams.names))


class Net(nn.Module):
    """A CNN of `parts` whose output has `features` channels, and global average pooling and a linear layer behind."""

    def __init__(self, *parts, classes=4, features=6):
        super().__init__()
        self.parts = nn.Sequential(*(parts or default_parts()))
        self.head = nn.Linear(features, classes)

    def features(self, x):
        return self.parts(x)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def default_parts(channels=3):
    """Three convolutions, the last two with batch norm, and 6 channels behind them."""
    return [
        nn.Conv2d(channels, 5, 3, padding=1), nn.ReLU(),
        nn.Conv2d(5, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Dropout(0.5), nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
    ]  # fmt: skip


class ScaleFirst(Net):
    """Parameters before the first convolution."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(3, 1, 1)), nn.Parameter(torch.rand(3, 1, 1))

    def features(self, x):
        return self.parts(self.scale * x + self.shift)


class TwoStems(Net):
    """Two convolutions read the image, one of them the second channel only."""

    def __init__(self):
        super().__init__(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU())
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 5, padding=2)

    def features(self, x):
        return self.parts(torch.cat([self.left(x).sin(), self.right(x[:, 1:2]).sigmoid()], 1))


class SideBranch(Net):
    """A convolution beside the others whose output is "unused", or joins them "detached", or made under "no_grad"."""

    def __init__(self, how):
        super().__init__()
        self.how, self.side = how, nn.Conv2d(3, 6, 1, stride=2)

    def features(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
            side = self.side(x)
        if self.how == "unused":
            return self.parts(x)
        return self.parts(x) + (side.detach() if self.how == "detached" else side)


class FixedBackbone(Net):
    """The first parts run under `no_grad`, as in a net of which only the last ones are fitted."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def features(self, x):
        with torch.no_grad():
            x = self.parts[: self.n](x)
        return self.parts[self.n :](x)


class Repeats(Net):
    """One block, convolution and ReLU, is called three times."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 1))
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())

    def features(self, x):
        x = self.parts(x)
        for _ in range(3):
            x = self.block(x)
        return x


class SharedWeights(Net):
    """Two convolutions with one weight."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1)
        )
        self.parts[3].weight = self.parts[1].weight


class NormalisesInPlace(Net):
    """Overwrites the images that it is given."""

    def features(self, x):
        return self.parts(x.sub_(0.5).div_(0.25))


class AddsInPlace(Net):
    """A residual block that adds its input to a convolution's very output."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1))

    def features(self, x):
        x = self.parts[0](x)
        out = self.parts[1](x.sin())
        out += x
        return out.sigmoid()


class Excited(Net):
    """Squeeze and excitation: 1 x 1 convolutions on one pixel, which carry no map."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 1))

    def features(self, x):
        x = self.parts(x)
        return x * self.gate(x).sigmoid()


class Viewed(Net):
    """Views the maps as vectors, which their layout in memory has to allow."""

    def features(self, x):
        x = self.parts(x)
        return x.view(len(x), -1).view(x.shape)


class Checkpointed(Net):
    """Forgets what its first part computed, and computes it again in the backward pass."""

    def features(self, x):
        return self.parts[5:](checkpoint(self.parts[:5], x, use_reentrant=False))


def normed(norm):
    """`norm` reparametrises the weights of all convolutions."""
    model = Net()
    for module in model.parts:
        if isinstance(module, nn.Conv2d):
            norm(module)
    return model


ODD = {
    "batch norm first": lambda: Net(nn.BatchNorm2d(3), *default_parts()),
    "scale and shift first": ScaleFirst,
    "two stems": TwoStems,
    "unused branch": lambda: SideBranch("unused"),
    "detached branch": lambda: SideBranch("detached"),
    "branch under no_grad": lambda: SideBranch("no_grad"),
    "backbone under no_grad": lambda: FixedBackbone(5),
    "backbone under no_grad, batch norm behind": lambda: FixedBackbone(3),
    "block called three times": Repeats,
    "one weight in two convolutions": SharedWeights,
    "adds in place": AddsInPlace,
    "normalises in place": NormalisesInPlace,
    "squeeze and excitation": Excited,
    "viewed": Viewed,
    "checkpointed": Checkpointed,
    "strides, groups, dilation": lambda: Net(
        nn.Conv2d(3, 6, 3, stride=(1, 2), groups=3), nn.GELU(), nn.Conv2d(6, 12, 3, padding=2, dilation=2, groups=2),
        nn.SiLU(), nn.Conv2d(12, 6, (1, 5), padding="same", padding_mode="reflect"),
    ),
    "depthwise straight into 1 x 1": lambda: Net(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.Conv2d(8, 6, 1), nn.Hardswish()
    ),
    "flattened": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), nn.ReLU(), nn.Conv2d(5, 2, 3), nn.Flatten()), nn.Linear(48, 4)
    ),
    "spectral norm": lambda: normed(nn.utils.parametrizations.spectral_norm),
    "weight norm": lambda: normed(nn.utils.parametrizations.weight_norm),
}  # fmt: skip


def odd(name, dtype=torch.float64):
    """The net of that name in `ODD`, in evaluation mode."""
    torch.manual_seed(0)
    return randomised(ODD[name]()).to(dtype)


def plain(dtype=torch.float64, **options):
    """A `Net` in evaluation mode."""
    torch.manual_seed(0)
    return randomised(Net(**options)).to(dtype)
