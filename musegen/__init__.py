"""musegen: from MIDI to MIDI.

```python
import musegen

piece = musegen.compose("seed.mid", bars=16)
piece.save("out.mid")
```

The public names below are loaded when they are first used: `import musegen` costs nothing, and
neither torch nor MidiTok is imported before something needs it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_here = Path(__file__).parent
if not (_here / "cli").is_dir():  # a checkout: cli/, tokenizers/ and datasets/ lie beside musegen/
    __path__.append(str(_here.parent))

__version__ = "0.1.0"

_HOME = {
    "Model": "musegen.model",
    "Note": "musegen.music.score",
    "Piece": "musegen.api",
    "Score": "musegen.music.score",
    "Track": "musegen.music.score",
    "compose": "musegen.api",
    "evaluate": "musegen.api",
    "load_tokenizer": "musegen.tokens.tokenizer",
    "read_midi": "musegen.music.midi",
    "train": "musegen.api",
    "write_midi": "musegen.music.writer",
}
"""Where each public name lives."""

__all__ = [
    "Model",
    "Note",
    "Piece",
    "Score",
    "Track",
    "__version__",
    "compose",
    "errors",
    "evaluate",
    "load_tokenizer",
    "read_midi",
    "train",
    "write_midi",
]

if TYPE_CHECKING:
    from musegen import errors as errors
    from musegen.api import Piece as Piece
    from musegen.api import compose as compose
    from musegen.api import evaluate as evaluate
    from musegen.api import train as train
    from musegen.model import Model as Model
    from musegen.music.midi import read_midi as read_midi
    from musegen.music.score import Note as Note
    from musegen.music.score import Score as Score
    from musegen.music.score import Track as Track
    from musegen.music.writer import write_midi as write_midi
    from musegen.tokens.tokenizer import load_tokenizer as load_tokenizer


def __getattr__(name: str) -> Any:
    """Loads a public name on first use (PEP 562)."""
    if name == "errors":
        return import_module("musegen.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'musegen' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
