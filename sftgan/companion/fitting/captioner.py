"""A model that writes captions, and Grad-CAMs of the words (section 4.3.7)."""

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import Inception3
from tqdm import tqdm

from sftgan.cams.conditions import ConditionSpec
from sftgan.cams.gradcam import block_cam, layer_cams
from sftgan.cnns.architectures import BLOCKS
from sftgan.cnns.normalised import Normalised
from sftgan.companion.data.captions import Caption, CaptionData
from sftgan.errors import InputError, check_name
from sftgan.files import load_checkpoint, save_checkpoint

PAD, START, END, UNKNOWN = range(4)
_MARKS = ("<pad>", "<start>", "<end>", "<unk>")


class _Inception(nn.Module):
    """torchvision's InceptionV3 up to its last block, Mixed_7c."""

    _transform_input = Inception3._transform_input

    def __init__(self, net: Inception3):
        super().__init__()
        self.transform_input = net.transform_input  # True for ImageNet weights, which need rescaled input
        self.layers = nn.Sequential(*list(net.children())[:-3])  # without pool, dropout and head

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self._transform_input(images))


_FEATURES = {  # the part of a CNN up to its last feature map
    "vgg16": lambda net: net.features,
    "vgg19": lambda net: net.features,
    "mobilenet_v2": lambda net: net.features,
    "resnet50": lambda net: nn.Sequential(*list(net.children())[:-2]),
    "inception_v3": _Inception,
}


class Captioner(nn.Module):
    """A CNN, additive attention over its last feature map, and a GRU that writes one word at a time.

    The model follows Show, Attend and Tell (Xu 2015) and the TensorFlow tutorial that the paper used.

    Parameters
    ----------
    encoder
        The CNN: images (B, 3, H, W) in [0, 1] to features (B, channels, h, w).
    channels
        Number of channels of the features.
    vocabulary
        All words; the first four are the marks of padding, start, end and unknown words.
    branched
        Whether the CNN's last convolution is one of several branches. If so, the last Grad-CAM is that of the
        features.
    units
        Width of the GRU's state and of the attention.
    embedding
        Width of the embedded words and projected features.

    Examples
    --------
    >>> model = Captioner(nn.Conv2d(3, 5, 4, 4), 5, ("<pad>", "<start>", "<end>", "<unk>", "dog"))
    >>> model(torch.zeros(2, 3, 8, 8), torch.tensor([[START, 4], [START, 4]])).shape
    torch.Size([2, 2, 5])
    """

    def __init__(
        self,
        encoder: nn.Module,
        channels: int,
        vocabulary: Caption,
        branched: bool = False,
        units: int = 128,
        embedding: int = 64,
    ):
        super().__init__()
        self.encoder = encoder
        self.branched = branched
        self.vocabulary = vocabulary
        self.index = {word: i for i, word in enumerate(vocabulary)}
        self.project = nn.Sequential(nn.Linear(channels, embedding), nn.ReLU())
        self.embed = nn.Embedding(len(vocabulary), embedding, padding_idx=PAD)
        self.look = nn.Linear(embedding, units)
        self.ask = nn.Linear(units, units)
        self.score = nn.Linear(units, 1)
        self.cell = nn.GRUCell(2 * embedding, units)
        self.out = nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, len(vocabulary)))

    def features(self, images: Tensor) -> Tensor:
        """Compute the features that are attended to, (B, places, embedding), of images (B, 3, H, W)."""
        return self.project(self.encoder(images).flatten(2).transpose(1, 2))

    def step(self, words: Tensor, state: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the next word of each caption.

        Parameters
        ----------
        words
            Indices of the present words (B,).
        state
            State of the GRU (B, units).
        features
            Features that are attended to (B, places, embedding).

        Returns
        -------
        tuple[Tensor, Tensor, Tensor]
            Logits of the next words (B, V), the next state (B, units), and the attention (B, places), which
            sums to 1.
        """
        score = self.score(torch.tanh(self.look(features) + self.ask(state)[:, None]))
        attention = score.softmax(1)
        context = (attention * features).sum(1)
        state = self.cell(torch.cat([context, self.embed(words)], 1), state)
        return self.out(state), state, attention[..., 0]

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        """Predict the word that follows each leading part of the captions.

        Parameters
        ----------
        images
            Images (B, 3, H, W) in [0, 1].
        words
            Indices of the words (B, T); the first is that of <start>.

        Returns
        -------
        Tensor
            Logits (B, T, V) of the words that follow.
        """
        features = self.features(images)
        state = features.new_zeros(len(images), self.ask.in_features)
        logits = []
        for column in words.T:
            out, state, _ = self.step(column, state, features)
            logits.append(out)
        return torch.stack(logits, 1)

    def encode(self, caption: Sequence[str]) -> list[int]:
        """Return the index of each word in the vocabulary; words outside it get that of <unk>."""
        return [self.index.get(word, UNKNOWN) for word in caption]


def build_captioner(
    classifier: Normalised, arch: str, data: CaptionData, size: int, words: int = 5000
) -> Captioner:
    """Build a captioner whose encoder starts as a fitted classifier without its head.

    Parameters
    ----------
    classifier
        The fitted classifier; it is copied.
    arch
        Name of its architecture. One whose last feature map is not known here raises an ``InputError``.
    data
        Captioned images, for the vocabulary.
    size
        Side of the images in pixels.
    words
        Largest size of the vocabulary: the most frequent words of the training captions. Padding, start, end
        and unknown words come on top.

    Returns
    -------
    Captioner
        The captioner, not yet fitted.
    """
    check_name(arch, _FEATURES, "encoder of captions")
    encoder = copy.deepcopy(classifier)
    encoder.net = _FEATURES[arch](encoder.net)
    with torch.no_grad():
        channels = encoder.eval()(torch.zeros(1, 3, size, size)).shape[1]
    counts = Counter(word for captions in data.train.captions for caption in captions for word in caption)
    vocabulary = (*_MARKS, *(word for word, _ in counts.most_common(words)))
    return Captioner(encoder, channels, vocabulary, branched=arch in BLOCKS)


@dataclass(frozen=True)
class FittedCaptioner:
    """A fitted captioner with its learning curve.

    Attributes
    ----------
    model
        The captioner in evaluation mode.
    curve
        One row per epoch: epoch, loss.
    """

    model: Captioner
    curve: pd.DataFrame


def fit_captioner(
    model: Captioner,
    data: CaptionData,
    epochs: int,
    batch: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: str | torch.device = "cpu",
) -> FittedCaptioner:
    """Fit encoder and decoder together by AdamW with a one-cycle schedule.

    Each epoch uses one caption of every image, sampled at random.

    Parameters
    ----------
    model
        The captioner; it is fitted in place.
    data
        Captioned images; only the training part is used.
    epochs
        Number of epochs.
    batch
        Number of images in a batch.
    lr
        Largest learning rate of the schedule.
    seed
        Seed of the order of the images and of the captions.
    checkpoint
        File that the state is written to after every epoch; None for no file. A run that was killed resumes
        from it and ends with the same weights, on a CPU bit for bit.
    device
        Device to fit on.

    Returns
    -------
    FittedCaptioner
        The captioner and its learning curve.

    Raises
    ------
    InputError
        If the loss is not finite.
    """
    n, model = len(data.train), model.to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=epochs * math.ceil(n / batch))
    rows: list[dict] = []
    if saved := load_checkpoint(checkpoint):
        rows = saved["rows"]
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
    for epoch in tqdm(range(len(rows), epochs), desc="fitting the captioner", unit="epoch", disable=None):
        rng = np.random.default_rng([seed, epoch])
        model.train()
        losses = []
        for index in torch.from_numpy(rng.permutation(n)).split(batch):
            captions = [data.train.captions[i] for i in index.tolist()]
            loss = _loss(
                model, data.train.batch(index).to(device), [c[rng.integers(len(c))] for c in captions]
            )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        if not math.isfinite(sum(losses)):
            raise InputError(
                f"the captioner's loss is not finite in epoch {epoch + 1}: lower lr (now {lr:g})."
            )
        rows.append({"epoch": epoch + 1, "loss": sum(losses) / len(losses)})
        save_checkpoint(checkpoint, {
            "rows": rows, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        })  # fmt: skip
    return FittedCaptioner(model.eval(), pd.DataFrame(rows))


def describe(model: Captioner, images: Tensor, longest: int = 20) -> list[Caption]:
    """Write a caption for each image, always with the most likely next word.

    Parameters
    ----------
    model
        The captioner; it is put into evaluation mode.
    images
        Images (B, 3, H, W) in [0, 1].
    longest
        Largest number of words.

    Returns
    -------
    list[Caption]
        One caption per image, of at least one word.
    """
    return [caption for part in images.split(128) for caption in _describe(model, part, longest)]


@torch.no_grad()
def _describe(model: Captioner, images: Tensor, longest: int) -> list[Caption]:
    model.eval()
    features = model.features(images.to(next(model.parameters()).device))
    state = features.new_zeros(len(images), model.ask.in_features)
    words = torch.full((len(images),), START, device=features.device)
    written: list[list[int]] = []
    for _ in range(longest):
        logits, state, _ = model.step(words, state, features)
        if not written:  # at least one word
            logits[:, [PAD, START, END]] = -torch.inf
        words = logits.argmax(1)
        written.append(words.tolist())
    captions = []
    for line in zip(*written, strict=True):
        end = line.index(END) if END in line else len(line)
        captions.append(tuple(model.vocabulary[i] for i in line[:end]))
    return captions


def word_cams(
    model: Captioner, image: Tensor, caption: Caption, size: int, spec: ConditionSpec
) -> tuple[Tensor, Tensor]:
    """Compute the conditions and the last layer's Grad-CAMs for each word of a caption (section 4.3.7).

    The explained output is the logit of each word, given the words before it. The last layer is the last
    convolution, or the features of a branched encoder.

    Parameters
    ----------
    model
        The captioner.
    image
        Image (3, H, W) in [0, 1].
    caption
        The T words to explain.
    size
        Side of the maps in pixels.
    spec
        How the Grad-CAMs of all layers become conditions.

    Returns
    -------
    tuple[Tensor, Tensor]
        Conditions (T, channels, size, size) and the last layer's Grad-CAMs (T, size, size).
    """
    conditions, last = [], []
    for t, index in enumerate(model.encode(caption)):
        next_word = _NextWord(model, caption[:t])
        cams = layer_cams(next_word, image[None], index, spec.tap, size, spec.gradients).maps
        conditions.append(spec.conditions_and_target(cams)[0][0])
        if model.branched:
            last.append(block_cam(next_word, model.encoder, image[None], index, size)[0])
        else:
            last.append(cams[0, -1])
    return torch.stack(conditions), torch.stack(last)


class _NextWord(nn.Module):
    """A captioner as a classifier: images (B, 3, H, W) to logits (B, V) of the word after given words."""

    def __init__(self, model: Captioner, beginning: Caption):
        super().__init__()
        self.model = model
        self.words = [START, *model.encode(beginning)]

    def forward(self, images: Tensor) -> Tensor:
        words = torch.tensor(self.words, device=images.device).expand(len(images), -1)
        return self.model(images, words)[:, -1]


def _loss(model: Captioner, images: Tensor, captions: Sequence[Caption]) -> Tensor:
    """Compute the mean cross entropy of the words and the end of each caption, without the padding."""
    lines = [torch.tensor([START, *model.encode(caption), END]) for caption in captions]
    words = nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=PAD).to(images.device)
    logits = model(images, words[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)
