"""The networks of src/models in PyTorch: the same layers, parameters and arithmetic."""

import torch
import torchvision
from torch import nn


class GreyResnet(nn.Module):
    """torchvision's ResNet over grey images of 0..1; gives logits and probabilities, as our exported file."""

    def __init__(self, depth, classes):
        super().__init__()
        self.body = getattr(torchvision.models, f"resnet{depth}")(num_classes=classes)
        self.body.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, images):
        logits = self.body((images - 0.5) / 0.25)
        return logits, torch.softmax(logits, 1)


def norm(channels, folded):
    return [] if folded else [nn.BatchNorm2d(channels)]


class Generator(nn.Sequential):
    """DCGAN's; `folded` has the frozen batch normalisation inside the layer before."""

    def __init__(self, width, z_dim=100, folded=False):
        layers = [nn.Linear(z_dim, 16 * 8 * width, bias=folded), nn.Unflatten(1, (8 * width, 4, 4))]
        layers += [*norm(8 * width, folded), nn.ReLU()]
        for wide in (8 * width, 4 * width, 2 * width):
            up = nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1, bias=folded)
            layers += [up, *norm(wide // 2, folded), nn.ReLU()]
        super().__init__(*layers, nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())
        self.apply(draw)


class Features(nn.Sequential):
    """The discriminator's convolutions."""

    def __init__(self, width, folded=False):
        layers = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow in (width, 2 * width, 4 * width):
            down = nn.Conv2d(narrow, 2 * narrow, 4, 2, 1, bias=folded)
            layers += [down, *norm(2 * narrow, folded), nn.LeakyReLU(0.2)]
        super().__init__(*layers)
        self.apply(draw)


class Discriminator(nn.Sequential):
    def __init__(self, width):
        super().__init__(Features(width), nn.Flatten(), nn.Linear(16 * 8 * width, 1))
        self.apply(draw)


def pair(channels_in, channels):
    layers = []
    for wide in (channels_in, channels):
        layers += [nn.Conv2d(wide, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class Unet(nn.Module):
    """U-Net over grey images of 0..1: 1x1 convolution and nearest upsampling on the way up; gives logits."""

    def __init__(self, width, poolings):
        super().__init__()
        wide = [width * 2**level for level in range(poolings + 1)]
        self.down = nn.ModuleList(pair(w if i else 1, wide[i]) for i, w in enumerate([1, *wide[:-1]]))
        self.halve = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in wide[:-1])
        self.up = nn.ModuleList(pair(2 * w, w) for w in wide[:-1])
        self.logits = nn.Conv2d(width, 1, 1)

    def forward(self, images):
        x = self.down[0]((images - 0.5) / 0.25)
        skips = []
        for level in self.down[1:]:
            skips.append(x)
            x = level(nn.functional.max_pool2d(x, 2))
        for halve, up, skip in zip(reversed(self.halve), reversed(self.up), reversed(skips)):
            x = up(torch.cat([nn.functional.interpolate(halve(x), scale_factor=2), skip], 1))
        return self.logits(x)


def draw(layer):
    """Radford, Metz and Chintala 2016: N(0, 0.02)."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1, 0.02)


def parameters_of(*networks):
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
