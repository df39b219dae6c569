"""What lies on disk beside the code, found by name: presets, data cards, weights.

* presets: `tokenizers/<name>.json`, a tokenizer's settings and merges
* cards: `datasets/<name>.toml`, one corpus each
* weights: `musegen/weights/<name>/`, the checkpoints in the wheel; and `<name>/` below the user's
  own folder (`user_folder()`), which wins where both have the name

Nothing here reads weights or imports torch.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from musegen.errors import CheckpointError, ConfigError, DataError, MusegenError

_PACKAGE = Path(__file__).parent
_BESIDE = _PACKAGE if (_PACKAGE / "cli").is_dir() else _PACKAGE.parent
"""Where cli/, tokenizers/ and datasets/ are: in the package, or beside it in a checkout."""

DEFAULT_MODEL = "default"

TEXT_LIMIT = 2**20
"""Bytes of a settings file or a model card that are looked at."""


def user_folder() -> Path:
    """The user's own folder for weights and caches; `MUSEGEN_HOME` moves it. May not exist."""
    home = os.environ.get("MUSEGEN_HOME")
    if home:
        return Path(home).expanduser()
    from platformdirs import user_data_path

    return user_data_path("musegen", appauthor=False)


def engine_folder() -> Path:
    """Where prepared weights are kept that cannot lie beside a checkpoint. May not exist."""
    if os.environ.get("MUSEGEN_HOME"):
        return user_folder() / "engines"
    from platformdirs import user_cache_path

    return user_cache_path("musegen", appauthor=False) / "engines"


def is_packaged(folder: Path) -> bool:
    """Whether a checkpoint came with musegen: nothing is written beside it."""
    return folder.is_relative_to(_PACKAGE / "weights")


def presets() -> dict[str, Path]:
    """The tokenizer presets by name."""
    return _files(_BESIDE / "tokenizers", ".json")


def cards() -> dict[str, Path]:
    """The data cards by name."""
    return _files(_BESIDE / "datasets", ".toml")


def image_cards() -> dict[str, Path]:
    """The cards of pictures by name."""
    return _files(_BESIDE / "datasets" / "images", ".toml")


def image_card_path(name: str) -> Path:
    """The file of a card of pictures. Raises DataError for a name that there is not."""
    return _named(name, image_cards(), "card of pictures", DataError)


def preset_path(name: str) -> Path:
    """The file of a preset. Raises ConfigError for a name that there is not."""
    return _named(name, presets(), "tokenizer preset", ConfigError)


def card_path(name: str) -> Path:
    """The file of a data card. Raises DataError for a name that there is not."""
    return _named(name, cards(), "data card", DataError)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that is installed: what its folder says of it, without reading the weights."""

    name: str
    folder: Path
    origin: str
    """`package` (came with musegen) or `user`."""
    size_bytes: int
    """Of model.safetensors; 0 where it is missing."""
    family: str
    version: str
    """Of the musegen that wrote it."""
    preset: str
    licence: str
    data: str
    """What it was trained on, in words."""
    problem: str
    """Why it cannot be used; empty when nothing is known against it."""


def weights() -> dict[str, Path]:
    """The installed models by name: a folder each."""
    found: dict[str, Path] = {}
    for base in (_PACKAGE / "weights", user_folder() / "weights"):
        found |= {folder.name: folder for folder in _folders(base)}
    return found


def weights_path(name_or_folder: str | os.PathLike[str]) -> Path:
    """The checkpoint folder behind a name of `weights()` or a path.

    A name of an installed model comes first; a folder of the same name is `./name`. Raises
    CheckpointError where there is neither.
    """
    text = os.fspath(name_or_folder)
    if not text:
        raise CheckpointError("the model's name is empty: give a name or a folder")
    installed = weights()
    if text in installed:
        return installed[text]
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{text} is a file: give the checkpoint's folder")
    if _is_path(text):
        raise CheckpointError(f"{text}: no such folder; `musegen train --out {text}` makes one")
    return _named(text, installed, "installed model", CheckpointError)


def describe_weights(name_or_folder: str | os.PathLike[str]) -> Weights:
    """What a checkpoint folder says of itself; a damaged one is described too."""
    folder = weights_path(name_or_folder)
    settings, problem = _settings(folder)
    card = _front_matter(folder / "README.md")
    file = folder / "model.safetensors"
    size = file.stat().st_size if file.is_file() else 0
    if not size:
        problem = problem or "model.safetensors is missing"
    return Weights(
        name=folder.name,
        folder=folder,
        origin="package" if is_packaged(folder) else "user",
        size_bytes=size,
        family=_text(settings, "musegen", "family"),
        version=_text(settings, "musegen", "version"),
        preset=_preset_of(folder),
        licence=card.get("license", ""),
        data=card.get("data", "") or _text(settings, "training", "data"),
        problem=problem,
    )


def read_start(path: Path) -> str:
    """A text of a model's folder; of one that is absurdly long, the start."""
    with path.open("rb") as file:
        return file.read(TEXT_LIMIT).decode("utf-8", "replace")


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    paths = sorted(folder.glob("*" + suffix)) if folder.is_dir() else []
    return {path.stem: path for path in paths}


def _folders(base: Path) -> list[Path]:
    try:
        return sorted(path for path in base.iterdir() if (path / "config.toml").is_file())
    except OSError:  # not there, or not ours to read
        return []


def _named(name: str, known: dict[str, Path], kind: str, error: type[MusegenError]) -> Path:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise error(f"no {kind} is named {name!r}; {hint}")


def _is_path(text: str) -> bool:
    return os.sep in text or "/" in text or text.startswith((".", "~"))


def _settings(folder: Path) -> tuple[dict, str]:
    path = folder / "config.toml"
    if not path.is_file():
        return {}, "config.toml is missing"
    try:
        return tomllib.loads(read_start(path)), ""
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"config.toml cannot be read: {error}"


def _preset_of(folder: Path) -> str:
    """The preset's name from tokenizer.json, without the weight of a JSON of 100,000 merges."""
    try:
        with (folder / "tokenizer.json").open(encoding="utf-8") as file:
            head = file.read(4096)
    except (OSError, ValueError):
        return ""
    match = re.search(r'"(?:name|preset)"\s*:\s*"([^"\\]{1,100})"', head)
    return match[1] if match else ""


def _text(settings: dict, section: str, key: str) -> str:
    table = settings.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else ""


def _front_matter(path: Path) -> dict[str, str]:
    """The `key: value` lines between the two `---` at the top of a model card."""
    try:
        lines = read_start(path).splitlines()[:200] if path.is_file() else []
    except OSError:
        return {}
    found: dict[str, str] = {}
    if not lines or lines[0].strip() != "---":
        return found
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        key, colon, value = line.partition(":")
        if colon and key and not key[0].isspace():
            found[key.strip().lower()] = value.strip().strip("\"'")
    return {}
