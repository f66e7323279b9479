"""Stages of ``sftgan.beyond``, each computed once and cached: teachers' maps, students, scores and CPU times."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from sftgan import students
from sftgan.architectures import last_block, target_layer
from sftgan.cache import Config, Runtime, Stage
from sftgan.explained import examples
from sftgan.gradcam import block_cam, mean_activation
from sftgan.metrics import resized
from sftgan.networks import Generator
from sftgan.reading import Reading
from sftgan.stages import CLASSIFIER, EXPLAINED, IMAGE_DATA
from sftgan.students import FEW, MANY
from sftgan.teachers import TEACHERS, teach
from sftgan.training import Examples, GANRecipe, generate, train_gan


def _taught(config: Config, runtime: Runtime, checkpoint: Path) -> Tensor:
    explained = config["explained"]
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[: config["n"]]
    layer = target_layer(model, explained["cnn"]["arch"])
    maps = teach(model, layer, images, config["name"], config["samples"], config["seed"])
    return resized(maps, (explained["size"], explained["size"]))


def _source(config: Config, runtime: Runtime) -> students.Source:
    """Return the explained images of one CNN, with the input gradients and the maps that the students learn."""
    taught = (TAUGHT(config[name], runtime) for name in ("gradient", "few"))
    return EXPLAINED(config["explained"], runtime), *taught


def _student(config: Config, runtime: Runtime, checkpoint: Path) -> Generator:
    sources = (_source(one, runtime) for one in config["train"])
    train = Examples.concatenate(
        [students.examples(source, config["inputs"], config["side"]) for source in sources]
    )
    recipe = GANRecipe(**config["recipe"])
    watched = train.subset(torch.arange(1))
    return train_gan(train, watched, recipe, config["seed"], checkpoint, runtime.accelerator).generator


def _drawn(config: Config, runtime: Runtime, checkpoint: Path) -> dict[str, Tensor]:
    test, *train = (_source(one, runtime) for one in (config["test"], *config["train"]))
    maps, side = {}, config["side"]
    for method, student in config["students"].items():
        shown = students.examples(test, student["inputs"], side)
        net = STUDENT(student, runtime).to(runtime.device)
        maps[method] = resized(generate(net, shown), tuple(test[2].shape[-2:]))
    maps |= students.controls(test, train, side)
    return maps | {FEW: test[2], MANY: TAUGHT(config["test"]["many"], runtime)}


def _scored(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained = config["test"]["explained"]
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    maps, frames = DRAWN(config, runtime), []
    n = len(maps[MANY])
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[:n]
    classes = EXPLAINED(explained, runtime).predictions[:n]
    for method, drawn in maps.items():
        columns = students.measures(drawn, maps[MANY], maps["mean map"])
        columns |= students.areas(model, images, classes, drawn, config["steps"])
        frames.append(pd.DataFrame({"method": method, "image": range(n)} | columns))
    return pd.concat(frames, ignore_index=True)


def _timed(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained, n = config["explained"], config["timed"]
    arch, size, reading = explained["cnn"]["arch"], explained["size"], Reading(**explained["reading"])
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch()[:n]
    layer, block = target_layer(model, arch), last_block(model, arch)
    side, eta = next((s["side"], s["recipe"]["eta"]) for s in config["nets"].values())
    blank = Examples(
        torch.zeros(n, 3, side, side), torch.zeros(n, eta, side, side), torch.zeros(n, side, side)
    )
    nets = {kind: STUDENT(student, runtime).to(runtime.device) for kind, student in config["nets"].items()}
    on_device = images.to(runtime.device)
    work: dict[str, Callable[[], object]] = {
        "Grad-CAM": lambda: block_cam(model, layer, on_device, size=size),
        "mean activation": lambda: mean_activation(model, layer, on_device, size),
        "input gradient": lambda: teach(model, layer, images, "input gradient"),
        "CGMAs": lambda: examples(model, images, size, reading, block),
    }
    work |= {kind: partial(generate, net, blank) for kind, net in nets.items()}
    work |= {
        name: partial(teach, model, layer, images, name, config["few"].get(name), config["seed"])
        for name in TEACHERS
    }
    return students.cpu_seconds(work, n)


TAUGHT = Stage(_taught, "teachers", "metrics", "architectures", after=[CLASSIFIER, IMAGE_DATA])
"""A teacher's maps (n, H, W) of one CNN's images."""
STUDENT = Stage(_student, "students", "training", after=[EXPLAINED, TAUGHT])
"""A student, trained on the maps of several CNNs."""
DRAWN = Stage(_drawn, "students", "training", after=[STUDENT])
"""Maps (n, H, W) of the students, the controls and the teacher, by method."""
SCORED = Stage(_scored, "students", after=[DRAWN, CLASSIFIER])
"""Measures of all methods against the teacher with many samples, with one row for each method and image."""
TIMED = Stage(_timed, "students", "teachers", "explained", after=[STUDENT, CLASSIFIER])
"""CPU seconds per image of the teachers, the students and their inputs."""
