"""The recipes of the networks that ship: `python -m pixelcnn_helpers train NAME` trains one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

NEAR_AND_FAR = (1, 2, 4, 8, 1, 2, 4, 2)  # dilations: with a first 7×7, a field of 27 rows above


@dataclass(frozen=True)
class Recipe:
    """A training: the network (class and arguments), the data, and how it is trained. `--set` changes any of it.

    data: a name that `load_dataset` knows. held_out: so many training images, the last ones, are not trained on; they
    decide which epoch of a PixelCNN is kept (a classifier keeps its last).
    Anew in every epoch: rotation: each image is rotated by up to so many degrees. drawn: pixels are drawn as
    Bernoulli(x/255). relit: patches of photographs are mirrored, and made brighter or darker. mutated: each value is
    drawn anew, uniformly, with this probability.
    patience: stop after so many epochs without a better one (0: never). optimizer, compile: see `fit`.
    Classifiers take AdamW, a VQ-VAE takes Adam; neither takes drawn, relit, mutated, patience or compile.
    start: the name of a network that ships, for the initial weights. labels: "classes"; "softened", probabilities of
    `teacher-mnist` at a temperature of 4; or "self-taught", see `self_taught`, with its `rounds` and `wanted`.
    """

    network: str
    config: dict = field(default_factory=dict)
    data: str = "mnist"
    epochs: int = 4
    batch_size: int = 16
    learning_rate: float = 2e-3
    optimizer: str = "muon"
    seed: int = 0
    held_out: int = 2000
    rotation: float = 0.0
    drawn: bool = False
    relit: bool = False
    mutated: float = 0.0
    patience: int = 0
    compile: bool = True
    start: str = ""
    labels: str = "classes"
    rounds: int = 0
    wanted: int = 0


def two_stacks(features: int = 48, levels: int = 8, classes: int = 0, embedding: int = 8) -> dict:
    """Arguments of a `GatedPixelCNN` whose field reaches all 27 rows above the last one of MNIST."""
    return {
        "levels": levels, "features": features, "blocks": 8, "dilations": list(NEAR_AND_FAR), "classes": classes,
        "embedding": embedding,
    }  # fmt: skip


TO_READ = {
    "epochs": 12, "batch_size": 128, "learning_rate": 4e-3, "optimizer": "adamw", "rotation": 10.0, "compile": False,
}
OLD = {"optimizer": "adamw", "batch_size": 64}  # as the networks were trained that ship
LABELS = ("classes", "softened", "self-taught")
RECIPES = {
    "conditional-mnist": Recipe("GatedPixelCNN", two_stacks(classes=10, embedding=0), epochs=14, **OLD),
    "judge-mnist": Recipe("ConvClassifier", {"width": 24}, seed=41, **TO_READ),
    "teacher-mnist": Recipe("ResidualClassifier", {"width": 32}, seed=7, **TO_READ),
    "shortcut-mnist": Recipe("ShortcutPixelCNN", {"levels": 8, "features": 64, "blocks": 6, "classes": 10}, **OLD),
    "neutral-mnist": Recipe("GatedPixelCNN", two_stacks(), epochs=3, seed=3),
    "between-mnist": Recipe(
        "GatedPixelCNN", two_stacks(classes=10, embedding=0), start="conditional-mnist", labels="self-taught",
        rounds=4, wanted=400, epochs=1, learning_rate=1.5e-3, **OLD,
    ),
    "background-mnist": Recipe("GatedPixelCNN", two_stacks(), epochs=2, seed=3, mutated=0.2),
    "pixelcnn-mnist": Recipe("PixelCNN", {"levels": 256}, **OLD),
    "gated-mnist": Recipe("GatedPixelCNN", two_stacks(features=64, levels=256, embedding=16), learning_rate=3e-3),
    "gated-binary-mnist": Recipe("GatedPixelCNN", two_stacks(levels=2, embedding=0), epochs=6, drawn=True, **OLD),
    "colour-photos": Recipe(
        "GatedPixelCNN", {"channels": 3, "levels": 8, "dilations": [1, 2, 4, 1, 2, 4, 1, 1], "embedding": 8},
        data="photos", epochs=12, learning_rate=4e-3, held_out=500, relit=True,
    ),
    "vqvae-mnist": Recipe(
        "VQVAE", {"levels": 8, "codes": 32}, epochs=6, batch_size=64, optimizer="adam", compile=False,
    ),
    "codes-mnist": Recipe(
        "GatedPixelCNN", {"levels": 32, "features": 48, "blocks": 5, "classes": 10, "embedding": 16},
        data="mnist-codes", epochs=8, patience=3,
    ),
    # for whoever has the data
    "cifar10": Recipe(
        "GatedPixelCNN", {"channels": 3, "levels": 256, "features": 96, "blocks": 12, "embedding": 16,
                          "dilations": [1, 2, 4, 8] * 3}, data="cifar10", epochs=20,
    ),
    "conditional-fashion": Recipe("GatedPixelCNN", two_stacks(classes=10), data="fashion", epochs=10),
    "conditional-letters": Recipe("GatedPixelCNN", two_stacks(classes=26), data="emnist-letters", epochs=10),
}


def recipe_called(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"the recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def recipe_of(card: dict) -> Recipe:
    """The recipe on a card; a field that the card does not know has its default."""
    card = {"optimizer": "adamw"} | card  # those of version 0.1 do not know it
    return Recipe(**{key.name: card[key.name] for key in fields(Recipe) if key.name in card})
