"""A whole explanation beside other methods, and what each of its steps takes."""

import os
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import rivals
import torch
from cases import NETS, OURS
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, ScoreCAM
from stopwatch import FEWEST, interleave
from torch import Tensor, nn
from torch.nn import functional as F

from sftgan import Explainer, Generator
from sftgan.cams.conditions import conditions
from sftgan.cams.gradcam import coarse_cams
from sftgan.companion.study.methods import smoothgrad

SIDE, DRAWN, ETA = 224, 64, 8  # pixels of the images and of the generator, number of conditions
SAMPLES, CHANNELS = 5, 16  # how much of SmoothGrad and of Score-CAM is run
Calls = dict[str, Callable[[], Any]]


@pytest.mark.parametrize("arch", ["resnet50", "vgg16"])
def test_explanation(benchmark: Any, arch: str) -> None:
    net, images = rivals.random_net(arch), rivals.random_images(1, SIDE)
    generator = Generator("lsft", ETA).eval()
    explain = Explainer(generator, size=DRAWN)
    calls = _steps(net, generator, images) | _others(net, images) | {OURS: partial(explain, net, images)}
    channels = net.get_submodule(rivals.layer_names(net)[-1]).out_channels
    benchmark.group = "explanation"
    benchmark.extra_info.update(
        suite="explanation",
        net=NETS[arch],
        side=SIDE,
        parts={"SmoothGrad-50": [SAMPLES, 50], "Score-CAM": [CHANNELS, channels]},
    )
    interleave(benchmark, OURS, calls, FEWEST)


@torch.no_grad()
def _steps(net: nn.Module, generator: Generator, images: Tensor) -> Calls:
    """The steps of an explanation, each by itself; the first two are in both memory layouts what the third contains."""
    floor = rivals.floor(deepcopy(net), rivals.layer_names(net))
    small = F.interpolate(images, (DRAWN, DRAWN), mode="bilinear", antialias=True)
    given = conditions(net, images, ETA, size=DRAWN)
    maps = generator(small, given)[:, None]
    return {
        "floor": partial(floor, images),
        "floor, channels last": partial(floor, images.contiguous(memory_format=torch.channels_last)),
        "CAMs": partial(coarse_cams, net, images, size=DRAWN),
        "conditions": partial(conditions, net, images, ETA, size=DRAWN),
        "generator": torch.no_grad()(partial(generator, small, given)),
        "enlargement": partial(F.interpolate, maps, (SIDE, SIDE), mode="bilinear", antialias=True),
        "forward": torch.no_grad()(partial(net, images)),
    }


def _others(net: nn.Module, images: Tensor) -> Calls:
    """One explanation by each of the other methods, of SmoothGrad and Score-CAM a part, each with a net of its own."""
    last = rivals.layer_names(net)[-1]
    classes = net(images).argmax(1)

    def cam(method: type, **options: Any) -> Callable[[], Any]:
        own = deepcopy(net)
        return partial(method(own, [own.get_submodule(last)], **options), images, None)

    score_cam = cam(ScoreCAM, reshape_transform=lambda activation: activation[:, :CHANNELS])
    return {
        "Grad-CAM": cam(GradCAM),
        "Grad-CAM++": cam(GradCAMPlusPlus),
        "SmoothGrad-50": partial(smoothgrad, deepcopy(net), images, classes, SAMPLES),
        "Score-CAM": partial(_silently, score_cam),
    }


def _silently(call: Callable[[], Any]) -> Any:
    """Score-CAM draws a progress bar."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        return call()
