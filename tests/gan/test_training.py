"""Adversarial training: it learns, repeats itself bit for bit, and survives kills and full disks."""

import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from sftgan.errors import InputError
from sftgan.files import load_checkpoint
from sftgan.gan.examples import Examples
from sftgan.gan.training import GANRecipe, TrainedGAN, generate, train_gan
from sftgan.metrics import binarise, dice

ROOT = Path(__file__).parents[2]
LONG = GANRecipe(eta=3, width=4, epochs=24, batch=8, lr=2e-3)  # long enough to be killed in the middle


def examples(n=24, seed=0) -> Examples:
    """The target is the last condition, so there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    conditions = F.interpolate(coarse, (16, 16), mode="bilinear")
    return Examples(torch.rand(n, 3, 16, 16, generator=generator), conditions, conditions[:, -1].clone())


def train(recipe: GANRecipe, seed=0, checkpoint=None) -> TrainedGAN:
    return train_gan(examples(), examples(5, seed=1), recipe, seed, checkpoint)


def assert_same(a: TrainedGAN, b: TrainedGAN):
    """Bit for bit."""
    mine, other = a.generator.state_dict(), b.generator.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert a.losses == b.losses
    assert a.epochs == b.epochs
    assert torch.equal(a.previews, b.previews)


def small(**changes) -> GANRecipe:
    return GANRecipe(**{"eta": 3, "width": 4, "epochs": 3, "batch": 8, "lr": 5e-3} | changes)


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return train(small())


@pytest.mark.parametrize("kind", ["lsft", "gsft"])
def test_it_learns(kind):
    gan = train(small(kind=kind, epochs=20))
    reconstruction = pd.DataFrame(gan.losses).groupby("epoch")["reconstruction"].mean()
    assert reconstruction[20] < 0.5 * reconstruction[1]
    targets = examples(5, seed=1).targets
    errors = [F.mse_loss(maps, targets).item() for maps in (gan.previews[0], gan.previews[-1])]
    overlaps = [
        dice(binarise(maps), binarise(targets)).mean() for maps in (gan.previews[0], gan.previews[-1])
    ]
    assert errors[1] < 0.5 * errors[0] and overlaps[1] > overlaps[0]


def test_the_discriminator_learns_too():
    """Against a generator that hardly moves, it tells real from generated better than by guessing."""
    losses = pd.DataFrame(train(small(epochs=8, weight=1e-6)).losses).groupby("epoch")["discriminator"].mean()
    assert losses[8] < losses[1] < 1 and losses[8] < 0.66


def test_rows_of_losses_and_epochs_and_previews(trained):
    losses, epochs = pd.DataFrame(trained.losses), pd.DataFrame(trained.epochs)
    assert list(losses) == ["step", "epoch", "discriminator", "adversarial", "reconstruction"]
    assert list(losses["step"]) == list(range(1, 10)) and list(losses["epoch"]) == [1] * 3 + [2] * 3 + [3] * 3
    assert list(epochs["epoch"]) == [0, 1, 2, 3] and list(epochs["step"]) == [0, 3, 6, 9]
    assert trained.previews.shape == (4, 5, 16, 16)


def test_the_generator_comes_back_ready_to_use(trained):
    assert not trained.generator.training and trained.generator.eta == 3
    maps = generate(trained.generator, examples(5, seed=1))
    assert torch.equal(maps, trained.previews[-1]) and not maps.requires_grad
    in_parts = generate(trained.generator, examples(5, seed=1), batch=2)
    torch.testing.assert_close(in_parts, maps, rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(trained):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = train(small())
    assert torch.equal(torch.rand(3), expected)
    assert_same(trained, again)


@pytest.mark.parametrize(
    "change", [{"lr": 4e-3}, {"weight": 10.0}, {"reconstruction": "mae"}, {"kind": "gsft"}]
)
def test_every_part_of_the_recipe_counts(trained, change):
    other = train(small(**change))
    assert (
        pd.DataFrame(other.losses)["reconstruction"].iloc[-1]
        != pd.DataFrame(trained.losses)["reconstruction"].iloc[-1]
    )


def test_another_seed_gives_other_weights(trained):
    other = train(small(), seed=1).generator.state_dict()
    assert not torch.equal(other["head.weight"], trained.generator.state_dict()["head.weight"])


def test_the_watched_examples_choose_nothing(trained):
    other = train_gan(examples(), examples(3, seed=9), small())
    assert other.losses == trained.losses


def test_reconstruction_losses_are_what_they_are_called():
    """The first step's, by hand: the net is the untrained one, the batch is everything."""
    n = len(examples())
    mse, mae = (train(small(reconstruction=r, epochs=1, batch=n)) for r in ("mse", "mae"))
    maps = generate(_untrained(), examples())
    targets = examples().targets
    assert mse.losses[0]["reconstruction"] == pytest.approx((maps - targets).square().mean().item(), rel=1e-4)
    assert mae.losses[0]["reconstruction"] == pytest.approx((maps - targets).abs().mean().item(), rel=1e-4)


def _untrained():
    from sftgan.gan.networks import Generator

    torch.manual_seed(0)
    return Generator("lsft", eta=3, width=4)


def test_losses_that_are_not_finite_end_the_training_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"loss became (nan|inf): lower the learning rate \(now 1e\+20\)"):
        train(small(lr=1e20), checkpoint=tmp_path / "gan.pt")
    bad = examples()
    bad.targets[3, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"loss became nan: lower .* weight of the reconstruction loss"):
        train_gan(bad, examples(5, seed=1), small())


def test_weights_that_the_last_step_makes_infinite_are_said_in_the_same_sentence():
    with pytest.raises(InputError, match="lower the learning rate"):
        train(small(lr=1e3, weight=1e20, epochs=1, batch=24))


def test_unknown_reconstruction_and_generator():
    with pytest.raises(InputError, match="unknown reconstruction 'msa': did you mean"):
        train(small(reconstruction="msa"))
    with pytest.raises(InputError, match="unknown generator 'lstf': did you mean 'lsft'"):
        train(small(kind="lstf"))


def test_a_finished_training_is_not_repeated(tmp_path, trained, monkeypatch):
    checkpoint = tmp_path / "gan.pt"
    assert_same(train(small(), checkpoint=checkpoint), trained)
    monkeypatch.setattr("sftgan.gan.training._step", None)  # whoever trains, fails
    assert_same(train(small(), checkpoint=checkpoint), trained)


def test_a_damaged_checkpoint_costs_time_only(tmp_path, trained):
    checkpoint = tmp_path / "gan.pt"
    train(small(epochs=2), checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="damaged"):
        assert_same(train(small(), checkpoint=checkpoint), trained)


def test_concatenate_and_subset():
    both = Examples.concatenate([examples(4), examples(3, seed=1)])
    assert len(both) == 7
    part = both.subset(torch.tensor([4, 0]))
    assert torch.equal(part.images, torch.stack([examples(3, seed=1).images[0], examples(4).images[0]]))
    assert torch.equal(part.targets, part.conditions[:, -1])


# Trainings in processes of their own: `python -c "import test_training; test_training.main_...(path)"`


def start(function: str, folder: Path) -> subprocess.Popen:
    code = f"import sys; from tests.gan import test_training; test_training.{function}(sys.argv[1])"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def main_train(folder: str):
    torch.set_num_threads(1)
    result = train(LONG, checkpoint=Path(folder, "gan.pt"))
    Path(folder, "result.pkl").write_bytes(pickle.dumps(result))


def main_full_disk(folder: str):
    """A limit on the size of files stands for a full disk; then it is lifted."""
    torch.set_num_threads(1)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        train(small(), checkpoint=Path(folder, "gan.pt"))
        said = "nothing"
    except InputError as error:
        said = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    Path(folder, "said.txt").write_text(said)
    Path(folder, "files.txt").write_text("\n".join(sorted(f.name for f in Path(folder).iterdir())))
    left = load_checkpoint(Path(folder, "gan.pt"))
    Path(folder, "epochs.txt").write_text(str(len(left["previews"]) - 1))
    result = train(small(), checkpoint=Path(folder, "gan.pt"))
    Path(folder, "result.pkl").write_bytes(pickle.dumps(result))


def finish(process: subprocess.Popen, folder: Path) -> TrainedGAN:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return pickle.loads((folder / "result.pkl").read_bytes())


def test_a_killed_training_ends_with_the_same_bits(tmp_path):
    checkpoint = tmp_path / "gan.pt"
    process = start("main_train", tmp_path)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # somewhere in the middle of an epoch
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the training ended before it could be killed"
    done = len(load_checkpoint(checkpoint)["previews"]) - 1
    assert 1 <= done < LONG.epochs and not (tmp_path / "result.pkl").exists()
    resumed = finish(start("main_train", tmp_path), tmp_path)
    assert_same(resumed, train(LONG))


def test_a_full_disk_loses_nothing(tmp_path, trained):
    train(small(epochs=1), checkpoint=tmp_path / "gan.pt")
    resumed = finish(start("main_full_disk", tmp_path), tmp_path)
    said = (tmp_path / "said.txt").read_text()
    assert f"the checkpoint {tmp_path / 'gan.pt'} could not be written" in said and "make room" in said
    assert (tmp_path / "files.txt").read_text().split() == ["gan.pt", "said.txt"], "a .part file is left"
    assert (tmp_path / "epochs.txt").read_text() == "1", "the checkpoint of the first epoch is lost"
    assert_same(resumed, trained)


@pytest.mark.parametrize(
    "switch",
    [
        {"output": "jet"}, {"adversarial": "softmax"}, {"adversarial": "off"}, {"discriminator_period": 3},
        {"discriminator_input": "released"}, {"layers": "released"}, {"modulation": "concatenation"},
        {"output": "jet", "layers": "released", "discriminator_input": "released"},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_trains_something_else(switch):
    plain = train_gan(examples(), examples(5, seed=1), small())
    trained = train_gan(examples(), examples(5, seed=1), small(**switch))
    maps = generate(trained.generator, examples(5, seed=1))
    assert maps.shape == (5, 16, 16) and 0 <= maps.min() <= maps.max() <= 1
    assert not torch.equal(maps, generate(plain.generator, examples(5, seed=1)))


def test_the_plain_net_starts_from_the_seed_whatever_was_built_before():
    """Looking for its width draws random numbers: doing so once only would give the second net another start."""
    first, second = (train(small(modulation="concatenation")) for _ in range(2))
    assert_same(first, second)


def test_a_softmax_over_one_unit_teaches_nothing():
    """It differs from no adversarial loss by a constant, so generators end up the same."""
    off, softmax = (
        train_gan(examples(), examples(5, seed=1), small(adversarial=name)) for name in ("off", "softmax")
    )
    for a, b in zip(off.generator.parameters(), softmax.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert pd.DataFrame(softmax.losses)["adversarial"].eq(0).all()
    assert pd.DataFrame(off.losses)[["discriminator", "adversarial"]].eq(0).all(axis=None)


def test_the_discriminator_waits_for_its_period():
    """Nothing but its first step moves it: from then on its losses differ from those of one that is always trained."""
    every, never = (
        train_gan(examples(), examples(5, seed=1), small(discriminator_period=n)) for n in (1, 10**6)
    )
    assert pd.DataFrame(every.losses)["discriminator"][0] == pd.DataFrame(never.losses)["discriminator"][0]
    assert (
        pd.DataFrame(every.losses)["discriminator"].iloc[-1]
        != pd.DataFrame(never.losses)["discriminator"].iloc[-1]
    )
