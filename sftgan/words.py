"""Maps of the words of captions: Grad-CAM and the SFT-GANs on a captioning model (paper, section 4.3.7, Fig. 11)."""

from pathlib import Path

import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from sftgan import captioning
from sftgan.cache import Config, Runtime, Stage
from sftgan.captions import Caption, roles
from sftgan.errors import InputError
from sftgan.stages import CAPTION_DATA, CAPTIONER, GAN
from sftgan.study import Study
from sftgan.training import Examples, generate


def intensities(study: Study, n_images: int) -> pd.DataFrame:
    """Fig. 11: one row per word of the captions that the model writes for the first test images, and per method.

    image, position, word, role ("subject", "verb" or "other"), and the map's mean (intensity); the maps themselves
    are those of `maps`.
    """
    there = len(study.captions().test)
    if isinstance(n_images, bool) or not isinstance(n_images, int) or not 1 <= n_images <= there:
        raise InputError(
            f"n_images is {n_images!r}: give a number from 1 to {there}, of the captioned test images."
        )
    drawn = WORDS.all([_config(study, image) for image in range(n_images)], study.runtime)
    rows = []
    for image, (caption, maps_of) in enumerate(drawn):
        role_of = roles(caption, study.captions().source)
        for method, of_words in maps_of.items():
            for position, (word, role) in enumerate(zip(caption, role_of, strict=True)):
                rows.append([image, position, word, role, method, of_words[position].mean().item()])
    return pd.DataFrame(rows, columns=["image", "position", "word", "role", "method", "intensity"])


def maps(study: Study, image: int) -> tuple[Caption, dict[str, Tensor]]:
    """The caption written for a test image, and maps (T, H, W) of its T words by Grad-CAM, LSFT and GSFT (4.3.7).

    The GANs are those of dissimilar semantics: none has seen a captioning model.
    """
    return WORDS(_config(study, image), study.runtime)


def _config(study: Study, image: int) -> Config:
    return {
        "title": f"words of captioned image {image}",
        "captioner": study.captioner_config(),
        "image": image,
        "gans": study.gan_configs("dissimilar"),
        "explain": {name: getattr(study.profile, name) for name in ("eta", "tap", "rounding")},
        "size": study.profile.gan_size,
    }


def _words(config: Config, runtime: Runtime, checkpoint: Path) -> tuple[Caption, dict[str, Tensor]]:
    captioner, size = config["captioner"], (config["size"], config["size"])
    model = CAPTIONER(captioner, runtime).model
    image = CAPTION_DATA(captioner["data"], runtime).test.batch([config["image"]])
    (caption,) = captioning.describe(model, image)
    conditions, last = captioning.word_cams(model, image[0], caption, config["size"], **config["explain"])
    picture = F.interpolate(image, size, mode="bilinear", antialias=True).expand(len(caption), -1, -1, -1)
    shown = Examples(picture, conditions, last)
    gans = {kind.upper(): GAN(gan, runtime).generator for kind, gan in config["gans"].items()}
    return caption, {"Grad-CAM": last} | {name: generate(gan, shown) for name, gan in gans.items()}


WORDS = Stage(_words, "captioning", "training", after=[CAPTIONER, GAN])
