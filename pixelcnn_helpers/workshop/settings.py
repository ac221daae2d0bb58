"""Changes of a recipe from the command line: `--set KEY=VALUE`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from dataclasses import fields, replace

from ..pretrained import KINDS, kind_called
from .recipes import Recipe


def changed(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with settings "KEY=VALUE" for its fields, or for arguments of its network, in this order.

    Another network keeps the arguments that it knows, too.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        known = settings_of(recipe)
        if not equals or key not in known:
            raise ValueError(f"a setting must be KEY=VALUE with one of {', '.join(known)}, got {setting!r}")
        old = known[key]
        if old is not None and type(value) is not type(old) and not (type(old) is float and type(value) is int):
            raise ValueError(f"{key} must be like {json.dumps(old)}, got {text!r}")
        if key == "network":
            if value not in KINDS:
                raise ValueError(f"network must be one of {', '.join(KINDS)}, got {value!r}")
            taken = inspect.signature(kind_called(value)).parameters.keys() & recipe.config.keys()
            recipe = replace(recipe, config={name: recipe.config[name] for name in sorted(taken)})
        in_recipe = key not in inspect.signature(kind_called(recipe.network)).parameters
        recipe = replace(recipe, **({key: value} if in_recipe else {"config": recipe.config | {key: value}}))
    return recipe


def settings_of(recipe: Recipe) -> dict:
    """All that `changed` can set, by key: the recipe's fields, and the arguments of its network, or their defaults."""
    known = {one.name: getattr(recipe, one.name) for one in fields(recipe) if one.name != "config"}
    arguments = inspect.signature(kind_called(recipe.network)).parameters
    return known | {name: one.default for name, one in arguments.items()} | recipe.config
