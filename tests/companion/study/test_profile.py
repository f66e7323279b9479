"""Profiles are complete, documented and checked, and every mistake is answered in one sentence."""

import re

import pytest
from pydantic import ValidationError

from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.architectures import ARCHITECTURES
from sftgan.companion.study.profile import RELEASED, SWITCHES, CNNRecipe, DataSource, Profile, load_profile
from sftgan.errors import InputError
from sftgan.gan.training import GANRecipe

NAMES = ("smoke", "cpu", "paper")
SELF_EXPLAINING = {"name", "source", "gan_epochs", "gan_batch"}


def sentence(excinfo) -> str:
    """The message, which must be one line."""
    text = str(excinfo.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_loads_and_covers_both_strategies(name):
    profile = load_profile(name)
    assert profile.name == name and profile.purpose
    assert list(profile.similar) == ["mnist", "emnist", "chinese_mnist"]
    assert list(profile.dissimilar) == ["cifar10", "animals10", "food11"]
    assert list(profile.cnns) == ["vgg16", "resnet50", "mobilenet_v2"]
    unseen = {
        ("emnist", "xception"),
        ("cats_vs_dogs", "inception_v3"),
        ("instruments", "vgg19"),
        ("tamil", "vgg16"),
    }
    assert unseen <= {(pair.dataset, pair.arch) for pair in profile.extra}
    assert set(ARCHITECTURES) >= {pair.arch for pair in profile.extra}
    assert (profile.eta, profile.rounding, profile.tap, profile.held_out) == (8, "double", "post", 0.3)


def test_the_smoke_profile_downloads_nothing():
    def sources(profile):
        return [*profile.similar.values(), *profile.dissimilar.values(), *profile.extra]

    smoke = load_profile("smoke")
    assert {d.source for d in sources(smoke)} | {smoke.captions.source} == {"embedded"}
    assert not any(d.download for name in NAMES for d in sources(load_profile(name)))
    assert not load_profile("smoke").pretrained and not load_profile("cpu").pretrained


def test_the_paper_profile_is_the_paper():
    paper = load_profile("paper")
    assert {arch: recipe.optimiser for arch, recipe in paper.cnns.items()} == {
        "vgg16": "sgd", "resnet50": "adam", "mobilenet_v2": "adam"
    }  # fmt: skip
    assert paper.pretrained and paper.cnn_width == 1 and paper.reconstruction == "mse"
    assert (paper.gan_lr, paper.gan_width, paper.gan_size) == (2e-4, 64, 64)


def test_every_field_says_what_it_is():
    undocumented = {
        name
        for model in (Profile, DataSource)
        for name, field in model.model_fields.items()
        if not field.description
    }
    assert undocumented <= SELF_EXPLAINING
    assert "classifiers.ClassifierRecipe" in CNNRecipe.__doc__


def test_overrides_replace_fields_and_nothing_else():
    plain, changed = load_profile("smoke"), load_profile("smoke", eta=4, gan_lr=0.5, reconstruction="mae")
    assert (changed.eta, changed.gan_lr, changed.reconstruction) == (4, 0.5, "mae")
    kept = plain.model_dump() | {"eta": 4, "gan_lr": 0.5, "reconstruction": "mae"}
    assert changed.model_dump() == kept


def test_a_profile_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        load_profile("smoke").eta = 3


def test_unknown_names_are_answered_with_the_nearest_one():
    with pytest.raises(InputError, match="unknown profile 'smok': did you mean 'smoke'"):
        load_profile("smok")
    with pytest.raises(InputError, match="unknown profile field 'gan_epoch': did you mean 'gan_epochs'"):
        load_profile("smoke", gan_epoch=3)
    embedded = {"source": "embedded"}
    with pytest.raises(InputError, match="unknown data set 'mnits': did you mean 'mnist'"):
        load_profile("smoke", similar={"mnits": embedded})
    recipe = {"optimiser": "adam", "lr": 0.1, "epochs": 1}
    with pytest.raises(InputError, match="unknown architecture 'vgg166': did you mean 'vgg16'"):
        load_profile("smoke", cnns={"vgg166": recipe})


@pytest.mark.parametrize(
    "overrides, field, value",
    [
        ({"eta": 0}, "eta", "0"),
        ({"eta": "eight"}, "eta", "'eight'"),
        ({"size": 2.5}, "size", "2.5"),
        ({"size": 4}, "size", "4"),
        ({"size": 15}, "size", "15"),
        ({"last_map": 1}, "last_map", "1"),
        (
            {"cnns": {"vgg16": {"optimiser": "adam", "lr": 0.1, "epochs": 1, "batch": 1}}},
            "cnns.vgg16.batch",
            "1",
        ),
        ({"held_out": 1}, "held_out", "1"),
        ({"held_out": 0}, "held_out", "0"),
        ({"cnn_width": 2}, "cnn_width", "2"),
        ({"gan_size": 15}, "gan_size", "15"),
        ({"gan_lr": -1}, "gan_lr", "-1"),
        ({"tap": "behind"}, "tap", "'behind'"),
        ({"rounding": None}, "rounding", "None"),
        ({"reconstruction": "rmse"}, "reconstruction", "'rmse'"),
        ({"threads": -1}, "threads", "-1"),
        ({"similar": {"mnist": {"source": "web"}}}, "similar.mnist.source", "'web'"),
        ({"similar": {"mnist": {"source": "embedded", "trian": 5}}}, "similar.mnist.trian", "5"),
        ({"similar": "mnist"}, "similar", "'mnist'"),
        ({"cnns": {"vgg16": {"optimiser": "lion", "lr": 1, "epochs": 1}}}, "cnns.vgg16.optimiser", "'lion'"),
        ({"cnns": {"vgg16": {"optimiser": "sgd", "lr": 1}}}, "cnns.vgg16.epochs", ""),
    ],
)
def test_a_bad_value_is_named_with_its_field(overrides, field, value):
    with pytest.raises(InputError) as excinfo:
        load_profile("smoke", **overrides)
    text = sentence(excinfo)
    assert text.startswith(f"profile smoke, field {field}: ")
    assert re.search(rf"got .*{re.escape(value)}", text)


def test_pretrained_weights_do_not_fit_thin_nets():
    with pytest.raises(InputError, match=r"pretrained weights need cnn_width 1, got 0\.125"):
        load_profile("smoke", pretrained=True)
    assert load_profile("smoke", pretrained=True, cnn_width=1).pretrained


@pytest.mark.parametrize("field", ["similar", "cnns"])
def test_a_profile_without_data_sets_or_nets_is_refused(field):
    with pytest.raises(InputError, match=field):
        load_profile("smoke", **{field: {}})


def test_eta_is_at_most_the_smallest_number_of_convolutions():
    assert load_profile("smoke", eta=13).eta == 13
    with pytest.raises(
        InputError, match="eta is 14, but vgg16 has 13 convolutions to average: choose at most 13"
    ) as excinfo:
        load_profile("smoke", eta=14)
    sentence(excinfo)


def test_a_data_set_belongs_to_one_strategy():
    both = {"mnist": {"source": "embedded"}}
    with pytest.raises(InputError, match="'mnist' is in both strategies: give it to one of them"):
        load_profile("smoke", dissimilar=both)


def test_extra_pairs_are_checked():
    pair = {"source": "embedded", "cnn": {"optimiser": "adam", "lr": 0.1, "epochs": 1}}
    with pytest.raises(InputError, match="unknown data set 'tmail': did you mean 'tamil'"):
        load_profile("smoke", extra=[pair | {"dataset": "tmail", "arch": "vgg16"}])
    with pytest.raises(InputError, match="unknown architecture 'xceptoin': did you mean 'xception'"):
        load_profile("smoke", extra=[pair | {"dataset": "tamil", "arch": "xceptoin"}])


@pytest.mark.parametrize(
    "encoder, nearest",
    [
        (("animls10", "resnet50"), "animals10 with resnet50"),
        (("animals10", "resnet5"), "animals10 with resnet50"),
        (("animals10", "vgg19"), "animals10 with vgg16"),  # a CNN of the extra pairs, on another data set
    ],
)
def test_the_encoder_of_captions_is_one_of_the_pairs(encoder, nearest):
    captions = load_profile("smoke").captions.model_dump()
    expected = f"unknown pair in captions.encoder '{' with '.join(encoder)}': did you mean '{nearest}'"
    with pytest.raises(InputError, match=expected) as excinfo:
        load_profile("smoke", captions=captions | {"encoder": encoder})
    assert "mnist with vgg16" in sentence(excinfo) and "tamil with vgg16" in sentence(excinfo)


def test_an_encoder_may_be_an_extra_pair_or_of_a_strategy():
    captions = load_profile("smoke").captions.model_dump()
    for encoder in (("tamil", "vgg16"), ("mnist", "mobilenet_v2")):
        assert load_profile("smoke", captions=captions | {"encoder": encoder}).captions.encoder == encoder


def test_fewer_cnns_need_no_other_captions():
    recipe = {"optimiser": "adam", "lr": 0.1, "epochs": 1}
    assert list(load_profile("smoke", cnns={"vgg16": recipe}).cnns) == ["vgg16"]


def test_a_cnn_is_fitted_for_at_least_one_epoch():
    none = {"optimiser": "adam", "lr": 0.1, "epochs": 0}
    both = "epochs and head_epochs are both 0: choose at least 1 for one of them"
    with pytest.raises(InputError, match=f"profile smoke, field cnns.vgg16: {both}") as excinfo:
        load_profile("smoke", cnns={"vgg16": none})
    sentence(excinfo)
    with pytest.raises(InputError, match=f"profile smoke, field extra.0.cnn: {both}"):
        load_profile(
            "smoke", extra=[{"source": "embedded", "dataset": "tamil", "arch": "vgg16", "cnn": none}]
        )
    assert load_profile("smoke", cnns={"vgg16": none | {"head_epochs": 1}}).cnns["vgg16"].epochs == 0


def test_an_extra_pair_that_is_there_already_is_refused():
    recipe = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
    pair = {"dataset": "animals10", "arch": "vgg16", "source": "embedded", "cnn": recipe}
    with pytest.raises(InputError, match="field extra: animals10 with vgg16 is there already"):
        load_profile("smoke", extra=[pair])
    other = pair | {"arch": "vgg19"}
    with pytest.raises(InputError, match="field extra: animals10 with vgg19 is there already"):
        load_profile("smoke", extra=[other, other])


def test_the_released_variant_flips_every_switch():
    paper, released = load_profile("smoke"), load_profile("smoke", variant="released")
    for name, (of_paper, of_code) in SWITCHES.items():
        assert getattr(paper, name) == of_paper != of_code == getattr(released, name)
    assert load_profile("smoke", variant="released", target="last").target == "last"
    assert released.condition_spec().minmax_conditions and released.gan_recipe("gsft").layers == "released"
    assert set(RELEASED) <= set(Profile.model_fields)


def test_the_papers_reading_and_recipe_are_the_defaults():
    profile = load_profile("smoke")
    assert profile.condition_spec() == ConditionSpec()
    recipe = profile.gan_recipe("lsft")
    assert recipe == GANRecipe("lsft", width=recipe.width, epochs=recipe.epochs, lr=recipe.lr)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"target": "middle"}, "field target: Input should be 'last' or 'first', got 'middle'"),
        ({"leave_out": 8}, "leave_out is 8: choose at most 7"),
        ({"eta": 13, "exclude_target": True}, "vgg16 has 12 convolutions to average: choose at most 12"),
        ({"trial": {"datasets": ["mnits"], "gan_train": 1, "gan_test": 1, "gan_epochs": 1}},
         "unknown data set of the trials 'mnits': did you mean 'mnist'"),
    ],
)  # fmt: skip
def test_switches_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        load_profile("smoke", **overrides)
