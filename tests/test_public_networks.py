"""The plain GANs at public width equal the published networks: shapes, and outputs of a literal transcription.

Sources: DCGAN arXiv:1511.06434 with the layers of SN-GAN's Table 3; SN-GAN arXiv:1802.05957, Tables 3 and 4; AutoGAN
arXiv:1908.03835, the architecture found for CIFAR-10; BigGAN arXiv:1809.11096, appendix C, as trained on CIFAR-10.
"""

import pytest
import torch
import torch.nn.functional as F

from training.architectures import build

CLASSES = 10


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def network(name, player, **more):
    size = {"c_dim": CLASSES if name == "biggan" else 0, "img_resolution": 32, "img_channels": 3, "width": 64}
    return build(name, player, size | ({"z_dim": 128} if player == "G" else more))


def inputs(name, count=3):
    c = torch.eye(CLASSES)[:count] if name == "biggan" else torch.zeros(count, 0)
    return torch.randn(count, 128), c, torch.rand(count, 3, 32, 32) * 2 - 1


def norm(x, layer):
    """Batch normalisation by the batch's own statistics."""
    return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True)


def conv(x, layer, **how):
    return F.conv2d(x, weight_of(layer), layer.bias, padding=layer.kernel_size[0] // 2, **how)


def weight_of(layer):
    """The weight, over sigma if the layer has spectral normalisation: sigma = u^T W v (arXiv:1802.05957, Alg. 1)."""
    if not hasattr(layer, "parametrizations"):
        return layer.weight
    found = layer.parametrizations.weight
    matrix = found.original.flatten(1)
    return found.original / (found[0]._u @ matrix @ found[0]._v)


def linear(x, layer):
    return F.linear(x, weight_of(layer), layer.bias)


def up(x, mode="nearest"):
    return F.interpolate(x, scale_factor=2, mode=mode)


# ---- Generators


def standard_generator(G, z):
    """Dense to 4x4x512, BN, ReLU; three 4x4 transposed convolutions of stride 2 to 256, 128, 64; a 3x3 to RGB; tanh."""
    s = G.synthesis
    x = norm(linear(z, s.first).view(-1, 512, 4, 4), s.start[0]).relu()
    for block, channels in zip(s.blocks, (256, 128, 64)):
        x = F.conv_transpose2d(x, block[0].weight, block[0].bias, stride=2, padding=1)
        assert x.shape[1] == channels
        x = norm(x, block[1]).relu()
    return conv(x, s.image[0]).tanh()


def residual_generator(G, z):
    """Dense to 4x4x256; three blocks BN, ReLU, up, 3x3, BN, ReLU, 3x3, beside up and 1x1; BN, ReLU, 3x3, tanh."""
    s = G.synthesis
    x = linear(z, s.first).view(-1, 256, 4, 4)
    for block in s.blocks:
        inner = conv(up(norm(x, block.one[0]).relu()), block.one[3])
        x = conv(up(x), block.skip) + conv(norm(inner, block.two[0]).relu(), block.two[2])
    return conv(norm(x, s.image[0]).relu(), s.image[2]).tanh()


def autogan_generator(G, z):
    """Three cells of 256. A cell's first map goes to its second convolution and to all later cells. Each of these
    enlarges it in its own way, applies a 1x1, and adds it to its own first map."""
    one, two, three = G.synthesis.cells
    x0 = linear(z, G.synthesis.first).view(-1, 256, 4, 4)
    h1 = conv(up(x0.relu()), one.one)
    x1 = conv(h1.relu(), one.two) + conv(up(x0), one.shortcut)
    h2 = conv(up(x1.relu(), "bilinear"), two.one) + conv(up(h1, "bilinear"), two.joins[0])
    x2 = conv(h2.relu(), two.two) + conv(up(x1, "bilinear"), two.shortcut)
    h3 = conv(up(x2.relu()), three.one)
    h3 = h3 + conv(F.interpolate(h1, scale_factor=4), three.joins[0]) + conv(up(h2), three.joins[1])
    x3 = conv(h3.relu(), three.two)
    image = G.synthesis.image
    return conv(norm(x3, image[0]).relu(), image[2]).tanh()


def biggan_generator(G, z, c):
    """SN-GAN's blocks with spectral norm, and batch norm whose scale and shift are linear in the class."""
    s = G.synthesis

    def class_norm(x, layer):
        scale, shift = c @ layer.scale.weight.T, c @ layer.shift.weight.T
        normal = (x - x.mean(dim=[0, 2, 3], keepdim=True)) / (
            x.var(dim=[0, 2, 3], keepdim=True, correction=0) + 1e-5
        ).sqrt()
        return normal * (1 + scale[:, :, None, None]) + shift[:, :, None, None]

    x = linear(z, s.first).view(-1, 256, 4, 4)
    for block in s.blocks:
        w = block.weights
        inner = conv(up(class_norm(x, block.norms[0]).relu()), w["one"])
        x = conv(up(x), w["skip"]) + conv(class_norm(inner, block.norms[1]).relu(), w["two"])
    return conv(norm(x, s.image[0]).relu(), s.image[2]).tanh()


@pytest.mark.parametrize("name", ["dcgan", "sngan-cnn", "sngan-resnet", "autogan", "biggan"])
def test_a_generator_at_public_width_matches_the_transcription(name):
    G, (z, c, _) = network(name, "G"), inputs(name)
    if name == "biggan":
        for layer in (
            layer for block in G.synthesis.blocks for norms in block.norms for layer in (norms.scale, norms.shift)
        ):
            torch.nn.init.normal_(layer.weight)  # their initial value is 0
    transcription = {
        "dcgan": standard_generator,
        "sngan-cnn": standard_generator,
        "sngan-resnet": residual_generator,
        "autogan": autogan_generator,
        "biggan": lambda G, z: biggan_generator(G, z, c),
    }[name]
    with torch.no_grad():
        G.train()(z, c)  # a power iteration; afterwards u and v are fixed
        for part in G.modules():
            if hasattr(part, "parametrizations"):
                part.eval()
        torch.testing.assert_close(G(z, c), transcription(G, z), atol=1e-5, rtol=1e-4)


# ---- Discriminators


def dcgan_discriminator(D, img):
    """4x4 of stride 2 to 64, 128, 256; batch norm but in the first; leaky ReLU of 0.2; dense."""
    x = img
    for i, (block, channels) in enumerate(zip(D.blocks, (64, 128, 256))):
        x = F.conv2d(x, block[0].weight, block[0].bias, stride=2, padding=1)
        assert x.shape[1] == channels
        x = F.leaky_relu(norm(x, block[1]) if i else x, 0.2)
    return F.linear(x.flatten(1), D.out.weight, D.out.bias)


def sngan_cnn_discriminator(D, img):
    """3x3 and 4x4 of stride 2 at 64, 128, 256, a 3x3 of 512; leaky ReLU of 0.1; dense."""
    x = img
    for block, channels in zip(D.blocks, (64, 128, 256)):
        x = F.leaky_relu(conv(x, block[0]), 0.1)
        x = F.leaky_relu(F.conv2d(x, weight_of(block[3]), block[3].bias, stride=2, padding=1), 0.1)
        assert x.shape[1] == channels
    x = F.leaky_relu(conv(x, D.blocks[3][0]), 0.1)
    assert x.shape[1:] == (512, 4, 4)
    return linear(x.flatten(1), D.out)


def residual_discriminator(D, img, channels):
    """Blocks of ReLU, 3x3, ReLU, 3x3: two that halve (mean of 2x2), the first without its first ReLU and with a pooled
    shortcut; two that keep the size with a plain shortcut; ReLU, sum over space, dense."""

    def convolutions(block):
        return [layer for layer in block.body if isinstance(layer, torch.nn.Conv2d)]

    half = torch.nn.AvgPool2d(2)
    first, second, *others = D.blocks
    one, two = convolutions(first)
    x = half(conv(conv(img, one).relu(), two)) + conv(half(img), first.skip[1])
    one, two = convolutions(second)
    x = half(conv(conv(x.relu(), one).relu(), two)) + half(conv(x, second.skip[0]))
    for block in others:
        one, two = convolutions(block)
        x = conv(conv(x.relu(), one).relu(), two) + x
    assert x.shape[1:] == (channels, 8, 8)
    return x.relu().sum(dim=[2, 3])


@pytest.mark.parametrize("name", ["dcgan", "sngan-cnn", "sngan-resnet", "autogan", "biggan"])
def test_a_discriminator_at_public_width_matches_the_transcription(name):
    spectral = {} if name == "dcgan" else {"norm": "spectral"}
    D, (_, c, img) = network(name, "D", **spectral), inputs(name)
    with torch.no_grad():
        D.train()(img, c)
        if name == "dcgan":
            expected = dcgan_discriminator(D, img)
        else:
            D.eval()
            expected = {
                "sngan-cnn": lambda: sngan_cnn_discriminator(D, img),
                "sngan-resnet": lambda: linear(residual_discriminator(D, img, 128), D.out),
                "autogan": lambda: linear(residual_discriminator(D, img, 128), D.out),
                "biggan": lambda: projected(D, residual_discriminator(D, img, 256), c),
            }[name]()
        torch.testing.assert_close(D(img, c), expected, atol=1e-5, rtol=1e-4)


def projected(D, pooled, c):
    """The linear layer, and the inner product with the class's row (arXiv:1802.05637, Eq. 3)."""
    row = F.linear(c, weight_of(D.classes))
    return linear(pooled, D.out) + (row * pooled).sum(dim=1, keepdim=True)
