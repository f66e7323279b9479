"""Captions are read or refused, the model learns and resumes, and each word has the Grad-CAM of its own logit."""

import json

import pytest
import torch
import torchvision
from PIL import Image

from sftgan import cgma, files, layer_cams
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import build
from sftgan.cnns.normalised import Normalised
from sftgan.companion.chapters import captioning
from sftgan.companion.chapters.captioning import bleu
from sftgan.companion.data import scenes
from sftgan.companion.data.captions import ROLES, CaptionData, CaptionSplit, load_captions, roles, words_of
from sftgan.companion.fitting import captioner
from sftgan.companion.fitting.captioner import PAD, START, build_captioner, describe, fit_captioner, word_cams
from sftgan.errors import InputError


def few(n=8):
    drawn = load_captions("embedded", 16, train=n, test=2, seed=0)
    return CaptionData("embedded", "a few", drawn.train, drawn.test)


def model_for(data, seed=0, arch="vgg16"):
    torch.manual_seed(seed)
    return build_captioner(build(arch, 3, 1 / 16, 16, 4), arch, data, 16)


@pytest.fixture(scope="module")
def data():
    return few()


@pytest.fixture(scope="module")
def fitted(data):
    torch.set_num_threads(1)
    return fit_captioner(model_for(data), data, epochs=60, batch=8, lr=5e-3).model


# The model


def test_it_learns_eight_captions_by_heart(data, fitted):
    assert describe(fitted, data.train.batch()) == [captions[0] for captions in data.train.captions]


def test_attention_sums_to_one(data, fitted):
    features = fitted.features(data.train.batch())
    state = torch.zeros(8, fitted.ask.in_features)
    logits, state, attention = fitted.step(torch.full((8,), START), state, features)
    assert attention.shape == (8, 16) and logits.shape == (8, len(fitted.vocabulary))
    torch.testing.assert_close(attention.sum(1), torch.ones(8))


def test_padding_does_not_count(data, fitted):
    fitted.eval()
    images = data.train.batch([0, 0])
    short, long = ("a", "red", "disc"), ("a", "red", "disc", "covers", "a", "blue", "star")
    together = captioner._loss(fitted, images, [short, long]) * (4 + 8)
    apart = [captioner._loss(fitted, images[:1], [caption]) for caption in (short, long)]
    torch.testing.assert_close(together, apart[0] * 4 + apart[1] * 8)


def test_a_word_is_predicted_from_those_before_it_only(data, fitted):
    images = data.train.batch([0])
    words = torch.tensor([[START, 5, 6, 7]])
    other = torch.tensor([[START, 5, 6, 8]])
    a, b = fitted(images, words), fitted(images, other)
    torch.testing.assert_close(a[:, :3], b[:, :3])
    assert not torch.allclose(a[:, 3], b[:, 3])


def test_a_killed_fit_goes_on_to_the_same_bits(data, tmp_path, monkeypatch):
    whole = fit_captioner(model_for(data), data, epochs=4, batch=4)
    calls, save = [], files.save_checkpoint

    def killed(path, state):
        save(path, state)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(captioner, "save_checkpoint", killed)
        fit_captioner(model_for(data), data, epochs=4, batch=4, checkpoint=tmp_path / "c.pt")
    resumed = fit_captioner(model_for(data, seed=5), data, epochs=4, batch=4, checkpoint=tmp_path / "c.pt")
    assert resumed.curve.equals(whole.curve)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_encoder_begins_as_the_classifier(data):
    assert {"resnet50", "inception_v3"} < set(captioner._FEATURES)
    for arch in captioner._FEATURES:
        torch.manual_seed(0)
        classifier = build(arch, 3, 1 / 16, 32, 4).eval()
        model = build_captioner(classifier, arch, data, 32).eval()
        images = torch.rand(2, 3, 32, 32)
        features = model.encoder(images)
        assert features.shape[-1] == 4 and features.shape[1] == model.project[0].in_features
        kept = dict(classifier.named_parameters())
        assert sum(p.numel() for p in model.encoder.parameters()) < sum(p.numel() for p in kept.values())
        model.encoder.net.requires_grad_(False).zero_grad()
        assert next(classifier.parameters()).requires_grad, "the classifier is left as it was"
    with pytest.raises(InputError, match="unknown encoder of captions 'xception'"):
        build_captioner(classifier, "xception", data, 32)


def test_the_tutorials_encoder_ends_with_the_last_block(data):
    """At full width too, whose ImageNet weights want another scale of the input."""
    torch.manual_seed(0)
    full = torchvision.models.Inception3(3, aux_logits=False, transform_input=True, init_weights=False)
    blocks = []
    for classifier in (build("inception_v3", 3, 1 / 16, 80, 4), Normalised(full)):
        handle = classifier.net.Mixed_7c.register_forward_hook(lambda *call: blocks.append(call[-1]))
        images = torch.rand(1, 3, 80, 80)
        with torch.no_grad():
            classifier.eval()(images)
            handle.remove()
            model = build_captioner(classifier, "inception_v3", data, 80).eval()
            torch.testing.assert_close(model.encoder(images), blocks[-1])


def test_a_loss_that_is_not_finite_is_said(data):
    model = model_for(data)
    torch.nn.init.constant_(model.out[2].weight, float("nan"))
    with pytest.raises(InputError, match="loss is not finite in epoch 1: lower lr"):
        fit_captioner(model, data, epochs=1)


def test_words_that_were_never_seen_are_unknown(data):
    model = model_for(data)
    assert model.encode(("a", "zebra"))[1] == captioner.UNKNOWN != model.encode(("a",))[0]
    assert PAD not in model.encode(model.vocabulary[4:])


# Maps of words


def test_each_word_has_the_conditions_of_its_own_logit(data, fitted):
    image = data.test.batch([0])
    caption = ("a", "red", "disc")
    conditions, last = word_cams(fitted, image[0], caption, size=16, spec=ConditionSpec(5))
    assert conditions.shape == (3, 5, 16, 16) and last.shape == (3, 16, 16)

    class ThirdWord(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.captioner = fitted

        def forward(self, images):
            words = torch.tensor([[START, *fitted.encode(("a", "red"))]])
            return self.captioner(images, words)[:, 2]

    cams = layer_cams(ThirdWord(), image, fitted.encode(("disc",))[0])
    assert cams.maps.shape[1] == 13
    torch.testing.assert_close(conditions[2], cgma(cams.maps, 5)[0])
    torch.testing.assert_close(last[2], cams.maps[0, -1])
    assert not torch.allclose(conditions[0], conditions[2])


def test_the_last_map_of_a_branched_encoder_is_that_of_its_features(data):
    model = model_for(data, arch="inception_v3")
    image = data.test.batch([0])
    conditions, last = word_cams(model, image[0], ("a", "red"), size=16, spec=ConditionSpec(5))
    with torch.enable_grad():
        features = model.eval().encoder(image).detach().requires_grad_()
        places = model.project(features.flatten(2).transpose(1, 2))
        state = torch.zeros(1, model.ask.in_features)
        for word in (START, *model.encode(("a",))):
            logits, state, _ = model.step(torch.tensor([word]), state, places)
        (gradient,) = torch.autograd.grad(logits[0, model.encode(("red",))], features)
    cam = (gradient.mean((2, 3), keepdim=True) * features.detach()).sum(1, keepdim=True).relu()
    cam = torch.nn.functional.interpolate(cam, (16, 16), mode="bilinear", antialias=True)[0, 0]
    assert conditions.shape == (2, 5, 16, 16) and cam.max() > cam.min()
    torch.testing.assert_close(last[1], (cam - cam.min()) / (cam.max() - cam.min()))
    model.branched = False
    assert not torch.allclose(
        word_cams(model, image[0], ("a", "red"), size=16, spec=ConditionSpec(5))[1][1], last[1]
    )


# Words


def test_words():
    assert words_of("A man's dog, running!") == ("a", "man's", "dog", "running")


def test_roles_of_drawn_captions_are_exact():
    caption = words_of("a red ring hangs above a blue star")
    last = ["other", "other", "other", "second noun"]
    assert roles(caption, "embedded") == ["other", "other", "subject", "verb", *last]
    for drawn in scenes.captioned(30, 16, 0).captions:
        found = roles(words_of(drawn), "embedded")
        assert [found.count(role) for role in ROLES[:3]] == [1, 1, 1] and found[-1] == "second noun"
    assert roles(("a", "disc", "a", "star"), "embedded") == ["other", "subject", "other", "other"], "no verb"


@pytest.mark.parametrize(
    "caption, subject, verbs, second",
    [
        ("A man is riding a brown horse.", "man", ["riding"], ["horse"]),
        ("Two small dogs running in the ring", "dogs", ["running"], ["ring"]),
        ("A building near a river", "building", [], []),
        ("a woman in a red coat is holding a string", "woman", ["holding"], ["string"]),
        ("the man was sitting", "man", ["sitting"], []),
        ("in the park two dogs are running", None, ["running"], []),
        ("children", "children", [], []),
    ],
)
def test_roles_of_real_captions_follow_a_rule_of_thumb(caption, subject, verbs, second):
    words = words_of(caption)
    named = list(zip(words, roles(words, "folder"), strict=True))
    assert [w for w, role in named if role == "subject"] == [subject] * (subject is not None)
    assert [w for w, role in named if role == "verb"] == verbs
    assert [w for w, role in named if role == "second noun"] == second


def test_bleu():
    written = [tuple(["a", "b", "c", "d", "e"]), tuple(["f", "g", "h", "i"])]
    assert bleu(written, [(written[0],), (written[1],)]) == pytest.approx(100)
    assert bleu(written, [(("x",), written[0]), (written[1],)]) == pytest.approx(100), "the best of several"
    assert bleu(written, [(tuple(["v", "w", "x", "y", "z"]),), (tuple(["q", "r", "s", "t"]),)]) < 5


def test_quality_is_that_of_the_model_and_of_two_controls():
    captions = [words_of(f"a red disc stands left of a {c} star") for c in ("blue", "green", "white", "blue")]
    data = CaptionData("embedded", "four", split_of(captions[:1] + captions[3:]), split_of(captions))
    found = captioning.quality(
        [*captions[:2], *[words_of("a red ring stands left of a blue star")] * 2], data
    )
    assert found["captions"].tolist()[0] == "the model" and len(found) == 3
    assert found["right subjects, %"].tolist() == [50, 100, 50]
    references = data.test.captions
    assert found["BLEU"].tolist()[1] == pytest.approx(bleu([captions[0]] * 4, references))
    assert captioning.quality(captions, data)["BLEU"].tolist()[0] == pytest.approx(100)


def split_of(captions):
    images = torch.zeros(len(captions), 3, 4, 4, dtype=torch.uint8)
    return CaptionSplit(images, tuple((caption,) for caption in captions))


# Sources


def captioned_folder(root, captions, images=None):
    (root / "images").mkdir(parents=True)
    for i, name in enumerate(captions if images is None else images):
        Image.new("RGB", (30, 20), (10 * i, 0, 0)).save(root / "images" / name)
    (root / "captions.json").write_text(json.dumps(captions))
    return root


CAPTIONS = {f"{i}.png": [f"Picture {i}.", "A second one"] for i in range(10)}


def test_drawn_captions(data):
    again = load_captions("embedded", 16, train=8, test=2, seed=0)
    assert torch.equal(again.train.images, data.train.images) and again.label == "captioned scenes"
    assert not torch.equal(again.test.images, data.train.images[:2])
    other = load_captions("embedded", 16, train=8, test=2, seed=1)
    assert not torch.equal(other.train.images, data.train.images)
    assert all(len(captions) == 1 for captions in data.train.captions)


def test_masks_are_the_drawn_subjects(data, tmp_path):
    for i, image in enumerate(data.train.batch()):
        words = data.train.captions[i][0]
        colours = [scenes._RGB[scenes.COLOURS.index(words[k])] for k in (1, -2)]
        subject, other = ((image[:, data.train.masks[i]].mean(1) - c).norm() for c in colours)
        assert subject < other
    captioned_folder(tmp_path / "mine", CAPTIONS)
    assert load_captions("folder", 16, root=tmp_path, folder="mine").train.masks is None


def test_a_folder_without_a_split_is_split(tmp_path):
    captioned_folder(tmp_path / "mine", CAPTIONS)
    found = load_captions("folder", 16, root=tmp_path, folder="mine", seed=1)
    assert (len(found.train), len(found.test)) == (9, 1) and found.label == "mine (folder)"
    for split in (found.train, found.test):
        for image, captions in zip(split.images, split.captions, strict=True):
            number = int(captions[0][1])
            assert captions == (("picture", str(number)), ("a", "second", "one"))
            assert image[0, 0, 0] == 10 * number, "images keep their captions"
    numbers = sorted(captions[0][1] for split in (found.train, found.test) for captions in split.captions)
    assert numbers == [str(i) for i in range(10)]


def test_a_folders_own_split_is_kept(tmp_path, monkeypatch):
    captioned_folder(tmp_path / "coco" / "train", CAPTIONS)
    captioned_folder(tmp_path / "coco" / "test", {"t.png": ["Test"]})
    monkeypatch.setenv("SFTGAN_DATA", str(tmp_path))
    found = load_captions("folder", 16, train=4)
    assert len(found.train) == 4 and found.test.captions == ((("test",),),)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "has no captions.json"),
        ("{", "is not JSON"),
        ('["a"]', "must be {file: \\[captions\\]}"),
        ('{"0.png": []}', "at least one caption for each file"),
        ('{"0.png": ["..."]}', "at least one caption for each file"),
        ('{"0.png": ["a"], "lost.png": ["b"]}', "1 of 2 captioned images are missing in .* 'lost.png' first"),
        ('{"0.png": ["a"]}', "fewer than two captioned images"),
    ],
)
def test_a_bad_caption_folder_is_said_in_a_sentence(content, sentence, tmp_path):
    root = captioned_folder(tmp_path / "mine", {"0.png": ["a"]})
    (root / "captions.json").unlink()
    if content:
        (root / "captions.json").write_text(content)
    with pytest.raises(InputError, match=sentence) as excinfo:
        load_captions("folder", 16, root=tmp_path, folder="mine")
    assert "\n" not in str(excinfo.value)


def test_coco_is_read_as_torchvision_has_it(tmp_path, capsys):
    for part, names in {"train2017": ["a.png", "b.png", "unnamed.png"], "val2017": ["c.png"]}.items():
        (tmp_path / "coco" / part).mkdir(parents=True)
        for i, name in enumerate(names):
            Image.new("RGB", (30, 20), (100 * i, 0, 0)).save(tmp_path / "coco" / part / name)
        notes = [("A dog.", 0), ("Two dogs", 0), ("a cat", 1)] if len(names) > 1 else [("a bird", 0)]
        content = {
            "images": [{"id": 7 - i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [{"id": k, "image_id": 7 - i, "caption": c} for k, (c, i) in enumerate(notes)],
        }
        (tmp_path / "coco" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "coco" / "annotations" / f"captions_{part}.json").write_text(json.dumps(content))
    found = load_captions("torchvision", 16, root=tmp_path)
    assert (len(found.train), len(found.test)) == (2, 1) and found.label == "coco (torchvision)"
    assert found.test.captions == ((("a", "bird"),),) and found.train.masks is None
    by_colour = dict(zip(found.train.images[:, 0, 0, 0].tolist(), found.train.captions, strict=True))
    assert by_colour == {0: (("a", "dog"), ("two", "dogs")), 100: (("a", "cat"),)}
    assert capsys.readouterr().out == ""


def test_other_bad_input(tmp_path):
    with pytest.raises(InputError, match="there is no caption folder"):
        load_captions("folder", 16, root=tmp_path)
    with pytest.raises(InputError, match="unknown source of captions 'foldr': did you mean 'folder'"):
        load_captions("foldr")
    captioned_folder(tmp_path / "mine", CAPTIONS)
    with pytest.raises(InputError, match="train=100, but there are 9 captioned train images: ask for 1 to 9"):
        load_captions("folder", 16, train=100, root=tmp_path, folder="mine")
    (tmp_path / "mine" / "images" / "3.png").write_text("no picture")
    with pytest.raises(InputError, match="picture .*3.png' cannot be read: replace it"):
        load_captions("folder", 16, root=tmp_path, folder="mine")
    with pytest.raises(InputError, match="must hold train2017 and annotations/captions_train2017.json"):
        load_captions("torchvision", 16, root=tmp_path, folder="mine")


def test_batches_are_in_0_to_1():
    split = CaptionSplit(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), ((("a",),), (("b",),)))
    assert split.batch().max() == 1.0 and split.batch([1]).shape == (1, 3, 4, 4) and len(split) == 2
