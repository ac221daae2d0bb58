"""Two small classifiers of digits at any number of grey levels: a judge of samples, and a teacher."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm.auto import tqdm

from ..checks import INTEGERS, check_images, check_int, check_number, check_positive, check_two
from ..data import quantize
from ..models import device_of, evaluating, on_cpu, stores_config
from ..training import Trainer, schedule
from .datasets import moved

LEVELS = (2, 4, 8, 16, 256)  # what training images are rounded to
SHIFT, SCALE = 2.0, 0.1  # how far training images are moved, in pixels, and made larger or smaller
SIZE = (28, 28)


@dataclass
class ClassifierHistory:
    """What the training of a classifier measured, one entry per epoch: `asdict` makes it JSON.

    train: mean cross entropy in nats, on redrawn images. validation: share of right answers at 256 levels, empty if
    there were no validation images. seconds: training time so far.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Classifier(nn.Module):
    """What both classifiers share: floats `(N, 1, 28, 28)` in 0 … 1 go in, logits `(N, classes)` come out.

    A subclass writes `logits(x)`. Raises TypeError for integers, ValueError for other shapes and values.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.classes, self.size = check_int("classes", classes, 2), SIZE

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_floats(images)
        weight = next(self.parameters())
        return self.logits(images.to(weight.device, weight.dtype))


class ConvClassifier(Classifier):
    """The judge: five plain convolutions with batch norm and ReLU, and maximum pooling over 2×2."""

    @stores_config
    def __init__(self, classes=10, width=24):
        super().__init__(classes)
        check_int("width", width, 1)
        self.net = nn.Sequential(
            *conv(1, width, 5), nn.MaxPool2d(2), nn.ReLU(),  # a quarter of the ReLUs, and the same result
            *conv(width, 2 * width), nn.ReLU(),
            *conv(2 * width, 2 * width), nn.MaxPool2d(2), nn.ReLU(),
            *conv(2 * width, 4 * width), nn.ReLU(),
            *conv(4 * width, 4 * width), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(4 * width, classes),
        )

    def logits(self, x):
        return self.net(x)


class ResidualClassifier(Classifier):
    """The teacher: four residual blocks, strides of two, average pooling at the end.

    Source: He et al. 2016, arXiv 1512.03385, section 3.3, much smaller.
    """

    @stores_config
    def __init__(self, classes=10, width=32):
        super().__init__(classes)
        check_int("width", width, 1)
        self.net = nn.Sequential(
            *conv(1, width, 3, stride=2), nn.ReLU(),
            Residual(width, width), Residual(width, width),
            Residual(width, 2 * width, stride=2), Residual(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes),
        )

    def logits(self, x):
        return self.net(x)


class Residual(nn.Module):
    """Two convolutions with batch norm, added to what came in (through a 1×1 where the shape changes)."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.body = nn.Sequential(
            *conv(in_channels, out_channels, 3, stride), nn.ReLU(), *conv(out_channels, out_channels)
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(in_channels, out_channels, 1, stride))

    def forward(self, x):
        return (self.shortcut(x) + self.body(x)).relu()


def conv(in_channels, out_channels, kernel_size=3, stride=1) -> list[nn.Module]:
    """A convolution and its batch norm; no bias, since batch norm adds a shift of its own."""
    options = {"stride": stride, "padding": kernel_size // 2, "bias": False}
    return [nn.Conv2d(in_channels, out_channels, kernel_size, **options), nn.BatchNorm2d(out_channels)]


def fit_classifier(
    model, images, classes, *, epochs=12, batch_size=128, learning_rate=4e-3, seed=0, validation=None, rotation=10.0,
    progress=True,
) -> ClassifierHistory:
    """Train a classifier in place, by AdamW on the cross entropy of randomly changed images, and return its history.

    images: integers `(N, 1, 28, 28)` of 256 levels; classes: integers `(N,)`; validation: `(images, classes)`.
    rotation: each image is rotated by up to so many degrees, moved and scaled a little, and rounded to a random number
    of levels, or drawn in black and white as Bernoulli(x / 255): a classifier for every number of levels.
    epochs, batch_size, learning_rate: as for `fit`, and so are device, precision, schedule and random state.

    Afterwards the model is in evaluation mode, on that device.
    Raises ValueError or TypeError for bad arguments, FloatingPointError when the loss is NaN or infinite.
    """
    _check(model, images, classes)
    if validation is not None:
        held_images, held_classes = check_two("validation", validation, "(images, classes)")
        _check(model, held_images, held_classes, "validation[0]", "validation[1]")
    epochs, batch_size = check_int("epochs", epochs, 1), min(check_int("batch_size", batch_size, 1), len(images))
    learning_rate, rotation = check_positive("learning_rate", learning_rate), check_number("rotation", rotation)
    if rotation > 360:
        raise ValueError(f"rotation must be at most 360, got {rotation:g}")
    seed, per_epoch = check_int("seed", seed, 0) % 2**32, len(images) // batch_size

    trainer = Trainer(model, learning_rate, weight_decay=0.05)
    device, total = trainer.device, epochs * per_epoch
    images, classes = images.to(device, torch.uint8), classes.to(device, torch.long)
    shuffle, draws = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    history, began = ClassifierHistory(), time.perf_counter()
    bar = tqdm(total=total, desc="training", unit="img", unit_scale=batch_size, disable=not progress)
    try:
        for epoch in range(epochs):
            model.train()
            order, learned = torch.randperm(len(images), generator=shuffle), torch.zeros((), device=device)
            for i in range(per_epoch):
                batch = order[i * batch_size : (i + 1) * batch_size].to(device)
                x = redraw(images[batch], rotation, draws)
                learned += trainer.step(schedule(epoch * per_epoch + i, total), classes[batch], x)
                bar.update()
            history.train.append(learned.item() / per_epoch)
            if not math.isfinite(history.train[-1]):
                raise FloatingPointError(f"the loss was no longer a number in epoch {epoch + 1}: lower learning_rate")
            if validation is not None:
                history.validation.append(accuracy(model, held_images, held_classes))
                bar.set_postfix_str(f"{history.validation[-1]:.2%} right", refresh=False)
            history.seconds.append(time.perf_counter() - began)
    finally:
        bar.close()
        model.eval()
    return history


def redraw(images: torch.Tensor, rotation: float, generator: torch.Generator) -> torch.Tensor:
    """Images `(B, 1, H, W)` of 256 levels, each rotated, moved, scaled and rounded at random -> floats in 0 … 1."""
    count, (height, width), device = len(images), images.shape[-2:], images.device

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    def within(limit):
        return (2 * uniform(count) - 1) * limit

    angle, scale = within(math.radians(rotation)), 1 + within(SCALE)
    x = moved(images / 255, angle, scale, within(2 * SHIFT / width), within(2 * SHIFT / height))
    tops = torch.tensor([levels - 1 for levels in LEVELS] + [0], device=device)  # 0: a draw of black and white
    chosen = torch.randint(len(tops), (count, 1, 1, 1), generator=generator, device=device)
    top = tops[chosen]
    return torch.where(top > 0, (x * top + 0.5).floor() / top.clamp(min=1), (uniform(x.shape) < x).float())


def accuracy(model, images: torch.Tensor, classes: torch.Tensor, levels: int = 256, batch_size: int = 500) -> float:
    """Share of right answers for images of 256 levels, rounded to `levels` before the model sees them.

    images: integers `(N, 1, 28, 28)`; classes: integers `(N,)`. Raises ValueError or TypeError for bad arguments.
    """
    _check(model, images, classes)
    found = class_probabilities(model, quantize(images, levels), levels, batch_size).argmax(1)
    return (found == classes.cpu()).double().mean().item()


@torch.no_grad()
def class_probabilities(model, images: torch.Tensor, levels: int, batch_size: int = 500) -> torch.Tensor:
    """The class probabilities that a classifier finds for images: `(N, classes)`, float32, on the CPU.

    images: integers `(N, 1, 28, 28)` in `0 … levels-1`. The model runs in evaluation mode.
    Raises ValueError or TypeError for images that do not fit, ValueError for a model that diverged in training.
    """
    check_classifier(model)
    levels, batch_size = check_int("levels", levels, 2), check_int("batch_size", batch_size, 1)
    check_images(images, levels)
    device = device_of(model)
    with evaluating(model):
        logits = [model(part.to(device).float() / (levels - 1)) for part in images.split(batch_size)]
    found = torch.cat(logits).float().softmax(1).cpu()
    if not found.isfinite().all():
        raise ValueError("model must return finite logits, got some that are not: its training diverged")
    return found


def check_floats(images) -> None:
    """Floats `(N, 1, 28, 28)` in 0 … 1."""
    fix = "images / (levels - 1) makes them from integers"
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images must be a torch tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(f"images must be floats in 0 … 1, got {images.dtype}; {fix}")
    check_shape(images)
    if on_cpu(images):  # a GPU would have to be waited for
        low, high = (value.item() for value in images.detach().aminmax())
        if not (low >= 0 and high <= 1):  # NaN neither
            raise ValueError(f"images must hold values in 0 … 1, got {low:g} … {high:g}; {fix}")


def check_shape(images: torch.Tensor, name: str = "images") -> None:
    wanted = (1, *SIZE)
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted or not len(images):
        raise ValueError(f"{name} must have the shape (N, 1, 28, 28), N at least 1, got {tuple(images.shape)}")


def check_classifier(model, name: str = "model") -> None:
    if not isinstance(model, Classifier):
        raise TypeError(f"{name} must be a ConvClassifier or a ResidualClassifier, got {type(model).__name__}")


def _check(model, images, classes, name="images", classes_name="classes") -> None:
    """A classifier, images of 256 levels, and one of its classes for each."""
    check_classifier(model)
    check_images(images, 256, name=name)
    check_shape(images, name)
    if not isinstance(classes, torch.Tensor) or classes.dtype not in INTEGERS or tuple(classes.shape) != (len(images),):
        got = f"{classes.dtype} {tuple(classes.shape)}" if isinstance(classes, torch.Tensor) else type(classes).__name__
        raise ValueError(f"{classes_name} must be a tensor of integers ({len(images)},), one per image, got {got}")
    low, high = (int(value) for value in classes.aminmax())
    if low < 0 or high >= model.classes:
        raise ValueError(f"{classes_name} must hold values 0 … {model.classes - 1}, got {low} … {high}")
