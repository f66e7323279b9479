"""Networks: the SFT equation by hand, who is conditioned by what, sizes, counts, and a start that does not explode."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sftgan.errors import InputError
from sftgan.gan.networks import (
    KINDS,
    ConcatGenerator,
    ConditionNetwork,
    Discriminator,
    Generator,
    ResidualBlock,
    SFTBlock,
    SFTLayer,
    concat_width,
    conv_chain,
    count_parameters,
    flops,
    same_conv,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def batch(n=2, size=16, eta=8, cam=None):
    return torch.rand(n, 3, size, size), torch.rand(n, eta, cam or size, cam or size)


def activate_sft(generator):
    """Enlarge the damped ends of the SFT branches, so that conditions have a visible effect."""
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, SFTLayer):
                module.scale[-1].weight.mul_(10)
                module.shift[-1].weight.mul_(10)
    return generator.eval()


def test_sft_layer_by_hand():
    layer = SFTLayer(features=1, condition_features=1, kernel_size=1)
    values = {"scale.0": (2.0, -1.0), "scale.2": (3.0, 0.5), "shift.0": (-1.0, 0.0), "shift.2": (10.0, 1.0)}
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            layer.get_submodule(name).weight.fill_(weight)
            layer.get_submodule(name).bias.fill_(bias)
    x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    cond = torch.tensor([[[[0.0, 1.0], [0.5, -2.0]]]])
    # scale = 3 * leaky(2c - 1) + 0.5 =  [[0.2, 3.5], [0.5, -1.0]]
    # shift = 10 * leaky(-c) + 1      =  [[1.0, 0.0], [0.5, 21.0]]
    # x * (scale + 1) + shift
    expected = torch.tensor([[[[2.2, 9.0], [5.0, 21.0]]]])
    torch.testing.assert_close(layer(x, cond), expected)


def test_sft_layer_without_conditions_passes_features_on():
    layer = SFTLayer(features=5, condition_features=3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    x = torch.rand(2, 5, 4, 4)
    assert torch.equal(layer(x, torch.rand(2, 3, 4, 4)), x)


def test_blocks_by_hand():
    x, cond = torch.rand(2, 3, 5, 5) - 0.5, torch.rand(2, 2, 5, 5)
    for skip in (False, True):
        block = SFTBlock(SFTLayer(3, 2), 3, nn.ReLU(), skip=skip)
        modulated = F.relu(block.conv(block.sft(x, cond)))
        torch.testing.assert_close(block(x, cond), modulated + x if skip else modulated)
    block = ResidualBlock(conv_chain((3, 6, 3), (3, 1), slope=0.1), nn.LeakyReLU(0.3))
    inner = block.convs[2](F.leaky_relu(block.convs[0](x), 0.1))
    torch.testing.assert_close(block(x), x + F.leaky_relu(inner, 0.3))


def test_even_kernel_looks_one_pixel_further_down_and_right():
    conv = same_conv(1, 1, 4)
    with torch.no_grad():
        conv[1].weight.fill_(1.0)
        conv[1].bias.zero_()
    out = conv(torch.ones(1, 1, 5, 5))[0, 0]
    assert out.shape == (5, 5)
    assert out[0].tolist() == [9, 12, 12, 9, 6]  # 3 rows times 3, 4, 4, 3, 2 columns


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: Generator("lsft", variant="released"), 2_160_419),
        (lambda: Generator("gsft", variant="released"), 3_156_195),
        (lambda: Discriminator(variant="released", size=64), 1_122_209),
    ],
    ids=["lsft", "gsft", "discriminator"],
)
def test_released_parameter_counts(network, count):
    assert count_parameters(network()) == count


def test_frozen_parameters_are_not_counted():
    assert count_parameters(ConditionNetwork(1, 4, 2, (3, 1))) == (9 * 4 + 4) + (4 * 2 + 2)
    assert count_parameters(ConditionNetwork(1, 4, 2, (3, 1)).requires_grad_(False)) == 0


@pytest.mark.parametrize(("width", "eta"), [(8, 8), (64, 8), (5, 3)])
def test_kinds_differ_only_in_the_first_convolution_of_the_condition_network(width, eta):
    shapes = {
        kind: {name: tuple(p.shape) for name, p in Generator(kind, eta, width).named_parameters()}
        for kind in KINDS
    }
    different = [name for name, shape in shapes["lsft"].items() if shapes["gsft"].pop(name) != shape]
    assert shapes["gsft"] == {}
    assert different == ["condition_network.0.0.weight"]


@pytest.mark.parametrize("eta", [1, 3, 8])
def test_paper_trunk_is_triplets(eta):
    names = [type(block).__name__ for block in Generator("lsft", eta=eta, width=4).trunk]
    assert names == ["ResidualBlock", "SFTBlock", "ResidualBlock"] * eta


@pytest.mark.parametrize(("kind", "blocks"), [("lsft", 8), ("gsft", 32)])
def test_only_released_sft_blocks_have_skips(kind, blocks):
    for variant, expected in (("paper", [False] * 8), ("released", [True] * blocks)):
        trunk = Generator(kind, width=4, variant=variant).trunk
        assert [block.skip for block in trunk if isinstance(block, SFTBlock)] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "height", "width"), [(1, 32, 32), (3, 17, 24), (2, 1, 5)])
def test_maps_have_the_size_of_the_images(kind, n, height, width):
    generator = Generator(kind, eta=3, width=4)
    maps = generator(torch.rand(n, 3, height, width), torch.rand(n, 3, 7, 9))
    assert maps.shape == (n, height, width)
    assert maps.dtype == torch.float32
    assert ((maps > 0) & (maps < 1)).all()
    assert maps.std() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_released_generator_makes_a_picture_without_activation(kind):
    images, conditions = batch(size=12)
    generator = Generator(kind, width=8, variant="released")
    picture = generator(images, conditions)
    assert picture.shape == (2, 3, 12, 12)
    assert torch.equal(picture, generator.logits(images, conditions))
    assert picture.min() < 0


def sft_inputs(generator, images, conditions):
    """The condition features that each SFT layer receives, in order."""
    seen = []
    layers = [m for m in generator.modules() if isinstance(m, SFTLayer)]
    handles = [
        layer.register_forward_hook(lambda _m, args, _out: seen.append(args[1].clone())) for layer in layers
    ]
    generator(images, conditions)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_lsft_feeds_cgma_k_to_sft_block_k(variant):
    images, conditions = batch(n=3)
    generator = Generator("lsft", width=8, variant=variant).eval()
    seen = sft_inputs(generator, images, conditions)
    assert len(seen) == 8
    for k, features in enumerate(seen):
        torch.testing.assert_close(features, generator.condition_network(conditions[:, k : k + 1]))


@pytest.mark.parametrize(("variant", "layers"), [("paper", 8), ("released", 33)])
def test_gsft_feeds_all_cgmas_to_every_sft_layer(variant, layers):
    images, conditions = batch(n=3)
    generator = Generator("gsft", width=8, variant=variant).eval()
    seen = sft_inputs(generator, images, conditions)
    assert len(seen) == layers
    for features in seen:
        torch.testing.assert_close(features, generator.condition_network(conditions))


@pytest.mark.parametrize("kind", KINDS)
def test_every_cgma_and_the_image_matter(kind):
    images, conditions = batch()
    generator = activate_sft(Generator(kind, width=8))
    base = generator(images, conditions)
    for k in range(8):
        changed = conditions.clone()
        changed[:, k] = 1 - changed[:, k]
        assert (generator(images, changed) - base).abs().max() > 1e-5, k
    assert (generator(1 - images, conditions) - base).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_batch_are_independent(kind):
    images, conditions = batch(n=4)
    generator = activate_sft(Generator(kind, width=8))
    together = generator(images, conditions)
    apart = torch.cat([generator(images[i : i + 1], conditions[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_of_another_size_are_resized(kind):
    generator = activate_sft(Generator(kind, width=8))
    images, coarse = batch(size=16, cam=4)
    resized = F.interpolate(coarse, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(generator(images, coarse), generator(images, resized), rtol=0, atol=1e-6)


def test_finer_conditions_are_averaged_not_sampled():
    generator = Generator("gsft", eta=2, width=4)
    stripes = torch.zeros(1, 2, 64, 64)
    stripes[..., ::4] = 1.0  # a quarter of the columns, none of which a plain bilinear resize would see
    seen = []
    generator.condition_network.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    generator(torch.rand(1, 3, 16, 16), stripes)
    assert seen[0].shape == (1, 2, 16, 16)
    torch.testing.assert_close(seen[0][..., 2:-2], torch.full((1, 2, 16, 12), 0.25))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "variant"), [(8, "paper"), (64, "paper"), (8, "released")])
def test_fresh_generators_put_out_moderate_numbers(kind, width, variant):
    images, conditions = batch(n=2, size=32)
    with torch.no_grad():
        out = Generator(kind, width=width, variant=variant).logits(images, conditions)
    assert out.mean().abs() < 3
    assert 0.01 < out.std() < 3


@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_reduce_the_loss_and_keep_numbers_moderate(kind):
    images, conditions = batch(n=8, size=32)
    target = conditions[:, -1] * images[:, 0]
    generator = Generator(kind, width=8)
    optimiser = torch.optim.Adam(generator.parameters(), lr=2e-4)
    losses = []
    for _ in range(10):
        loss = F.mse_loss(generator(images, conditions), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(later < earlier for earlier, later in zip(losses, losses[1:], strict=False)), losses
    assert all(p.grad.abs().max() > 0 for name, p in generator.named_parameters() if name.endswith("weight"))
    with torch.no_grad():
        out = generator.logits(images, conditions)
    assert out.mean().abs() < 3
    assert 0.01 < out.std() < 3


def test_seed_decides_the_weights():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(Generator("lsft", width=4).head.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_weights_survive_saving_and_loading(tmp_path):
    images, conditions = batch()
    saved, loaded = Generator("lsft", width=4), Generator("lsft", width=4)
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(saved(images, conditions), loaded(images, conditions))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 20)])
def test_paper_discriminator_gives_one_logit_per_pair(height, width):
    discriminator = Discriminator(width=8)
    images, maps = torch.rand(3, 3, height, width), torch.rand(3, height, width)
    logits = discriminator(images, maps)
    assert logits.shape == (3,)
    assert logits.abs().max() < 10
    assert (discriminator(1 - images, maps) - logits).abs().min() > 1e-4
    assert (discriminator(images, 1 - maps) - logits).abs().min() > 1e-4


def test_released_discriminator_gives_one_logit_per_pair():
    discriminator = Discriminator(width=8, variant="released", size=32)
    images, maps = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)
    logits = discriminator(images, maps)
    assert logits.shape == (3,)
    assert logits.isfinite().all()
    assert (discriminator(maps, images) - logits).abs().max() > 1e-4
    with pytest.raises(InputError, match="images are 16 x 16: resize them to 32 x 32"):
        discriminator(images[..., :16, :16], maps[..., :16, :16])


def test_discriminator_learns_which_maps_belong_to_an_image():
    discriminator = Discriminator(width=8)
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    images = torch.rand(16, 3, 1, 1).expand(-1, -1, 16, 16).contiguous()
    real, fake = images[:, 0], 1 - images[:, 0]
    for _ in range(60):
        logits = torch.cat([discriminator(images, real), discriminator(images, fake)])
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat([torch.ones(16), torch.zeros(16)]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.55  # chance is 0.69; either input alone says nothing


def test_flops_by_hand():
    generator = Generator("gsft", eta=1, width=4)
    condition_net = 9 * 1 * 8 + 8 * 4
    triplet = 2 * (9 * 16 + 16 + 9 * 16) + 4 * 16 + 9 * 16
    multiply_adds = (9 * 3 * 4 + condition_net + triplet + 9 * 4 * 1) * 10 * 10
    assert flops(generator, 10) == 2 * multiply_adds
    assert flops(generator, 20) == 4 * flops(generator, 10)


def test_lsft_spends_more_on_conditions():
    lsft, gsft = (flops(Generator(kind, width=8), 16) for kind in KINDS)
    assert lsft - gsft == 2 * 256 * (8 * (9 * 16 + 16 * 4) - (8 * 9 * 16 + 16 * 4))


LSFT = Generator("lsft", eta=3, width=4)
IMAGES, CONDITIONS = torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Generator("lsf"), "unknown generator 'lsf': did you mean 'lsft'"),
        (lambda: Generator("lsft", variant="release"), "unknown variant 'release': did you mean 'released'"),
        (lambda: Discriminator(variant="papers"), "unknown variant 'papers': did you mean 'paper'"),
        (lambda: Generator("lsft", eta=0), "eta, the number of CGMAs, is 0"),
        (lambda: Generator("lsft", width=2.5), "width, the number of features, is 2.5"),
        (lambda: Discriminator(variant="released", size=8), "size is 8: give"),
        (
            lambda: LSFT(IMAGES, torch.zeros(2, 8, 16, 16)),
            "hold 8 CGMAs per image but this generator takes 3",
        ),
        (lambda: LSFT(IMAGES, CONDITIONS[:1]), "1 sets of conditions for 2 images"),
        (lambda: LSFT(IMAGES, CONDITIONS[0]), r"conditions have shape \(3, 16, 16\)"),
        (lambda: LSFT(IMAGES[0], CONDITIONS), r"images have shape \(3, 16, 16\)"),
        (lambda: LSFT(IMAGES[:, :1], CONDITIONS), r"images have shape \(2, 1, 16, 16\)"),
        (lambda: LSFT(IMAGES.byte(), CONDITIONS), "images are torch.uint8"),
        (lambda: LSFT(IMAGES[..., :0], CONDITIONS), "images are 16 x 0: give at least 1 x 1"),
        (
            lambda: Discriminator(4)(IMAGES[..., :15], IMAGES[:, 0, :, :15]),
            "images are 16 x 15: give at least 16 x 16",
        ),
        (lambda: Discriminator(4)(IMAGES, IMAGES), r"maps have shape \(2, 3, 16, 16\): .*\(2, 16, 16\)"),
    ],
)
def test_unusable_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


@pytest.mark.parametrize("width", [4, 8, 16])
def test_the_plain_net_has_as_many_parameters_as_lsft(width):
    plain, lsft = ConcatGenerator(8, concat_width(width)), Generator("lsft", 8, width)
    assert count_parameters(plain) == pytest.approx(count_parameters(lsft), rel=0.1)


@pytest.mark.parametrize("eta", [0, 3])
def test_the_plain_net_sees_image_and_conditions(eta):
    net = ConcatGenerator(eta, 6).eval()
    images, conditions = torch.rand(2, 3, 16, 16), torch.rand(2, eta, 8, 8)
    maps = net(images, conditions)
    assert maps.shape == (2, 16, 16) and 0 < maps.min() < maps.max() < 1
    assert not torch.equal(maps, net(images.flip(3), conditions))
    assert torch.equal(maps, net(images, conditions.flip(3))) == (eta == 0)
    with pytest.raises(InputError, match="compute them with eta"):
        net(images, torch.rand(2, 5, 8, 8))


def test_a_generator_of_pictures_has_three_channels():
    images, conditions = torch.rand(2, 3, 16, 16), torch.rand(2, 4, 16, 16)
    pictures = Generator("gsft", 4, 4, channels=3)(images, conditions)
    assert pictures.shape == (2, 3, 16, 16) and 0 < pictures.min() < pictures.max() < 1
    assert Discriminator(4, channels=3)(images, pictures).shape == (2,)
