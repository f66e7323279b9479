"""A model that writes captions, and Grad-CAMs of their words (paper, section 4.3.7)."""

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
from tqdm import tqdm

from sftgan.architectures import Normalised
from sftgan.captions import Caption, CaptionData
from sftgan.cgma import cgma
from sftgan.checkpoint import load_checkpoint, save_checkpoint
from sftgan.errors import InputError, check_name
from sftgan.gradcam import layer_cams

PAD, START, END, UNKNOWN = range(4)
_MARKS = ("<pad>", "<start>", "<end>", "<unk>")
_FEATURES = {  # the part of a net that makes the last feature map
    "vgg16": lambda net: net.features,
    "vgg19": lambda net: net.features,
    "mobilenet_v2": lambda net: net.features,
    "resnet50": lambda net: nn.Sequential(*list(net.children())[:-2]),
}


class Captioner(nn.Module):
    """A CNN, additive attention over its last feature map, and a GRU that writes a word at a time.

    In the manner of Show, Attend and Tell (Xu 2015) and of the TensorFlow tutorial that the paper used. `encoder`
    maps images (B, 3, H, W) in [0, 1] to features (B, channels, h, w).
    """

    def __init__(
        self, encoder: nn.Module, channels: int, vocabulary: Caption, units: int = 128, embedding: int = 64
    ):
        super().__init__()
        self.encoder = encoder
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
        """What is attended to, (B, places, embedding)."""
        return self.project(self.encoder(images).flatten(2).transpose(1, 2))

    def step(self, words: Tensor, state: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the next words (B, V), the next state, and the attention (B, places) that sums to 1."""
        score = self.score(torch.tanh(self.look(features) + self.ask(state)[:, None]))
        attention = score.softmax(1)
        context = (attention * features).sum(1)
        state = self.cell(torch.cat([context, self.embed(words)], 1), state)
        return self.out(state), state, attention[..., 0]

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        """Logits (B, T, V) of the words that follow each beginning of `words` (B, T), which begin with <start>."""
        features = self.features(images)
        state = features.new_zeros(len(images), self.ask.in_features)
        logits = []
        for column in words.T:
            out, state, _ = self.step(column, state, features)
            logits.append(out)
        return torch.stack(logits, 1)

    def encode(self, caption: Sequence[str]) -> list[int]:
        """Indices of words."""
        return [self.index.get(word, UNKNOWN) for word in caption]


def build_captioner(
    classifier: Normalised, arch: str, data: CaptionData, size: int, words: int = 5000
) -> Captioner:
    """A captioner for images of `size`, whose encoder begins as a fitted classifier without its head.

    The vocabulary is the most frequent words of the training captions. Raises InputError for an `arch` whose last
    feature map is not known here.
    """
    check_name(arch, _FEATURES, "encoder of captions")
    encoder = copy.deepcopy(classifier)
    encoder.net = _FEATURES[arch](encoder.net)
    with torch.no_grad():
        channels = encoder.eval()(torch.zeros(1, 3, size, size)).shape[1]
    counts = Counter(word for captions in data.train.captions for caption in captions for word in caption)
    vocabulary = (*_MARKS, *(word for word, _ in counts.most_common(words)))
    return Captioner(encoder, channels, vocabulary)


@dataclass(frozen=True)
class FittedCaptioner:
    """A fitted captioner in evaluation mode and its learning curve, one row per epoch: epoch, loss."""

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
) -> FittedCaptioner:
    """Fit encoder and decoder together, by AdamW and one cycle; each epoch one caption of every image.

    With `checkpoint` the state is written there after every epoch, and a run that was killed goes on from it to
    the same weights, bit for bit.
    """
    n = len(data.train)
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
            loss = _loss(model, data.train.batch(index), [c[rng.integers(len(c))] for c in captions])
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


@torch.no_grad()
def describe(model: Captioner, images: Tensor, longest: int = 20) -> list[Caption]:
    """The most likely next word, again and again: a caption for each image (B, 3, H, W) in [0, 1]."""
    model.eval()
    features = model.features(images)
    state = features.new_zeros(len(images), model.ask.in_features)
    words = torch.full((len(images),), START)
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


def bleu(written: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> float:
    """Corpus BLEU of sacrebleu, 0 to 100, of one caption for each image against its references."""
    try:
        from sacrebleu import corpus_bleu
    except ImportError as error:
        raise InputError("BLEU needs a package: run `pip install sacrebleu`.") from error
    most = max(len(captions) for captions in references)
    columns = [
        [" ".join(captions[k]) if k < len(captions) else None for captions in references] for k in range(most)
    ]
    return corpus_bleu([" ".join(caption) for caption in written], columns, tokenize="none").score


def word_cams(
    model: Captioner, image: Tensor, caption: Caption, size: int, eta: int = 8, tap: str = "post",
    rounding: str = "double",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """CGMAs (T, eta, size, size) and the last layer's Grad-CAMs (T, size, size) of an image's T words.

    What is explained is the logit of each word, given the words before it. Image (3, H, W) in [0, 1].
    """
    conditions, last = [], []
    for t, index in enumerate(model.encode(caption)):
        cams = layer_cams(_NextWord(model, caption[:t]), image[None], index, tap, size)
        conditions.append(cgma(cams.maps, eta, rounding)[0])
        last.append(cams.maps[0, -1])
    return torch.stack(conditions), torch.stack(last)


class _NextWord(nn.Module):
    """A captioner as a classifier: images (B, 3, H, W) to the logits (B, V) of the word after a beginning."""

    def __init__(self, model: Captioner, beginning: Caption):
        super().__init__()
        self.model = model
        self.words = [START, *model.encode(beginning)]

    def forward(self, images: Tensor) -> Tensor:
        words = torch.tensor(self.words, device=images.device).expand(len(images), -1)
        return self.model(images, words)[:, -1]


def _loss(model: Captioner, images: Tensor, captions: Sequence[Caption]) -> Tensor:
    """Mean cross entropy of the words and the end of each caption; padding does not count."""
    lines = [torch.tensor([START, *model.encode(caption), END]) for caption in captions]
    words = nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_value=PAD)
    logits = model(images, words[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)
