"""Layers, models, likelihoods and samplers of the PixelCNN tutorial.

This imports the core. A name of the wings, `page` and `studies`, is imported when it is first used.
"""

from importlib import import_module

from .caching import incremental
from .causality import assert_causal, blind_spot, effective_receptive_field, receptive_field
from .data import load_digits, load_mnist_sample, quantize, soft_label
from .layers import GatedBlock, HorizontalConv2d, MaskedConv2d, VerticalConv2d, causal_mask
from .likelihood import bits_per_dim, class_posterior, nats, pixel_nats
from .models import GatedPixelCNN, PixelCNN
from .pretrained import load_measurement, load_model, load_pretrained, pretrained_names, save_model
from .sampling import guesses, naive_sample, sample
from .training import History, fit

__all__ = [
    "Dataset", "GatedBlock", "GatedPixelCNN", "History", "HorizontalConv2d", "MaskedConv2d", "PixelCNN",
    "ShortcutPixelCNN", "VerticalConv2d", "animate", "assert_causal", "bits_per_dim", "blind_spot", "causal_mask",
    "class_picture", "class_posterior", "class_probabilities", "class_slider", "colour_digits", "compress",
    "decompress", "effective_receptive_field", "fit", "frame_slider", "guesses", "incremental", "letters",
    "load_cifar10", "load_digits", "load_measurement", "load_mnist", "load_mnist_sample", "load_model",
    "load_photo_patches", "load_pretrained", "load_profile_data", "marginal_bits_per_dim", "naive_sample", "nats",
    "picture_slider", "pixel_nats", "pretrained_names", "profile", "quantize", "receptive_field", "sample",
    "sample_between", "save_model", "show", "soft_label", "start", "uniform_bits_per_dim",
]  # fmt: skip

_WINGS = {
    "page.plots": ("animate", "frame_slider", "show"),
    "page.sliders": ("class_picture", "class_slider", "picture_slider"),
    "page.start": ("load_profile_data", "profile", "start"),
    "studies.baselines": ("marginal_bits_per_dim", "uniform_bits_per_dim"),
    "studies.between": ("sample_between",),
    "studies.cifar": ("load_cifar10",),
    "studies.codec": ("compress", "decompress"),
    "studies.datasets": ("Dataset", "colour_digits", "load_photo_patches"),
    "studies.judges": ("class_probabilities",),
    "studies.mnist": ("load_mnist",),
    "studies.shortcut": ("ShortcutPixelCNN",),
    "studies.strange": ("letters",),
}


def __getattr__(name: str):
    for module, names in _WINGS.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
