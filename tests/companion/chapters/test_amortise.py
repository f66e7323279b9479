"""What students are given and how go and no-go are decided, on known differences; and the whole trial on stubs."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from sftgan import InputError, metrics
from sftgan.companion.chapters import amortise, students
from sftgan.companion.report import claims
from sftgan.companion.study.study import Study
from sftgan.gan.examples import Examples, ExplainedImages

KINDS = ("LSFT", "CNN")


def source(n=3, size=16, seed=0):
    """One CNN's images, with a target that is half the mean activation plus a quarter of the last CGMA."""
    random = torch.Generator().manual_seed(seed)
    images, cgmas = (torch.rand(n, k, size, size, generator=random) for k in (3, 8))
    cam, activation, gradient = torch.rand(3, n, size, size, generator=random)
    labels = torch.zeros(n, dtype=torch.long)
    explained = ExplainedImages(
        Examples(images, cgmas, cam), labels, labels, None, None, torch.zeros(13), activation
    )
    return explained, gradient, 0.5 * activation + 0.25 * cgmas[:, -1]


@pytest.mark.parametrize(
    ("inputs", "given"),
    [("image", []), ("image + free", [0, 1, 2]), ("image + CGMAs", [*range(3, 11)]),
     ("image + free + CGMAs", [*range(11)])],
)  # fmt: skip
def test_what_is_not_given_is_blank_and_all_nets_are_alike(inputs, given):
    made = students.student_examples(source(), inputs, 16)
    assert made.conditions.shape == (3, 11, 16, 16)
    filled = made.conditions.flatten(2).amax((0, 2)).nonzero()[:, 0].tolist()
    assert filled == given


def test_channels_are_in_order_and_cut_to_the_targets():
    explained, gradient, target = source(5)
    made = students.student_examples((explained, gradient, target[:2]), "image + free + CGMAs", 16)
    assert len(made) == 2 and torch.equal(made.images, explained.examples.images[:2])
    expected = [explained.examples.targets[:2], explained.activation[:2], gradient[:2]]
    assert torch.allclose(made.conditions[:, :3], torch.stack(expected, 1))
    assert torch.allclose(made.conditions[:, 3:], explained.examples.conditions[:2])
    assert students.student_examples((explained, gradient, target), "image", 8).targets.shape == (5, 8, 8)
    with pytest.raises(InputError, match="did you mean 'image'"):
        students.student_examples((explained, gradient, target), "imge", 16)


def test_the_linear_control_finds_a_linear_target_and_needs_the_inputs_for_it():
    train, test = [source(seed=1), source(seed=2)], source(seed=3)
    found = students.controls(test, train, 16)
    assert torch.allclose(found["linear: free + CGMAs"], test[2], atol=1e-5)
    assert (found["linear: free"] - test[2]).abs().mean() > 0.01
    assert torch.equal(found["mean map"][0], found["mean map"][1])
    assert torch.allclose(found["mean map"][0], torch.cat([t[2] for t in train]).mean(0))
    assert torch.equal(found["Grad-CAM"], test[0].examples.targets)
    assert set(found) == set(amortise.STUDENT_CONTROLS)


def test_measures_of_known_maps():
    truth = torch.zeros(2, 4, 4)
    truth[:, :2] = 1
    mean = torch.full_like(truth, 0.5)
    found = metrics.measures(0.25 * truth, truth, mean)
    assert found["r"] == pytest.approx([1, 1]) and found["dice"].tolist() == [1, 1]
    assert found["squared error"] == pytest.approx([0.75**2 / 2] * 2)
    assert metrics.skill(found["squared error"], found["error of the mean map"]) == pytest.approx(-0.125)
    assert metrics.skill(np.zeros(2), np.ones(2)) == 1


def test_insertion_and_deletion_of_a_known_order():
    class Left(torch.nn.Module):
        """Sure of class 1 as far as the left column is white."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            p = images[:, 0, :, 0].mean(1).clamp(1e-6, 1 - 1e-6)
            return torch.stack([(1 - p).log(), p.log()], 1)

    left_first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])[None]
    found = students.areas(Left(), torch.ones(1, 3, 2, 2), torch.tensor([1]), left_first, 4)
    assert found["insertion"] == pytest.approx([0.75], abs=1e-4)
    assert found["deletion"] == pytest.approx([0.25], abs=1e-4)


def frame(gain, archs=("a", "b", "c", "d"), n=20, teachers=("SmoothGrad",)):
    """Scores in which CGMAs raise r by `gain[kind]`, with noise; every student inserts better than its teacher."""
    rng, rows = np.random.default_rng(0), []
    for teacher, arch, image in product(teachers, archs, range(n)):
        level = rng.uniform(0.3, 0.6)
        for kind, inputs in amortise.student_configs(KINDS):
            r = level + gain[kind] * (inputs == students.WITH) + 0.01 * rng.normal()
            rows.append([teacher, arch, image, amortise.named(kind, inputs), kind, inputs, r, 0.8, 0.2])
        for control in (*amortise.STUDENT_CONTROLS, students.FEW, students.MANY):
            rows.append(
                [teacher, arch, image, control, None, None, level - 0.2, 0.7 + 0.01 * rng.normal(), 0.3]
            )
    columns = ["teacher", "arch", "image", "method", "student", "inputs", "r", "insertion", "deletion"]
    found = pd.DataFrame(rows, columns=columns).assign(dataset="emnist", data="letters", dice=0.5)
    return found.assign(**{"squared error": 0.1, "error of the mean map": 0.2})


def test_go_needs_the_whole_interval_above_zero_for_the_mean_of_the_students():
    found = amortise.decision(frame({"LSFT": 0.1, "CNN": 0.06}))
    assert found["decision"].tolist() == ["go"] and found["n"].tolist() == [20]
    assert found["difference"].item() == pytest.approx(0.08, abs=0.01)
    by_student = amortise.by_student(frame({"LSFT": 0.1, "CNN": 0.06}))
    assert by_student["student"].tolist() == ["LSFT", "CNN"]
    assert by_student["difference"].to_numpy() == pytest.approx([0.1, 0.06], abs=0.01)
    for gain in ({"LSFT": 0.0, "CNN": 0.0}, {"LSFT": 0.1, "CNN": -0.1}, {"LSFT": -0.1, "CNN": -0.1}):
        assert amortise.decision(frame(gain))["decision"].tolist() == ["no-go"]


def test_one_training_that_fails_decides_nothing():
    """Three trainings, and in one of them the students without CGMAs draw nothing."""
    same = [frame({"LSFT": 0.0, "CNN": 0.0}).assign(seed=seed) for seed in range(3)]
    found = pd.concat(same, ignore_index=True)
    without = found["inputs"] == students.WITHOUT
    found.loc[without & (found["seed"] == 1), "r"] = 0
    assert amortise.decision(found)["difference"].item() > 0.1
    assert amortise.decision(found)["decision"].tolist() == ["no-go"]
    failed = amortise.failed(found).set_index("inputs")
    assert failed["below the mean map"].to_dict() == {students.WITHOUT: 8, students.WITH: 0}
    assert (failed["trainings"] == 2 * 4 * 3).all()


def test_fewer_than_four_cnns_decide_nothing():
    few = frame({"LSFT": 0.1, "CNN": 0.1}, archs=("a", "b", "c"))
    assert amortise.decision(few)["decision"].tolist() == [claims.UNTESTED]
    assert amortise.judged(few)["verdict"][0] == claims.UNTESTED


def test_students_that_have_learned_less_than_the_mean_map_decide_nothing():
    short = frame({"LSFT": 0.1, "CNN": 0.1})
    short.loc[short["method"] == "mean map", "r"] += 0.25  # between those with CGMAs and those without
    assert amortise.decision(short)["decision"].tolist() == ["go"]
    short.loc[short["method"] == "mean map", "r"] += 0.1
    assert amortise.decision(short)["decision"].tolist() == [claims.UNTESTED]


def test_the_decision_is_corrected_for_the_number_of_teachers():
    teachers = ("SmoothGrad", "RISE", "Score-CAM")
    found = amortise.decision(frame({"LSFT": 0.1, "CNN": 0.1}, teachers=teachers))
    assert found["teacher"].tolist() == [*teachers]
    assert found["p (Holm)"].to_numpy() == pytest.approx(3 * found["p"].to_numpy())
    assert amortise.decided(found) == "go for SmoothGrad, RISE, Score-CAM"
    mixed = found.assign(decision=["go", "no-go", "no-go"])
    assert amortise.decided(mixed) == "go for SmoothGrad; no-go for RISE, Score-CAM"


def test_claims_begin_with_what_decides():
    found = amortise.judged(frame({"LSFT": 0.1, "CNN": 0.1}, teachers=("SmoothGrad", "Score-CAM")))
    assert found["verdict"][:2].tolist() == ["holds", "holds"] and found["claim"].is_unique
    assert found["claim"][:2].str.contains("CGMAs help").all()
    own = found[found["claim"].str.contains("its teacher")]
    assert own["verdict"].unique().tolist() == ["holds"]
    nearer = own["claim"].str.contains(r"nearer to the truth than its teacher")
    assert own.loc[nearer, "claim"].str.startswith("SmoothGrad").all(), "Score-CAM is its own truth"
    assert {"where", "data here", "comparison", "n", "low", "high"} < set(found)
    assert found["data here"].unique().tolist() == ["letters"]


def test_students_are_compared_with_their_teacher_and_summed_up():
    found = amortise.against_teacher(frame({"LSFT": 0.1, "CNN": 0.1}))
    assert found["measure"].tolist() == ["insertion"] * 7 + ["deletion"] * 7
    assert found["difference"].to_numpy() == pytest.approx([0.1] * 7 + [-0.1] * 7, abs=0.005)
    total = amortise.summary(frame({"LSFT": 0.1, "CNN": 0.1}))
    assert total["skill"].str.startswith("0.50").all() and len(total) == 7 + 7


def test_sizes_can_be_given_one_by_one_and_are_checked():
    study = Study("smoke")
    own = amortise.sizes(study, width=2, test=None)
    assert own == replace(amortise.SIZES["smoke"], width=2)
    with pytest.raises(InputError, match="test is 0"):
        amortise.sizes(study, test=0)
    with pytest.raises(InputError, match="did you mean 'LSFT'"):
        amortise.sizes(study, kinds=("LSTF",))
    with pytest.raises(InputError, match="give them for SmoothGrad, RISE"):
        amortise.sizes(study, few={"RISE": 3})
    assert set(amortise.SIZES) == {"smoke", "cpu", "paper"}
    assert "settles nothing" in amortise.note(study)


ARCHS = ["vgg16", "resnet50", "mobilenet_v2", "xception"]


def test_a_cell_never_trains_on_the_cnn_or_the_samples_that_it_is_tested_with():
    study = Study("smoke", dataset="emnist")
    study._names["emnist", "embedded", None] = tuple("ABCDEFGHIJ")
    cell = amortise._cell(study, "emnist", ARCHS, "RISE", "xception", amortise.sizes(study))
    trained = [one["explained"]["cnn"]["arch"] for one in cell["train"]]
    assert trained == ARCHS[:3] and cell["test"]["explained"]["cnn"]["arch"] == "xception"
    seen = {c for one in cell["train"] for c in one["explained"]["images"]["classes"]}
    assert not seen & set(cell["test"]["explained"]["images"]["classes"])
    seeds = {cell["train"][0]["few"]["seed"], cell["test"]["few"]["seed"], cell["test"]["many"]["seed"]}
    assert len(seeds) == 3
    recipes = [student["recipe"] for student in cell["students"].values()]
    assert {(r["eta"], r["epochs"], r["adversarial"]) for r in recipes} == {(11, 1, "off")}
    certain = amortise._cell(study, "emnist", ARCHS, "Score-CAM", "vgg16", amortise.sizes(study))["test"]
    assert certain["few"] == certain["many"], "computed once"
    with pytest.raises(InputError, match="did you mean 'vgg16'"):
        amortise._cell(study, "emnist", ARCHS, "RISE", "vgg61", amortise.sizes(study))


def test_cnns_that_classify_badly_are_left_out(monkeypatch):
    table = pd.DataFrame({"arch": ARCHS, "accuracy": [0.9, 0.59, 0.6, 0.2]})
    asked = []
    monkeypatch.setattr(amortise.frames, "accuracies", lambda _, pairs: asked.append(pairs) or table)
    study = Study("smoke", dataset="emnist")
    assert amortise.kept(study, "emnist") == ["vgg16", "mobilenet_v2"]
    assert asked == [[("emnist", arch) for arch in ARCHS]]
    monkeypatch.setattr(amortise.frames, "accuracies", lambda *_: table.iloc[[0, 1]])
    with pytest.raises(InputError, match="one is left out at a time"):
        amortise.kept(study, "emnist")


@pytest.fixture
def two_cnns(monkeypatch):
    """A tiny study on MNIST whose two CNNs, fitted for an epoch, both count as good."""
    cnn = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
    study = Study(
        "smoke", dataset="mnist", similar={"mnist": {"source": "embedded", "train": 40, "test": 40}},
        trial={"datasets": ["mnist"], "gan_train": 4, "gan_test": 4, "gan_epochs": 1}, extra=(),
        cnns={"vgg16": cnn, "mobilenet_v2": cnn}, cnn_width=0.0625, size=16, last_map=2, gan_size=16,
        gan_train=4, gan_test=4, workers=1,
    )  # fmt: skip
    monkeypatch.setattr(amortise, "LEAST_ACCURACY", 0)
    monkeypatch.setattr(amortise, "TEACHERS", ("RISE", "Score-CAM"))
    own = amortise.sizes(
        study, train=4, test=3, kinds=KINDS, width=2, steps=2, timed=1,
        few={"SmoothGrad": 1, "RISE": 2}, many={"SmoothGrad": 2, "RISE": 4}, trainings=2,
    )  # fmt: skip
    return study, own


def test_the_whole_trial(two_cnns):
    study, own = two_cnns
    found = amortise.measure(study, "mnist", own)
    methods = [amortise.named(*pupil) for pupil in amortise.student_configs(KINDS)]
    methods += [*amortise.STUDENT_CONTROLS, students.FEW, students.MANY]
    assert found["method"].unique().tolist() == methods
    assert len(found) == 2 * 2 * 2 * len(methods) * 3, "teachers, left-out CNNs, trainings, methods, images"
    r = found.pivot(index=["teacher", "arch", "method", "image"], columns="seed", values="r")
    trained = r.index.get_level_values("method").isin(methods[:7])
    assert (r[trained][0] != r[trained][1]).mean() > 0.9 and (r[~trained][0] == r[~trained][1]).all()
    assert found[["r", "squared error", "dice", "insertion", "deletion"]].notna().all(axis=None)
    truth = found[found["method"] == students.MANY]
    assert (truth["squared error"] == 0).all()
    mean = found[found["method"] == "mean map"]
    assert (mean["squared error"] == mean["error of the mean map"]).all()
    assert found.loc[found["method"].isin(amortise.STUDENT_CONTROLS), "student"].isna().all()
    again = amortise.drawn(study, "mnist", "RISE", "vgg16", own)
    assert all(maps.shape == (3, 16, 16) and maps.min() >= 0 and maps.max() <= 1 for maps in again.values())
    assert (amortise.decision(found)["decision"] == claims.UNTESTED).all()

    taken = amortise.times(study, "mnist", own)
    assert (taken["seconds"] > 0).all() and (taken.loc[taken["method"] == students.FEW, "ratio"] == 1).all()
    wide = taken.query("teacher == 'RISE' and arch == 'vgg16'").set_index("method")["seconds"]
    offered = amortise.traded(found, taken)
    assert offered["method"].tolist() == 2 * methods[:7] and offered.notna().all(axis=None)
    assert wide["CNN: image"] < wide["CNN: image + free"] < wide["CNN: image + free + CGMAs"]
