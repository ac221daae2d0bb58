"""`measure likelihood`: what the likelihood of digits is good for, away from digits."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch.nn import functional as F

from ..data import quantize
from ..likelihood import class_nats, nats
from ..pretrained import load_pretrained
from ..studies.attacks import evade, fgsm, pgd, rounded
from ..studies.datasets import Dataset, load_dataset, moved, mutated
from ..studies.judges import class_probabilities
from ..studies.scores import NETWORKS, scores
from ..studies.strange import auroc, strange_images
from ..studies.uncertainty import calibration, risk_by_coverage
from .resumable import Runs

LEVELS = 8
HELD_OUT = 2000  # training images that no network was trained on
REAL, STRANGE, SHIFTED, ATTACKED = 1000, 200, 500, 40  # images of each kind
FALSE_ALARMS = 0.05
STRENGTHS = (0.1, 0.15, 0.2, 0.3)
COSTLIEST = 20  # training images of each class
DOUBTED = 300  # training images
BAYES, COOLED = "Bayes' rule", "Bayes' rule, cooled"
TEMPERATURES = [1.15**power for power in range(40)]  # 1 … 233


def measure_likelihood() -> dict:
    """All parts, one after the other; what a stopped measurement has finished is not done again.

    Thresholds, usual nats and the temperature come from held-out training images. All images have 8 levels.
    """
    data, runs = load_dataset("mnist"), Runs("likelihood")
    networks = {name: load_pretrained(name)[0] for name in NETWORKS}
    parts = {
        "attacks": attacks, "uncertainty": uncertainty, "outliers": outliers, "labels": labels, "strange": strange
    }  # fmt: skip
    found = {name: runs.result(name, partial(part, networks, data)) for name, part in parts.items()}
    runs.remove()
    return {"levels": LEVELS, "held_out": HELD_OUT, **found}


def held_out(data: Dataset, count: int) -> torch.Tensor:
    """So many of the held-out training images, evenly chosen, with 8 levels."""
    return quantize(data.train[-HELD_OUT:][:: HELD_OUT // count], LEVELS)


def strange(networks: dict, data: Dataset) -> dict:
    """For each score and kind: the area under the curve, and the share that a threshold from training data finds.

    The threshold of a score is passed by 5 % of the held-out training images.
    """
    neutral, known = networks["neutral-mnist"], held_out(data, REAL)
    usual = nats(neutral, known).mean().item()
    on_known = scores(networks, known, usual)
    on_real = scores(networks, quantize(data.test[:: len(data.test) // REAL], LEVELS), usual)
    thresholds = {name: values.quantile(1 - FALSE_ALARMS).item() for name, values in on_known.items()}
    others = strange_images(data.test[1 :: len(data.test) // STRANGE])
    found = {name: scores(networks, quantize(images, LEVELS), usual) for name, images in others.items()}
    return {
        "real_images": REAL, "strange_images": STRANGE, "usual": usual, "thresholds": thresholds,
        "false_alarms": {name: above(on_real[name], thresholds[name]) for name in thresholds},
        "kinds": {
            kind: {name: told(one[name], on_real[name], thresholds[name]) for name in one}
            for kind, one in found.items()
        },
        "all": {
            name: told(torch.cat([one[name] for one in found.values()]), on_real[name], thresholds[name])
            for name in thresholds
        },
    }  # fmt: skip


def told(values: torch.Tensor, real: torch.Tensor, threshold: float) -> dict:
    area, half = auroc(values, real)
    return {"auroc": area, "interval": half, "found": above(values, threshold)}


def above(values: torch.Tensor, threshold: float) -> float:
    return (values > threshold).double().mean().item()


def attacks(networks: dict, data: Dataset) -> dict:
    """Attacks on the judge, and on judge and guard together, all counted on images rounded to 8 levels.

    The guard refuses what costs more nats than 95 % of the held-out training images. Attacked are test digits that the
    judge reads right and the guard lets pass.
    """
    neutral, judge = networks["neutral-mnist"], networks["judge-mnist"]
    at_hand, known = {"neutral-mnist": neutral, "judge-mnist": judge}, nats(neutral, held_out(data, REAL))
    usual, threshold = known.mean().item(), known.quantile(1 - FALSE_ALARMS).item()
    images, classes = data.test[3::20] / 255, data.test_classes[3::20]
    clean = rounded(images, LEVELS)
    right = class_probabilities(judge, clean, LEVELS).argmax(1) == classes
    costs = nats(neutral, clean)
    chosen = (right & (costs <= threshold)).nonzero()[:ATTACKED, 0]
    images, classes = images[chosen], classes[chosen]
    on_clean = scores(at_hand, clean[chosen], usual)

    def counted(attacked):
        seen = rounded(attacked, LEVELS)
        fooled = class_probabilities(judge, seen, LEVELS).argmax(1) != classes
        on_seen = scores(at_hand, seen, usual)
        passed = on_seen["nats"] <= threshold
        return {
            "fooled": share(fooled), "nats": on_seen["nats"].mean().item(),
            "auroc": {name: auroc(on_seen[name], on_clean[name]) for name in on_seen},
            "refused": share(~passed), "fooled_and_passed": share(fooled & passed),
            "right_of_passed": share(~fooled[passed]) if passed.any() else None,
        }  # fmt: skip

    found = {"fgsm": [], "pgd": [], "both": []}
    for strength in STRENGTHS:
        found["fgsm"].append(counted(fgsm(judge, images, classes, strength)))
        found["pgd"].append(counted(pgd(judge, images, classes, strength, levels=LEVELS)))
        found["both"].append(counted(evade(judge, neutral, images, classes, strength)))
        print(f"attacks of strength {strength}: {[one[-1]['fooled_and_passed'] for one in found.values()]}", flush=True)
    return {
        "images": len(images), "strengths": list(STRENGTHS), "threshold": threshold,
        "clean_nats": on_clean["nats"].mean().item(), **found,
    }  # fmt: skip


def share(which: torch.Tensor) -> float:
    return which.double().mean().item()


def uncertainty(networks: dict, data: Dataset) -> dict:
    """The judge and Bayes' rule on clean and on shifted digits: how often right, how sure, and what surprise adds.

    Bayes' rule is also given a temperature, which divides all nats; held-out training images choose it by their
    cross-entropy.
    """
    neutral, conditional, judge = (networks[name] for name in ("neutral-mnist", "conditional-mnist", "judge-mnist"))
    known, known_classes = held_out(data, REAL), data.train_classes[-HELD_OUT:][:: HELD_OUT // REAL]
    by_class = class_nats(conditional, known)
    losses = [F.cross_entropy(-by_class / t, known_classes).item() for t in TEMPERATURES]
    temperature = TEMPERATURES[losses.index(min(losses))]
    step = len(data.test) // SHIFTED
    images, classes = data.test[4::step], data.test_classes[4::step]
    found = {}
    for name, seen in shifted(images).items():
        costs, by_class = nats(neutral, seen), class_nats(conditional, seen)
        votes = class_probabilities(judge, seen, LEVELS).double()
        shares = {"judge": votes, BAYES: (-by_class).softmax(1), COOLED: (-by_class / temperature).softmax(1)}
        found[name] = {who: answers(one, classes, costs) for who, one in shares.items()}
        print(f"{name}: judge {found[name]['judge']['right']:.3f}, Bayes {found[name][BAYES]['right']:.3f}", flush=True)
    return {"images": len(images), "temperature": temperature, "kinds": found}


def shifted(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Test digits as they are and shifted away from what classifiers were trained on, all with 8 levels."""
    count, draw = len(images), torch.Generator().manual_seed(0)
    side = torch.randint(2, (count,), generator=draw) * 2.0 - 1
    zero, one = torch.zeros(count), torch.ones(count)

    def change(angle=zero, scale=one, across=zero, down=zero):
        return quantize(moved(images.float(), angle, scale, across, down).round().to(torch.uint8), LEVELS)

    clean = quantize(images, LEVELS)
    return {
        "clean": clean,
        "turned by 30°": change(angle=side * math.radians(30)),
        "moved by 4 pixels": change(across=side * 4 / 14),
        "smaller by a third": change(scale=one * 1.5),
        "a tenth of the pixels redrawn": mutated(clean, 0.1, LEVELS, draw),
    }


def answers(probabilities: torch.Tensor, classes: torch.Tensor, costs: torch.Tensor) -> dict:
    """One classifier's answers: right, calibrated, and how the error falls when the least sure are left out.

    risk: at coverages of 5, 10 … 100 %, by the classifier's own confidence, and by the nats of "neutral-mnist".
    """
    confidence, answer = probabilities.max(1)
    right = answer == classes
    bins = calibration(confidence, right)
    cuts = [round(len(right) * percent / 100) - 1 for percent in range(5, 101, 5)]
    risks = {"own": risk_by_coverage(confidence, right), "surprise": risk_by_coverage(-costs, right)}
    return {
        "right": share(right), "mean_confidence": confidence.mean().item(), "calibration_error": bins.error,
        "bins": {name: getattr(bins, name).tolist() for name in ("counts", "confidence", "right")},
        "nll": -probabilities.gather(1, classes[:, None]).clamp(min=1e-300).log().mean().item(),
        "risk": {name: risk[cuts].tolist() for name, risk in risks.items()},
        "area": {name: risk.mean().item() for name, risk in risks.items()},
    }  # fmt: skip


def outliers(networks: dict, data: Dataset) -> dict:
    """The costliest training digits of each class under "neutral-mnist", which was trained on nearly all of them."""
    images = quantize(data.train, LEVELS)
    costs = nats(networks["neutral-mnist"], images)
    votes = class_probabilities(networks["judge-mnist"], images, LEVELS).argmax(1)
    misread = votes != data.train_classes
    ink = images.flatten(1).double().mean(1)
    ranks = ink.argsort().argsort().double() / len(ink)  # 0 … 1
    rows = [(data.train_classes == digit).nonzero()[:, 0] for digit in range(10)]
    chosen = torch.cat([row[costs[row].topk(COSTLIEST).indices] for row in rows])
    return {
        "training_images": len(images), "misread": share(misread),
        "correlation_with_ink": torch.corrcoef(torch.stack([costs, ink]))[0, 1].item(),
        "costliest": {
            "images": images[chosen], "nats": costs[chosen].tolist(), "classes": data.train_classes[chosen].tolist(),
            "votes": votes[chosen].tolist(), "misread": share(misread[chosen]),
            "thick": share(ranks[chosen] > 0.95), "places": chosen.tolist(),
        },
    }  # fmt: skip


def labels(networks: dict, data: Dataset) -> dict:
    """Of the training digits whose label the judge doubts most: those whose label Bayes' rule finds most wrong.

    margin: nats under the own class in "conditional-mnist", less those under the best other one: positive where another
    class is more probable. Judge and network were trained on these very labels.
    """
    judge, conditional = networks["judge-mnist"], networks["conditional-mnist"]
    own = class_probabilities(judge, quantize(data.train, LEVELS), LEVELS).gather(1, data.train_classes[:, None])[:, 0]
    doubted = own.topk(DOUBTED, largest=False).indices
    images, classes = quantize(data.train[doubted], LEVELS), data.train_classes[doubted]
    by_class = class_nats(conditional, images)
    costs = by_class.gather(1, classes[:, None])[:, 0]
    others = by_class.scatter(1, classes[:, None], torch.inf)
    margin, best = costs - others.amin(1), others.argmin(1)
    chosen = margin.topk(COSTLIEST).indices
    return {
        "doubted": DOUBTED, "another_class": share(margin > 0), "images": images[chosen],
        "classes": classes[chosen].tolist(), "better": best[chosen].tolist(), "margin": margin[chosen].tolist(),
        "places": doubted[chosen].tolist(),
    }  # fmt: skip
