"""`python -m pixelcnn_helpers`: the commands of the repository, from any folder.

`bench`, `train` and `evaluate` need no checkout.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .training import NoCompiler


def main(arguments: list[str] | None = None, root: Path | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pixelcnn_helpers", description="The commands of the repository.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    one = commands.add_parser("colab", help="write the repository's address, and Colab badges, where they belong")
    one.description = "Write the repository's address into pyproject.toml, README.md and the notebooks, with badges."
    one.add_argument("repository", nargs="?", metavar="owner/name", help="default: where git's origin points to")

    one = commands.add_parser("notebooks", help="run the notebooks in place and clean their outputs")
    one.description = "Run the notebooks in place, each in a fresh kernel, and clean their outputs."
    one.epilog = "PIXELCNN_PROFILE chooses the profile: quick, unless it is set."
    one.add_argument("names", nargs="*", metavar="name", help="01_masks, or its beginning; default: all of them")

    commands.add_parser("figures", help="draw the pictures of the README and of the notebooks' first cells")
    one = commands.add_parser("page", help="write figures/between.html, the page that draws digits in a browser")
    one.add_argument("--film", action="store_true", help="also write figures/between.png, the page in use, by Chromium")

    commands.add_parser("tables", help="write the README's tables of networks and likelihoods from the cards")
    commands.add_parser("mnist-sample", help="make the sample of MNIST that ships from the full data set")

    one = commands.add_parser("bench", help="time drawing or training on this machine")
    one.description = "Time drawing (cached, naive, guessing) or training (ours, the textbook's way) on this machine."
    one.add_argument("what", choices=["sample", "train"])
    one.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64, 256], metavar="N", help="images at once")
    one.add_argument("--repeats", type=int, default=5, metavar="N", help="the median of so many runs is quoted")
    one.add_argument("--json", metavar="FILE", help="write the tables there, too")

    one = commands.add_parser("train", help="train one of the networks that ship, and write its weights")
    one.description = "Train a recipe and write NAME.safetensors: in a checkout with the weights, else here."
    one.epilog = "Ctrl-C keeps a checkpoint in checkpoints/, from which --resume goes on."
    one.add_argument("recipe", help="conditional-mnist, say; a wrong name lists them all")
    one.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    one.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="epochs=1 features=16, say"
    )

    one = commands.add_parser("evaluate", help="measure a network that ships again, beside what its card says")
    one.description = "Measure a network that ships on the test images of its recipe, beside what its card says."
    one.add_argument("name", help="conditional-mnist, say; a wrong name lists them all")
    one.add_argument("--write", action="store_true", help="put what was measured on its card")

    one = commands.add_parser("measure", help="make a measurement anew that the notebooks show")
    one.description = "Make a measurement that is too long for a notebook, and store it in measurements/."
    one.add_argument("what", help="reach, say; a wrong name lists them all")

    chosen = parser.parse_args(arguments)
    try:
        run(chosen, root)
    except (ValueError, FileNotFoundError, FloatingPointError, NoCompiler) as error:
        sys.exit(f"{parser.prog} {chosen.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)  # as shells say it of Ctrl-C


def run(chosen: argparse.Namespace, root: Path | None) -> None:
    """Run the command that was chosen; each imports what it needs."""
    from .workshop.places import IN_CHECKOUT, ROOT

    root = root or ROOT
    in_checkout = IN_CHECKOUT if root is ROOT else (root / "notebooks").is_dir()
    if chosen.command not in ("bench", "train", "evaluate") and not in_checkout:
        sys.exit("This works on the repository's own files: clone it, and run `make lab` or `pip install -e .` there.")
    if chosen.command in ("train", "evaluate", "measure"):
        from .workshop.hardware import keep_memory

        keep_memory()
    match chosen.command:
        case "bench":
            from .workshop.bench import bench

            bench(chosen.what, chosen.batches, chosen.repeats, chosen.json)
        case "colab":
            from .workshop.colab import write_address

            write_address(root, chosen.repository)
        case "notebooks":
            from .workshop.pages import run_all

            run_all(root, chosen.names)
        case "figures":
            from .workshop import figures

            figures.main()
        case "page":
            from .workshop.web import write_page

            path = write_page(root)
            if chosen.film:
                from .workshop.film import write_film

                write_film(path)
        case "tables":
            from .workshop.tables import write_tables

            write_tables(root)
        case "mnist-sample":
            from .workshop.mnist_sample import make_sample

            make_sample()
        case "measure":
            from .workshop.measure import measure

            print(measure(chosen.what))
        case "evaluate":
            from .workshop.evaluate import evaluate

            evaluate(chosen.name, chosen.write)
        case "train":
            from .workshop.train import train

            if train(chosen.recipe, chosen.resume, chosen.set) is None:
                sys.exit(130)


if __name__ == "__main__":
    main()
