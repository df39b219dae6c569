from __future__ import annotations

from pathlib import Path

import pytest

from musegen import assets
from musegen.errors import CheckpointError, ConfigError, DataError

CONFIG = '[musegen]\nfamily = "transformer"\nversion = "0.1.0"\n'
CARD = """---
license: CC-BY-4.0
data: "folk tunes"
---
# A model
"""


def make_model(folder: Path, config: str = CONFIG, size: int = 10) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config, encoding="utf-8")
    if size:
        (folder / "model.safetensors").write_bytes(b"x" * size)
    (folder / "tokenizer.json").write_text('{"name": "events"}', encoding="utf-8")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSEGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_presets_and_cards_are_found():
    for name, path in [*assets.presets().items(), *assets.cards().items()]:
        assert path.is_file()
        assert path.stem == name
    for name in assets.presets():
        assert assets.preset_path(name).suffix == ".json"
    for name in assets.cards():
        assert assets.card_path(name).suffix == ".toml"


def test_unknown_names_suggest_the_nearest(home):
    make_model(home / "weights" / "chorales")
    with pytest.raises(CheckpointError, match="did you mean chorales"):
        assets.weights_path("choral")
    with pytest.raises(DataError, match="data card is named 'nowhere'"):
        assets.card_path("nowhere")
    with pytest.raises(ConfigError, match="tokenizer preset is named 'zzz'"):
        assets.preset_path("zzz")


def test_models_of_the_user_are_listed_and_described(home):
    folder = make_model(home / "weights" / "mine")
    assert assets.weights()["mine"] == folder
    model = assets.describe_weights("mine")
    assert (model.origin, model.family, model.preset) == ("user", "transformer", "events")
    assert model.version == "0.1.0"
    assert (model.licence, model.data, model.size_bytes) == ("CC-BY-4.0", "folk tunes", 10)
    assert model.problem == ""


def test_a_folder_works_as_a_name(tmp_path, home):
    folder = make_model(tmp_path / "run")
    assert assets.weights_path(folder) == folder
    assert assets.weights_path(str(folder)) == folder


@pytest.mark.parametrize(
    ("config", "size", "problem"),
    [
        ('[musegen]\nfamily = "tra', 10, "config.toml cannot be read"),
        ("musegen = 3\n", 10, ""),
        ("a = " + "[" * 100_000, 10, "config.toml cannot be read"),
        (f"{CONFIG}# {'x' * assets.TEXT_LIMIT}", 10, ""),
        (CONFIG, 0, "model.safetensors is missing"),
    ],
)
def test_damaged_models_are_described(home, config, size, problem):
    make_model(home / "weights" / "broken", config, size)
    assert problem in assets.describe_weights("broken").problem


def test_paths_that_are_not_there(tmp_path, home):
    with pytest.raises(CheckpointError, match="name is empty"):
        assets.weights_path("")
    with pytest.raises(CheckpointError, match="no such folder"):
        assets.weights_path(tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="is a file"):
        assets.weights_path(file)
