"""The `remi` preset: MidiTok's REMI tokens, one stream of ids (F = 1).

A piece is ``{ Bar TimeSig { Position [Tempo] { Program Pitch Velocity Duration } } }``; the ids are
MidiTok's, so that models, merges and tools of its users fit. The preset file holds MidiTok's
configuration and the vocabulary that it makes. Encoding, decoding, training windows and the guide
are arithmetic on that vocabulary (remi.py, remi_encoder.py); MidiTok is loaded only to make a new
preset (`from_config`), to learn or apply merges (`train_bpe`), and as the reference in tests.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musegen.errors import TokenError
from musegen.music.score import Bar, Score
from musegen.tokens.remi import RemiVocabulary, read_ids
from musegen.tokens.remi_documents import document, sample_of, transposed
from musegen.tokens.remi_encoder import Parts, account, write_ids
from musegen.tokens.remi_grid import meter_of_bar, regrid
from musegen.tokens.tokenizer import (
    ChannelSpec,
    DocumentMix,
    Encoding,
    PieceInfo,
    Sample,
    Tokenizer,
)

if TYPE_CHECKING:
    from musegen.tokens.plan import CompositionPlan, PlanGuide

__all__ = ["MidiTokenizer"]

_FIXED = {
    "use_velocities": True,
    "use_tempos": True,
    "use_time_signatures": True,
    "use_programs": True,
    "one_token_stream_for_programs": True,
    "use_pitchdrum_tokens": True,
    "remove_duplicated_notes": True,
    "delete_equal_successive_tempo_changes": True,
    "delete_equal_successive_time_sig_changes": True,
    "program_changes": False,
    "use_chords": False,
    "use_rests": False,
    "use_key_signatures": False,
    "use_sustain_pedals": False,
    "use_pitch_bends": False,
    "use_control_changes": False,
    "use_pitch_intervals": False,
    "encode_ids_split": "bar",
}
"""Settings of MidiTok that the encoder is written for; the others (grid, velocities, tempi, meters)
are free."""


class MidiTokenizer(Tokenizer):
    """Flat ids over MidiTok's REMI vocabulary, with merges (BPE) where they were learnt.

    Args:
        name: the preset's name.
        config: MidiTok's configuration as JSON types (`TokenizerConfig.to_dict(serialize=True)`).
        vocabulary: MidiTok's tokens in the order of their ids.
        trained: with merges, MidiTok's own parameters (`REMI.to_dict()`), else None.
        expansions: with merges, for each merged id the base ids that it stands for.

    Raises:
        TokenError: a configuration or a vocabulary that the encoder is not written for.
    """

    channels: tuple[ChannelSpec, ...] = ()
    axes = ("index",)
    field_names = ("token",)

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        vocabulary: Sequence[str],
        trained: Mapping[str, Any] | None = None,
        expansions: Sequence[Sequence[int]] | None = None,
    ) -> None:
        for key, value in _FIXED.items():
            if config.get(key) != value:
                raise TokenError(
                    f"preset {name!r}: MidiTok's {key} is {config.get(key)!r}; musegen's encoder "
                    f"is written for {value!r}"
                )
        self.name = name
        self.config = dict(config)
        self.vocabulary = RemiVocabulary(vocabulary)
        self.trained = None if trained is None else dict(trained)
        self._expansions: list[list[int]] | None = None
        if trained is not None:
            self._expansions = [list(map(int, ids)) for ids in expansions or ()]
            flat = [id_ for ids in self._expansions for id_ in ids]
            if not flat or min(flat) < 0 or max(flat) >= self.vocabulary.size:
                raise TokenError(f"preset {name!r}: merges without what they stand for")
        self.field_sizes = (len(self._expansions or self.vocabulary.tokens),)

    # --- Scores to ids and back ------------------------------------------------------------------

    def encode(self, score: Score) -> Encoding:
        """A score as ids, shape (T, 1): MidiTok's for the same score.

        Meters that the preset has not, and bars cut short, are written out first (`regrid`).
        """
        if not score.num_notes:
            raise TokenError("the score has no notes: there is nothing to encode")
        plain, messages = regrid(score, self.vocabulary)
        parts = Parts.from_score(plain)
        laid = write_ids(parts, self.vocabulary)
        return Encoding(self._rows(laid.ids), account(score, plain, parts, laid, messages))

    def decode(self, rows: np.ndarray) -> Score:
        """Ids (T, 1) or (T,) as a score on the grid, as MidiTok decodes them.

        Raises:
            TokenError: ids outside the vocabulary, or another shape.
        """
        return read_ids(self.base_ids(rows), self.vocabulary)

    def base_ids(self, rows: np.ndarray) -> np.ndarray:
        """Rows (T, 1) or (T,) as ids of the vocabulary without merges, int64."""
        rows = np.asarray(rows)
        if rows.ndim == 2 and rows.shape[1] == 1:
            rows = rows[:, 0]
        if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or not rows.size):
            raise TokenError(
                f"ids of shape {rows.shape}: the preset {self.name!r} has one id a row"
            )
        ids = rows.astype(np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.field_sizes[0]):
            raise TokenError(
                f"ids from {ids.min()} to {ids.max()}: the preset {self.name!r} has 0 to "
                f"{self.field_sizes[0] - 1}"
            )
        if self._expansions is None:
            return ids
        pieces, lengths = self._expanded
        starts = np.cumsum(lengths) - lengths
        count = lengths[ids]
        offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return pieces[np.repeat(starts[ids], count) + offsets]

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Base ids as rows (T, 1) uint16, merged where the preset has merges."""
        if self._expansions is not None:
            ids = np.array(self._merge(ids), dtype=np.uint16)
        return np.ascontiguousarray(ids, dtype=np.uint16)[:, None]

    # --- Training windows ------------------------------------------------------------------------

    def sample(
        self,
        rows: np.ndarray,
        length: int,
        rng: np.random.Generator,
        info: PieceInfo,
        mix: DocumentMix = DocumentMix(),
    ) -> Sample:
        """A crop that begins at a barline, with the tempo in force said in its header.

        Flat documents are all plain: `mix` changes nothing.

        A piece's own beginning is opened by BOS, its end closed by EOS. What the header adds bears
        no loss: in sampling it is forced.
        """
        ids = self.base_ids(rows)
        bars = np.flatnonzero(ids == self.vocabulary.bar)
        if not len(bars):
            raise TokenError("these ids hold no bar")
        # windows are full where the piece allows it, and its beginning is not rarer than the rest
        last = int(np.searchsorted(bars, max(0, len(ids) + 2 - length), side="left"))
        first = 0 if rng.random() < 0.2 else int(rng.integers(min(last, len(bars) - 1) + 1))
        reach = 1 if self._expansions is None else 6
        stop = min(len(ids), int(bars[first]) + reach * length)
        merged, weights = self._merged(*document(ids, bars, first, stop, self.vocabulary))
        return sample_of(merged[:length], weights[:length])

    def windows(self, rows: np.ndarray, length: int, info: PieceInfo) -> list[Sample]:
        """Whole bars, as many as fit; a bar longer than a window is cut."""
        ids = self.base_ids(rows)
        bars = np.flatnonzero(ids == self.vocabulary.bar)
        ends = np.append(bars[1:], len(ids))
        samples, first = [], 0
        while first < len(bars):
            room = int(bars[first]) + length - 4  # at most four rows are added
            last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
            rows_here, weights = document(ids, bars, first, int(ends[last - 1]), self.vocabulary)
            rows_here, weights = self._merged(rows_here, weights)
            for begin in range(0, len(rows_here), length):
                part = slice(begin, begin + length)
                samples.append(sample_of(rows_here[part], weights[part]))
            first = last
        return samples

    def _merged(self, ids: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A document with merges, if there are any; a row weighs as much as its heaviest part."""
        if self._expansions is None:
            return ids, weights
        merged = np.array(self._merge(ids), dtype=np.int64)
        heaviest = np.zeros(len(merged), dtype=np.float32)
        part_of = np.repeat(np.arange(len(merged)), self._expanded[1][merged])
        np.maximum.at(heaviest, part_of, weights)
        return merged, heaviest

    def note_rows(self, rows: np.ndarray) -> np.ndarray:
        """Pitches count as the notes; of merged rows those that hold one or more."""
        ids = np.asarray(rows).reshape(-1).astype(np.int64)
        is_pitch = self.vocabulary.is_pitch
        if self._expansions is None:
            return is_pitch[ids]
        return np.array([bool(is_pitch[part].any()) for part in self._expansions])[ids]

    def num_notes(self, rows: np.ndarray) -> int:
        return int(np.count_nonzero(self.vocabulary.is_pitch[self.base_ids(rows)]))

    # --- Augmentation ----------------------------------------------------------------------------

    def transpose(self, rows: np.ndarray, semitones: int) -> np.ndarray | None:
        if not semitones:
            return np.asarray(rows)
        moved = transposed(self.base_ids(rows), semitones, self.vocabulary)
        return None if moved is None else self._rows(moved)

    def stretch_tempo(self, rows: np.ndarray, factor: float) -> np.ndarray:
        v = self.vocabulary
        ids = self.base_ids(rows)
        where = np.flatnonzero(v.kinds[ids] == "Tempo")
        bpm = v.bpm[v.values[ids[where]]] * factor
        result = ids.copy()
        result[where] = v.tempo_ids[v.tempo_class(60_000_000 / bpm)]
        return self._rows(result)

    def meter_for(self, numerator: int, denominator: int) -> tuple[int, int]:
        """The meter itself if it has a token, else the nearest in length."""
        bar = Bar(0, 3840 * numerator // denominator, numerator, denominator)
        return meter_of_bar(bar, 960, self.vocabulary)[0]

    def guide(self, plan: CompositionPlan, max_positions: int) -> PlanGuide:
        """The rules for composing; there are none for presets with merges."""
        from musegen.tokens.remi_grammar import RemiGuide

        return RemiGuide(self, plan, max_positions)

    # --- MidiTok ---------------------------------------------------------------------------------

    @property
    def has_merges(self) -> bool:
        """Whether ids stand for several tokens (`train_bpe`)."""
        return self._expansions is not None

    @cached_property
    def reference(self) -> Any:
        """MidiTok's own `REMI` of this preset: `reference(symusic_score).ids` are our ids.

        Raises:
            TokenError: the installed MidiTok makes another vocabulary of the configuration.
        """
        import miditok

        if self.trained is not None:
            # MidiTok reads parameters from a file only
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "tokenizer.json"
                path.write_text(json.dumps(self.trained), "utf-8")
                remi = miditok.REMI(params=path)
        else:
            remi = miditok.REMI(_miditok_config(self.config))
        tokens = sorted(remi.vocab, key=remi.vocab.__getitem__)
        if tuple(tokens) != self.vocabulary.tokens:
            raise TokenError(
                f"preset {self.name!r}: the installed MidiTok makes other ids of its "
                "configuration; install the version that constraints.txt names"
            )
        return remi

    @cached_property
    def _expanded(self) -> tuple[np.ndarray, np.ndarray]:
        """Base ids of all merged ids in a row, and how many each has."""
        expansions = self._expansions or []
        flat = np.array([id_ for ids in expansions for id_ in ids], dtype=np.int64)
        return flat, np.array([len(ids) for ids in expansions], dtype=np.int64)

    def _merge(self, ids: np.ndarray) -> list[int]:
        """Base ids to merged ids; merges never cross a barline (`encode_ids_split`)."""
        remi = self.reference
        return remi._model.encode(_bar_bytes(remi, ids, self.vocabulary), is_pretokenized=True).ids

    def train_bpe(
        self, pieces: Iterable[np.ndarray | Score], vocab_size: int, name: str | None = None
    ) -> MidiTokenizer:
        """A preset with merges learnt from pieces (rows of this preset, or scores).

        Byte pair encoding by MidiTok (Fradet et al., 2023, arXiv 2301.11975), within bars;
        `vocab_size` counts the ids of the vocabulary too.

        Raises:
            TokenError: `vocab_size` is no larger than the vocabulary, or there are no pieces.
        """
        if self._expansions is not None:
            raise TokenError(f"preset {self.name!r} has merges already: train from one without")
        if not self.vocabulary.size < vocab_size < 2**16:
            raise TokenError(
                f"vocab_size {vocab_size}: more than the {self.vocabulary.size} ids of "
                f"{self.name!r} and less than 65536 are needed"
            )
        fresh = MidiTokenizer(self.name, self.config, self.vocabulary.tokens)
        remi = fresh.reference
        texts = []
        for piece in pieces:
            rows = self.encode(piece).rows if isinstance(piece, Score) else piece
            texts.append(_bar_bytes(remi, self.base_ids(rows), self.vocabulary))
        if not texts:
            raise TokenError("no pieces to learn merges from")
        remi.train(vocab_size=vocab_size, model="BPE", iterator=texts)
        learnt = remi._model.get_vocab()
        expansions: list[list[int]] = [[] for _ in range(max(learnt.values()) + 1)]
        for text, id_ in learnt.items():
            expansions[id_] = [remi.vocab[t] for t in remi._vocab_learned_bytes_to_tokens[text]]
        trained = json.loads(json.dumps(remi.to_dict()))
        return MidiTokenizer(
            name or f"{self.name}-bpe", self.config, self.vocabulary.tokens, trained, expansions
        )

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> MidiTokenizer:
        """A preset from MidiTok's full configuration, in its JSON form."""
        import miditok

        made = _miditok_config(config)
        remi = miditok.REMI(made)
        tokens = sorted(remi.vocab, key=remi.vocab.__getitem__)
        settled = json.loads(json.dumps(made.to_dict(serialize=True)))
        for key in ("programs", "use_note_duration_programs", "control_change_numbers"):
            settled[key] = sorted(settled[key])  # sets, in no order
        return cls(name, settled, tokens)

    # --- JSON ------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "kind": "remi",
            "name": self.name,
            "format": 1,
            "config": self.config,
            "vocabulary": list(self.vocabulary.tokens),
        }
        if self.trained is not None:
            data["trained"] = self.trained
            data["expansions"] = self._expansions
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MidiTokenizer:
        """Raises TokenError for another format or missing parts."""
        if data.get("format") != 1:
            raise TokenError(f"remi preset of format {data.get('format')!r}: this musegen reads 1")
        config, tokens = data.get("config"), data.get("vocabulary")
        if not isinstance(config, dict) or not isinstance(tokens, list):
            raise TokenError("remi preset: 'config' must be an object and 'vocabulary' a list")
        if not all(isinstance(token, str) for token in tokens):
            raise TokenError("remi preset: 'vocabulary' must be a list of strings")
        try:
            return cls(
                str(data.get("name", "remi")),
                config,
                tokens,
                data.get("trained"),
                data.get("expansions"),
            )
        except (TypeError, ValueError) as error:
            raise TokenError(f"remi preset: damaged: {error}") from error


def _miditok_config(config: Mapping[str, Any]) -> Any:
    """MidiTok's `TokenizerConfig` from its JSON form, where keys of dicts are strings.

    MidiTok numbers its tokens in the order of these dicts, which JSON does not promise to keep:
    they are sorted here.
    """
    import miditok

    data = dict(config)
    for key in ("beat_res", "beat_res_rest"):
        spans = {tuple(map(int, span.split("_"))): value for span, value in data[key].items()}
        data[key] = dict(sorted(spans.items()))
    ranges = {int(key): list(value) for key, value in data["time_signature_range"].items()}
    data["time_signature_range"] = dict(sorted(ranges.items()))
    for key in ("pitch_range", "tempo_range", "drums_pitch_range", "pitch_bend_range"):
        data[key] = tuple(data[key])
    data.update(data.pop("additional_params"))
    return miditok.TokenizerConfig(**data)


def _bar_bytes(remi: Any, ids: np.ndarray, v: RemiVocabulary) -> list[str]:
    """Base ids as MidiTok's strings of one character an id, cut before every Bar."""
    characters = [remi._vocab_base_id_to_byte[id_] for id_ in range(v.size)]
    cuts = np.flatnonzero(ids == v.bar)
    edges = [0, *cuts[cuts > 0].tolist(), len(ids)]
    text = [characters[id_] for id_ in ids.tolist()]
    return ["".join(text[a:b]) for a, b in itertools.pairwise(edges)]
