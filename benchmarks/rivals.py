"""Who is compared: the bare backward, our `layer_cams`, TorchCAM and pytorch-grad-cam, on the same nets."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from cases import FLOOR, GRADCAM, OURS, SIDES, TORCHCAM
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.methods import GradCAM as TorchCAM

from sftgan import layer_cams


@dataclass
class Rival:
    """A method with a net of its own: hooks that a library leaves on its net disturb nobody else."""

    net: nn.Module
    method: Callable[[Tensor], Any]

    def __call__(self, images: Tensor) -> Any:
        return self.method(images)


def one_thread() -> None:
    """Everything in this process computes in one thread, OpenCV, which pytorch-grad-cam resizes by, too."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def random_net(arch: str) -> nn.Module:
    """A torchvision net with random weights and batch-norm statistics, in evaluation mode.

    Its last layer is scaled up: some libraries add a constant where they divide, in which small maps would vanish.
    """
    torch.manual_seed(0)
    net = torchvision.models.get_model(arch, weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    *_, last = [m for m in net.modules() if isinstance(m, nn.Linear)]
    last.weight.data.mul_(1e9)
    return net.eval()


def random_images(batch: int, side: int) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def floor(net: nn.Module, names: tuple[str, ...]) -> Rival:
    """The least that any of them does: a forward, and the logit's gradients at all convolutions' outputs."""
    outputs: list[Tensor] = []
    for name in names:
        net.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))

    def call(images: Tensor) -> tuple[Tensor, ...]:
        outputs.clear()
        gradients = torch.autograd.grad(net(images).amax(1).sum(), outputs)
        outputs.clear()
        return gradients

    return Rival(net, call)


def input_gradient(net: nn.Module) -> Rival:
    """What memory is compared with: the logit's gradient with respect to the images, by plain autograd."""

    def call(images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        return torch.autograd.grad(net(images).amax(1).sum(), images)[0]

    return Rival(net, call)


def ours(net: nn.Module, names: tuple[str, ...]) -> Rival:
    return Rival(net, lambda images: layer_cams(net, images).maps)


def torchcam(net: nn.Module, names: tuple[str, ...]) -> Rival:
    """TorchCAM leaves its maps at the layers' sizes: they are enlarged as ours are."""
    extractor = TorchCAM(net, target_layer=list(names))

    def call(images: Tensor) -> Tensor:
        scores = net(images)
        cams = extractor(class_idx=scores.argmax(1).tolist(), scores=scores)
        return torch.cat([_enlarged(cam[:, None], images) for cam in cams], dim=1)

    return Rival(net, call)


def _enlarged(cams: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(cams, images.shape[-2:], mode="bilinear", antialias=True)


class _EveryLayer(GradCAM):
    """pytorch-grad-cam's maps of all target layers (B, N, H, W), and not their mean."""

    def aggregate_multi_layers(self, cam_per_target_layer: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(cam_per_target_layer, axis=1)


def pytorch_grad_cam(net: nn.Module, names: tuple[str, ...]) -> Rival:
    explain = _EveryLayer(net, [net.get_submodule(name) for name in names])
    return Rival(net, lambda images: torch.from_numpy(explain(images, None)))


MAKERS = {TORCHCAM: torchcam, GRADCAM: pytorch_grad_cam, FLOOR: floor, OURS: ours}
"""By name what makes a rival of a net and its layers' names, in the order in which they are called."""


def all_layer_rivals(arch: str) -> dict[str, Rival]:
    """Every way to the Grad-CAMs (B, N, H, W) of all layers of a net, and the floor."""
    net = random_net(arch)
    names = layer_names(net)
    return {name: make(deepcopy(net), names) for name, make in MAKERS.items()}


def layer_names(net: nn.Module) -> tuple[str, ...]:
    """The convolutions that everybody explains: all but those of squeeze-and-excitation, whose output is 1 x 1."""
    return layer_cams(net, random_images(1, SIDES[0])).names
