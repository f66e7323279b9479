"""The paper's CNNs, thinned to a width and fitted to small images (paper, section 4.1)."""

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sftgan.checkpoint import load_checkpoint, save_checkpoint
from sftgan.data import ImageData, Split
from sftgan.errors import InputError, check_name

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ARCHITECTURES = ("vgg16", "resnet50", "mobilenet_v2")
_PROBE_SIDE = 299  # at this size every level of the nets has a side of its own


class Normalised(nn.Module):
    """A net with its normalisation: images (B, 3, H, W) in [0, 1] to logits (B, C)."""

    def __init__(self, net: nn.Module, mean=IMAGENET_MEAN, std=IMAGENET_STD):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - self.mean) / self.std)


def build(arch: str, n_classes: int, width: float = 1.0, size: int = 224, last_map: int = 7) -> Normalised:
    """One of `ARCHITECTURES` with random weights, thinned by `width`, its last map at least `last_map` pixels wide.

    All channel counts are multiplied by `width`, alike, and all convolutions kept, so that the number of
    layers is the paper's. Strides are dropped, last ones first, a whole resolution level at a time, until the
    map that the last convolution makes of a `size` x `size` image has a side >= `last_map`. The head is global
    average pooling and one linear layer. VGG16 has batch norm (without it a thin one does not train).
    """
    check_name(arch, ARCHITECTURES, "architecture")
    if not 0 < width <= 1:
        raise InputError(f"width must lie in (0, 1], got {width}.")
    if last_map > size:
        raise InputError(
            f"a last map of {last_map} pixels needs images of at least {last_map} pixels, got {size}."
        )
    with torch.device("meta"):
        net = _definition(arch, n_classes)
    levels = _thin(net, width, n_classes)
    _cut_strides(levels, keep=(size // last_map).bit_length() - 1)
    net.to_empty(device="cpu")
    _initialise(net)
    return Normalised(net)


def build_pretrained(arch: str, n_classes: int) -> Normalised:
    """One of `ARCHITECTURES` at full width with torchvision's ImageNet weights and a new last layer."""
    check_name(arch, ARCHITECTURES, "architecture")
    try:
        net = torchvision.models.get_model(arch, weights="DEFAULT")
    except (URLError, OSError) as error:
        raise InputError(
            f"the ImageNet weights of {arch} could not be downloaded ({error}): go online once, put them into "
            f"{torch.hub.get_dir()}/checkpoints, or choose pretrained=False."
        ) from error
    *_, (name, last) = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    net.set_submodule(name, nn.Linear(last.in_features, n_classes))
    return Normalised(net)


def _definition(arch: str, n_classes: int) -> nn.Module:
    if arch == "vgg16":
        net = torchvision.models.vgg16_bn(num_classes=n_classes, init_weights=False)
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier = nn.Linear(512, n_classes)
    else:
        net = torchvision.models.get_model(arch, weights=None, num_classes=n_classes)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


def _thin(net: nn.Module, width: float, n_classes: int) -> dict[int, list[nn.Module]]:
    """Thin `net` (on the meta device) in place; returns its strided modules by the side of their input.

    Output counts are multiplied by `width`, input counts read off the tensor that arrives in one dry forward,
    so that no knowledge of the topology is needed.
    """
    levels: dict[int, list[nn.Module]] = {}

    def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        arriving = inputs[0].shape
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            module.out_channels = arriving[1] if depthwise else max(1, round(module.out_channels * width))
            module.in_channels = arriving[1]
            module.groups = arriving[1] if depthwise else module.groups
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            module.weight = nn.Parameter(module.weight.new_empty(shape))
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.new_empty(module.out_channels))
        elif isinstance(module, nn.BatchNorm2d):
            module.__init__(arriving[1], device="meta")
        elif isinstance(module, nn.Linear):
            module.__init__(arriving[-1], n_classes, device="meta")
        if _stride(module) > 1:
            levels.setdefault(arriving[-1], []).append(module)

    leaves = [m for m in net.modules() if not list(m.children())]
    handles = [m.register_forward_pre_hook(narrow) for m in leaves]
    net.eval()(torch.empty(1, 3, _PROBE_SIDE, _PROBE_SIDE, device="meta"))
    for handle in handles:
        handle.remove()
    return levels


def _stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", 1)
    return stride[0] if isinstance(stride, tuple) else stride


def _cut_strides(levels: dict[int, list[nn.Module]], keep: int) -> None:
    """Keep the first `keep` levels' strides and drop the others.

    A pool behind the last convolution does not shrink that convolution's map: dropping it is harmless.
    """
    for modules in list(levels.values())[keep:]:
        for module in modules:
            if isinstance(module, nn.MaxPool2d) and module.padding == 0:
                module.kernel_size = 1
            module.stride = (1, 1) if isinstance(module.stride, tuple) else 1


def _initialise(net: nn.Module) -> None:
    """He initialisation; each residual branch of a ResNet starts at zero, so that its blocks start as identities."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
    for module in net.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            nn.init.zeros_(module.bn3.weight)


@dataclass(frozen=True)
class Recipe:
    """How a CNN is fitted: optimiser ("adamw", "adam" or "sgd" with Nesterov momentum 0.9), learning rate (the
    peak of a one-cycle schedule, or constant), batch size, number of epochs."""

    optimiser: str = "adamw"
    lr: float = 1e-2
    one_cycle: bool = True
    batch: int = 32
    epochs: int = 8


@dataclass(frozen=True)
class Fitted:
    """A fitted CNN in evaluation mode, its learning curve (one row per epoch), its test accuracy in [0, 1] and
    its confusion matrix (C, C) on the test images, whose rows are the true classes."""

    model: Normalised
    curve: pd.DataFrame
    test_accuracy: float
    confusion: Tensor


def fit(
    model: Normalised,
    data: ImageData,
    recipe: Recipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: str = "cpu",
) -> Fitted:
    """Fit `model` on `data.train`; keep the earliest epoch that is best on a tenth of it that was held back.

    The test images choose nothing. With `checkpoint` the state is written there after every epoch, and a run
    that was killed goes on from it to the same weights, bit for bit.
    """
    model = model.to(device, memory_format=torch.channels_last)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    n_held = max(1, len(order) // 10)
    if len(order) - n_held < 2:
        raise InputError(f"a CNN needs at least 3 training images, {data.label} has {len(order)}.")
    held, train = data.train.subset(order[:n_held]), data.train.subset(order[n_held:])
    optimiser, schedule = _optimiser(
        model, recipe, steps=math.ceil(len(train) / recipe.batch) * recipe.epochs
    )
    rows: list[dict] = []
    best = {"accuracy": -1.0, "weights": {}}
    saved = load_checkpoint(checkpoint)
    if saved:
        rows, best = saved["rows"], saved["best"]
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
    epochs = tqdm(range(len(rows), recipe.epochs), desc="fitting the CNN", unit="epoch", disable=None)
    for epoch in epochs:
        loss = _fit_epoch(model, train, recipe.batch, optimiser, schedule, seed * 1000 + epoch)
        if not math.isfinite(loss):
            raise InputError(
                f"the CNN's loss became {loss} in epoch {epoch + 1}: lower its learning rate (now {recipe.lr:g})."
            )
        _recompute_batch_norm(model, train, recipe.batch)
        accuracy = _accuracy(_confusion(model, held, len(data.classes)))
        rows.append({"epoch": epoch + 1, "loss": loss, "held_back_accuracy": accuracy})
        epochs.set_postfix(loss=loss, accuracy=accuracy)
        if accuracy > best["accuracy"]:
            best = {"accuracy": accuracy, "weights": {k: v.clone() for k, v in model.state_dict().items()}}
        save_checkpoint(checkpoint, {
            "rows": rows, "best": best, "model": model.state_dict(),
            "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
        })  # fmt: skip
    model.load_state_dict(best["weights"])
    model.eval()
    confusion = _confusion(model, data.test, len(data.classes))
    return Fitted(model, pd.DataFrame(rows), _accuracy(confusion), confusion)


@torch.no_grad()
def predict(model: nn.Module, split: Split, batch: int = 256) -> Tensor:
    """Logits (n, C) on the CPU for all images of a split. Puts the model into evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    return torch.cat([
        model(split.batch(index).to(device, memory_format=torch.channels_last)).float().cpu()
        for index in torch.arange(len(split)).split(batch)
    ])  # fmt: skip


def _optimiser(model: nn.Module, recipe: Recipe, steps: int):
    check_name(recipe.optimiser, ["adamw", "adam", "sgd"], "optimiser")
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, nesterov=True)
    else:
        kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
        optimiser = kind(model.parameters(), recipe.lr)
    if recipe.one_cycle:
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps)
    return optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _fit_epoch(model: nn.Module, train: Split, batch: int, optimiser, schedule, seed: int) -> float:
    """One pass over the training images; returns the mean loss."""
    device = next(model.parameters()).device
    model.train()
    losses = []
    for index in torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).split(batch):
        if len(index) > 1:  # batch norm needs two
            images = train.batch(index).to(device, memory_format=torch.channels_last)
            loss = F.cross_entropy(model(images), train.labels[index].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        schedule.step()
    return torch.stack(losses).mean().item()


@torch.no_grad()
def _recompute_batch_norm(model: nn.Module, train: Split, batch: int, n_images: int = 512) -> None:
    """Exact batch-norm statistics of the present weights: after a short training the running averages lag."""
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average over the batches
    model.train()
    for index in torch.arange(min(n_images, len(train))).split(batch):
        if len(index) > 1:
            model(train.batch(index).to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _confusion(model: nn.Module, split: Split, n_classes: int) -> Tensor:
    pairs = split.labels * n_classes + predict(model, split).argmax(1)
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)


def _accuracy(confusion: Tensor) -> float:
    return (confusion.trace() / confusion.sum()).item()
