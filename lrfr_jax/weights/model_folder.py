"""Folders of a model: which file holds its weights, and the color order that a config beside them names.

CVLface writes `model.yaml` beside `model.pt`, with a line `color_space: 'RGB'`; its folders on Hugging Face hold
`model.safetensors` and a `config.json` with the same key, and the folder `pretrained_model` with the first two.
"""

import json
import os
import pathlib
import re
from typing import Any, NamedTuple

from lrfr_jax.errors import UserError

# In the order in which they are taken: of the same weights in several forms, the one that can hold nothing else.
WEIGHTS = ("model.safetensors", "model.pt", "pytorch_model.bin", "pretrained_model/model.pt", "backbone.pth")
CONFIGS = ("model.yaml", "pretrained_model/model.yaml", "config.json")
_KEY = "color_space"
_YAML = re.compile(rf"^{_KEY}:\s*['\"]?(\w+)['\"]?\s*(#.*)?$", re.MULTILINE)
_LARGEST_CONFIG = 2**20


def weights_in(path: str | os.PathLike) -> str:
    """Returns the file of weights that a folder holds; a path that is no folder as it is.

    Raises:
      UserError: the folder has none of the names that are known.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        return os.fspath(path)
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"{path} holds none of {', '.join(WEIGHTS)}: name the file of weights with --source")
    return str(found)


class Colors(NamedTuple):
    """An order of colors, 'rgb' or 'bgr', and the config that names it."""

    order: str
    config: str


def color_order(weights: str | os.PathLike) -> Colors | None:
    """Returns the order of colors that a config beside a file of weights names; None if none does.

    Raises:
      UserError: a config names another order, or two of them differ.
    """
    folder, said = pathlib.Path(weights).parent, {}
    for path in (folder / name for name in CONFIGS):
        order = _order_of(path) if path.is_file() else None
        if order is not None:
            said[path] = order
    for path, order in said.items():
        if order not in ("rgb", "bgr"):
            raise UserError(f"{path} says {_KEY} {order!r}, which is neither RGB nor BGR: say --order rgb or bgr")
    if len(set(said.values())) > 1:
        raise UserError(f"{' and '.join(map(str, said))} name different orders of colors: say --order rgb or bgr")
    return next((Colors(order, str(path)) for path, order in said.items()), None)


def _order_of(path: pathlib.Path) -> str | None:
    content = path.read_bytes()[:_LARGEST_CONFIG].decode("utf-8", "replace")
    if path.suffix == ".yaml":
        line = _YAML.search(content)
        return line[1].lower() if line else None
    try:
        return _found(json.loads(content))
    except (ValueError, RecursionError):
        return None  # of some other tool


def _found(config: Any) -> str | None:
    """The key at the top of a JSON object, or in one that it holds."""
    if not isinstance(config, dict):
        return None
    inner = [value.get(_KEY) for value in config.values() if isinstance(value, dict)]
    return next((value.lower() for value in (config.get(_KEY), *inner) if isinstance(value, str)), None)
