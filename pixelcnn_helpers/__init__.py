"""Layers, models, likelihoods and samplers of the PixelCNN tutorial."""

from .between import sample_between
from .classifiers import class_probabilities
from .data import Dataset, load_digits, load_mnist, load_profile_data, profile, quantize, soft_label
from .layers import GatedBlock, HorizontalConv2d, MaskedConv2d, VerticalConv2d
from .likelihood import bits_per_dim, class_posterior, marginal_bits_per_dim, nats, pixel_nats, uniform_bits_per_dim
from .masks import causal_mask
from .measure import load_measurement
from .models import GatedPixelCNN, PixelCNN, ShortcutPixelCNN
from .notebook import start
from .plots import animate, frame_slider, show
from .pretrained import load_model, load_pretrained, pretrained_names, save_model
from .receptive_field import assert_causal, blind_spot, effective_receptive_field, receptive_field
from .sampling import guesses, naive_sample, sample
from .sliders import class_picture, class_slider, picture_slider
from .training import History, fit

__all__ = [
    "Dataset",
    "GatedBlock",
    "GatedPixelCNN",
    "History",
    "HorizontalConv2d",
    "MaskedConv2d",
    "PixelCNN",
    "ShortcutPixelCNN",
    "VerticalConv2d",
    "animate",
    "assert_causal",
    "bits_per_dim",
    "blind_spot",
    "causal_mask",
    "class_picture",
    "class_posterior",
    "class_probabilities",
    "class_slider",
    "effective_receptive_field",
    "fit",
    "frame_slider",
    "guesses",
    "load_digits",
    "load_measurement",
    "load_mnist",
    "load_model",
    "load_pretrained",
    "load_profile_data",
    "marginal_bits_per_dim",
    "naive_sample",
    "nats",
    "picture_slider",
    "pixel_nats",
    "pretrained_names",
    "profile",
    "quantize",
    "receptive_field",
    "sample",
    "sample_between",
    "save_model",
    "show",
    "soft_label",
    "start",
    "uniform_bits_per_dim",
]
