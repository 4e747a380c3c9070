"""The works of the benchmark in PyTorch. Each gives its modes: name -> a function that prepares one and returns the step."""

import copy

import torch
from networks import Discriminator, Features, Generator, GreyResnet, Unet, parameters_of
from torch import nn

CHANNELS_LAST = torch.channels_last


class Work:
    """`modes` by name, the number of `parameters`, and `export(path)` where the work has a file to give."""

    def __init__(self, modes, parameters, export=None):
        self.modes, self.parameters, self.export = modes, parameters, export


def resnet_inference(depth, size, classes, batch, device, half=False):
    kind = torch.half if half else torch.float
    network = GreyResnet(depth, classes).eval().to(device, kind)
    images = torch.rand(batch, 1, size, size, device=device, dtype=kind)

    def inference(model, x):
        def step():
            with torch.inference_mode():
                return model(x)

        return step

    def traced(model, x):
        with torch.no_grad():
            return torch.jit.optimize_for_inference(torch.jit.trace(model, x))

    last = copy.deepcopy(network).to(memory_format=CHANNELS_LAST)
    images_last = images.to(memory_format=CHANNELS_LAST)
    modes = {
        "eager": lambda: inference(network, images),
        "channels-last": lambda: inference(last, images_last),
        "optimize_for_inference": lambda: inference(traced(network, images), images),
        "channels-last + optimize_for_inference": lambda: inference(traced(last, images_last), images_last),
    }

    def export(path):
        torch.onnx.export(
            network.cpu(),
            images[:1].cpu(),
            path,
            opset_version=17,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_axes={name: {0: "N"} for name in ("images", "logits", "probabilities")},
        )

    return Work(modes, parameters_of(network), export)


def resnet_compilation(depth, size, classes, device):
    network = GreyResnet(depth, classes).eval().to(device)
    images = torch.rand(1, 1, size, size, device=device)

    def step():
        with torch.no_grad():
            return torch.jit.optimize_for_inference(torch.jit.trace(network, images))

    return Work({"jit.trace + optimize_for_inference": lambda: step}, parameters_of(network))


def resnet_training(depth, size, classes, batch, device):
    images = torch.rand(batch, 1, size, size, device=device)
    labels = torch.arange(batch, device=device) % classes
    networks = []

    def training(layout, foreach):
        network = GreyResnet(depth, classes).to(device).to(memory_format=layout)
        networks.append(network)
        x = images.to(memory_format=layout)
        kernels = [p for name, p in network.named_parameters() if p.dim() > 1]
        others = [p for name, p in network.named_parameters() if p.dim() == 1]
        groups = [{"params": kernels, "weight_decay": 1e-4}, {"params": others}]
        optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9, foreach=foreach)

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(network(x)[0], labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    modes = {
        "eager": lambda: training(torch.contiguous_format, False),
        "eager, foreach optimiser": lambda: training(torch.contiguous_format, True),
        "channels-last": lambda: training(CHANNELS_LAST, False),
    }
    return Work(modes, parameters_of(GreyResnet(depth, classes)))


def unet_training(width, poolings, size, batch, device):
    images = torch.rand(batch, 1, size, size, device=device)
    masks = (images > 0.5).float()

    def training(layout, foreach):
        network = Unet(width, poolings).to(device).to(memory_format=layout)
        x, y = images.to(memory_format=layout), masks.to(memory_format=layout)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, foreach=foreach)

        def step():
            optimizer.zero_grad(set_to_none=True)
            logits = network(x)
            p = torch.sigmoid(logits)
            axes = (1, 2, 3)
            dice = ((2 * (p * y).sum(axes) + 1) / (p.sum(axes) + y.sum(axes) + 1)).mean()
            loss = 0.5 * (1 - dice) + 0.5 * nn.functional.binary_cross_entropy_with_logits(logits, y)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    modes = {
        "eager": lambda: training(torch.contiguous_format, False),
        "eager, foreach optimiser": lambda: training(torch.contiguous_format, True),
        "channels-last": lambda: training(CHANNELS_LAST, False),
    }
    return Work(modes, parameters_of(Unet(width, poolings)))


def dcgan_training(network, width, batch, device):
    def training(layout):
        generator = Generator(width).to(device).to(memory_format=layout)
        discriminator = Discriminator(width).to(device).to(memory_format=layout)
        trained, frozen = (
            (generator, discriminator) if network == "generator" else (discriminator, generator)
        )
        for parameter in frozen.parameters():
            parameter.requires_grad_(False)
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-5, betas=(0.5, 0.999))
        images = (torch.rand(batch, 1, 64, 64, device=device) * 2 - 1).to(memory_format=layout)
        z = torch.randn(batch, 100, device=device)
        ones, zeros = torch.ones(batch, 1, device=device), torch.zeros(batch, 1, device=device)
        criterion = nn.BCEWithLogitsLoss()

        def losses():
            if network == "generator":
                return criterion(discriminator(generator(z)), ones)
            with torch.no_grad():
                fakes = generator(z)
            return criterion(discriminator(images), ones) + criterion(discriminator(fakes), zeros)

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss = losses()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    modes = {
        "eager": lambda: training(torch.contiguous_format),
        "channels-last": lambda: training(CHANNELS_LAST),
    }
    return Work(modes, parameters_of(Generator(width), Discriminator(width)))


class AnomalyLoss(nn.Module):
    """0.9 |x - G(z)| + 0.1 |f(x) - f(G(z))|; f(x) is given: it does not change during the search."""

    def __init__(self, width, folded):
        super().__init__()
        self.generator, self.features = Generator(width, folded=folded), Features(width, folded=folded)

    def forward(self, z, x, fx):
        image = self.generator(z)
        return 0.9 * (x - image).abs().sum() + 0.1 * (fx - self.features(image)).abs().sum()


def latent_search(width, batch, steps, device):
    """One run is `steps` steps of Adam on z."""

    def searching(folded, layout, frozen):
        loss_of = AnomalyLoss(width, folded).eval().to(device).to(memory_format=layout)
        for parameter in loss_of.parameters():
            parameter.requires_grad_(False)
        x = (torch.rand(batch, 1, 64, 64, device=device) * 2 - 1).to(memory_format=layout)
        z = torch.randn(batch, 100, device=device, requires_grad=True)
        with torch.no_grad():
            fx = loss_of.features(x)
        if frozen:
            loss_of = torch.jit.freeze(torch.jit.trace(loss_of, (z, x, fx)))
        optimizer = torch.optim.Adam([z], lr=0.01)

        def step():
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                loss_of(z, x, fx).backward()
                optimizer.step()

        return step

    contiguous = torch.contiguous_format
    modes = {
        "eager": lambda: searching(False, contiguous, False),
        "eager, folded": lambda: searching(True, contiguous, False),
        "channels-last, folded": lambda: searching(True, CHANNELS_LAST, False),
        "jit.freeze, folded": lambda: searching(True, contiguous, True),
    }
    return Work(modes, parameters_of(Generator(width), Features(width)))


WORKS = {
    work.__name__: work
    for work in (resnet_inference, resnet_compilation, resnet_training, unet_training, dcgan_training, latent_search)
}
