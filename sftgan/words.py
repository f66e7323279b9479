"""Maps of the words of captions, by Grad-CAM and the SFT-GANs on a captioner (section 4.3.7, Fig. 11)."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from sftgan import captioning
from sftgan.cache import Config, Runtime, Stage
from sftgan.captions import ROLES, Caption, CaptionSplit, roles
from sftgan.errors import InputError
from sftgan.metrics import foreground_share
from sftgan.reading import Reading
from sftgan.stages import CAPTION_DATA, CAPTIONER, GAN, generators
from sftgan.study import Study
from sftgan.training import Examples, generate

METHODS = ("LSFT", "GSFT", "Grad-CAM")


def scores(study: Study, n_images: int) -> pd.DataFrame:
    """Measure the map of each word of the captions that the model writes for test images (Fig. 11).

    Parameters
    ----------
    study
        Run whose captioner and GANs are used.
    n_images
        Number of test images; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each image, word (``position``, ``word``) and method of ``METHODS``. ``role`` is one of
        ``captions.ROLES``, and ``intensity`` is the mean of the word's map (see ``maps``). "on the subject"
        is the map's ``metrics.foreground_share`` on the subject; it is NaN where the subject's place is
        unknown, as in photographs.

    Raises
    ------
    InputError
        If ``n_images`` is not a whole number from 1 to the number of captioned test images.
    """
    data = study.captions()
    there = len(data.test)
    if isinstance(n_images, bool) or not isinstance(n_images, int) or not 1 <= n_images <= there:
        raise InputError(
            f"n_images is {n_images!r}: give a number from 1 to {there}, of the captioned test images."
        )
    drawn = WORDS.all([_config(study, image) for image in range(n_images)], study.runtime)
    places = _subjects(data.test, study.profile.gan_size)
    frames = []
    for image, (caption, maps_of) in enumerate(drawn):
        about = {"image": image, "position": range(len(caption)), "word": caption}
        about |= {"role": roles(caption, data.source)}
        for method in METHODS:
            of_words = maps_of[method]
            shares: np.ndarray | float = np.nan
            if places is not None:
                shares = foreground_share(of_words, places[image].expand_as(of_words)).numpy()
            measured = {"intensity": of_words.mean((1, 2)).numpy(), "on the subject": shares}
            frames.append(pd.DataFrame(about | measured).assign(method=method))
    name = study.labels()["coco"]
    return pd.concat(frames, ignore_index=True).assign(
        dataset="coco", data=name, arch=study.profile.captions.encoder[1], strategy="dissimilar",
        profile=study.profile.name, seed=study.seed,
    )  # fmt: skip


def by_role(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the measures over the words of each image that play the same role.

    Parameters
    ----------
    scores
        Frame of ``scores``.

    Returns
    -------
    pd.DataFrame
        One row for each method, role and image, with the means of ``intensity`` and "on the subject". Roles
        are in the order of ``captions.ROLES``.
    """
    ordered = scores.sort_values("role", key=lambda role: role.map(ROLES.index), kind="stable")
    keys = ["dataset", "data", "arch", "method", "role", "image"]
    return ordered.groupby(keys, sort=False)[["intensity", "on the subject"]].mean().reset_index()


def maps(study: Study, image: int) -> tuple[Caption, dict[str, Tensor]]:
    """Write the caption of a test image and map each of its words (section 4.3.7).

    The GANs are those of the dissimilar strategy; none was trained on a captioning model.

    Parameters
    ----------
    study
        Run whose captioner and GANs are used.
    image
        Index of the test image.

    Returns
    -------
    tuple[Caption, dict[str, Tensor]]
        The caption of T words, and for each method of ``METHODS`` the maps (T, H, W) in [0, 1].
    """
    return WORDS(_config(study, image), study.runtime)


def _subjects(split: CaptionSplit, size: int) -> Tensor | None:
    """Return the places of the subjects, bool (n, size, size)."""
    if split.masks is None:
        return None
    places = F.interpolate(split.masks[:, None].float(), (size, size), mode="bilinear", antialias=True)
    return places[:, 0] > 0.5


def _config(study: Study, image: int) -> Config:
    return {
        "title": f"words of captioned image {image}",
        "captioner": study.captioner_config(),
        "image": image,
        "gans": study.gan_configs("dissimilar"),
        "reading": asdict(study.profile.reading()),
        "size": study.profile.gan_size,
    }


def _words(config: Config, runtime: Runtime, checkpoint: Path) -> tuple[Caption, dict[str, Tensor]]:
    captioner, size = config["captioner"], (config["size"], config["size"])
    model = CAPTIONER(captioner, runtime).model.to(runtime.device)
    image = CAPTION_DATA(captioner["data"], runtime).test.batch([config["image"]])
    (caption,) = captioning.describe(model, image)
    conditions, last = captioning.word_cams(
        model, image[0].to(runtime.device), caption, config["size"], Reading(**config["reading"])
    )
    picture = F.interpolate(image, size, mode="bilinear", antialias=True).expand(len(caption), -1, -1, -1)
    last = last.cpu()
    shown = Examples(picture, conditions.cpu(), last)
    gans = generators(config["gans"], runtime)
    return caption, {"Grad-CAM": last} | {name: generate(gan, shown) for name, gan in gans.items()}


WORDS = Stage(_words, "captioning", "training", after=[CAPTIONER, GAN])
