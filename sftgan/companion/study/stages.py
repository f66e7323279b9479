"""The stages from images to maps, each computed once and cached."""

from pathlib import Path

import torch
from torch import Tensor

from sftgan import controls
from sftgan.cams.conditions import ConditionSpec
from sftgan.cams.gradcam import mean_activation
from sftgan.cams.model_state import check_last_map
from sftgan.cnns.architectures import build, build_pretrained, last_block, target_layer
from sftgan.companion.data import datasets
from sftgan.companion.data.captions import CaptionData, load_captions
from sftgan.companion.data.datasets import ImageData
from sftgan.companion.fitting.captioner import FittedCaptioner, build_captioner, fit_captioner
from sftgan.companion.fitting.classifiers import ClassifierRecipe, Fitted, fit
from sftgan.companion.study import methods
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.gan.examples import Examples, ExplainedImages, explain_images
from sftgan.gan.networks import Generator
from sftgan.gan.training import GANRecipe, TrainedGAN, generate, train_gan
from sftgan.metrics import resized


def _image_data(config: Config, runtime: Runtime, checkpoint: Path) -> ImageData:
    return datasets.load(**config["load"])


def _classifier(config: Config, runtime: Runtime, checkpoint: Path) -> Fitted:
    images = IMAGE_DATA(config["data"], runtime)
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        if config["pretrained"]:
            model = build_pretrained(config["arch"], len(images.classes))
            check_last_map(model, config["shape"]["size"])
        else:
            model = build(config["arch"], len(images.classes), **config["shape"])
    fitted = fit(
        model, images, ClassifierRecipe(**config["recipe"]), config["seed"], checkpoint, runtime.device
    )
    fitted.model.cpu()
    return fitted


def _explained(config: Config, runtime: Runtime, checkpoint: Path) -> ExplainedImages:
    arch, size = config["cnn"]["arch"], config["size"]
    model = CLASSIFIER(config["cnn"], runtime).model.to(runtime.device)
    split = IMAGE_DATA(config["data"], runtime).chosen(**config["images"])
    images, spec = split.batch(), ConditionSpec(**config["reading"])
    shown, dead, logits = explain_images(model, images, size, spec, last_block(model, arch))
    layer = target_layer(model, arch)
    activation = torch.cat(
        [mean_activation(model, layer, part.to(runtime.device), size).cpu() for part in images.split(64)]
    )
    masks, shortcuts = (
        None if part is None else datasets.resized_masks(part, size)
        for part in (split.masks, split.shortcuts)
    )
    return ExplainedImages(
        shown, split.labels, logits.argmax(1), masks, shortcuts, dead.float().mean(0), activation
    )


def _gan(config: Config, runtime: Runtime, checkpoint: Path) -> TrainedGAN:
    train, watched = (
        Examples.concatenate([EXPLAINED(c, runtime).examples for c in config[part]])
        for part in ("train", "watched")
    )
    recipe = GANRecipe(**config["recipe"])
    return train_gan(train, watched, recipe, config["seed"], checkpoint, runtime.accelerator)


def _maps(config: Config, runtime: Runtime, checkpoint: Path) -> dict[str, Tensor]:
    test, train = (EXPLAINED(config[part], runtime) for part in ("test", "train"))
    gans = generators(config["gans"], runtime)
    drawn = {name: generate(generator, test.examples) for name, generator in gans.items()}
    pairs = next(iter(config["gans"].values()))["train"]
    pooled = LINEAR({"title": f"linear fit of {len(pairs)} pairs", "train": pairs}, runtime)
    return drawn | {"Grad-CAM": test.examples.targets} | controls.controls(test, train, pooled)


def _linear(config: Config, runtime: Runtime, checkpoint: Path) -> Tensor:
    return controls.linear_fit(EXPLAINED(pair, runtime).examples for pair in config["train"])


def generators(gans: Config, runtime: Runtime) -> dict[str, Generator]:
    """Load or train generators, and move them to the device of the runtime.

    Parameters
    ----------
    gans
        Config of each kind, from ``Study.gan_configs``.
    runtime
        How to compute.

    Returns
    -------
    dict[str, Generator]
        Trained generators by the name of their method: "LSFT", "GSFT".
    """
    return {kind.upper(): GAN(gan, runtime).generator.to(runtime.device) for kind, gan in gans.items()}


def _compared(config: Config, runtime: Runtime, checkpoint: Path) -> dict[str, Tensor]:
    explained = config["test"]
    model = CLASSIFIER(explained["cnn"], runtime).model.to(runtime.device)
    images = IMAGE_DATA(explained["data"], runtime).chosen(**explained["images"]).batch(config["index"])
    layer = target_layer(model, explained["cnn"]["arch"])
    size = (explained["size"], explained["size"])
    return {
        name: resized(maps, size)
        for name, maps in methods.method_maps(model, layer, images, config["methods"], config["seed"])
    }


def _caption_data(config: Config, runtime: Runtime, checkpoint: Path) -> CaptionData:
    return load_captions(**config["load"])


def _captioner(config: Config, runtime: Runtime, checkpoint: Path) -> FittedCaptioner:
    captioned, cnn = CAPTION_DATA(config["data"], runtime), config["cnn"]
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        model = build_captioner(CLASSIFIER(cnn, runtime).model, cnn["arch"], captioned, cnn["shape"]["size"])
    return fit_captioner(
        model, captioned, **config["fit"], seed=config["seed"], checkpoint=checkpoint, device=runtime.device
    )


IMAGE_DATA = Stage(_image_data)
CLASSIFIER = Stage(_classifier)
EXPLAINED = Stage(_explained)
GAN = Stage(_gan)
LINEAR = Stage(_linear)
MAPS = Stage(_maps)
COMPARED = Stage(_compared)
CAPTION_DATA = Stage(_caption_data)
CAPTIONER = Stage(_captioner)
