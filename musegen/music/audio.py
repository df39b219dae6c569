"""A score as sound: through FluidSynth where it is installed, else through our own sine waves.

FluidSynth is called as a program, not through pyfluidsynth: the binding needs the same library of
the operating system, adds a package, and a broken sound font would end the Python process with it.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from musegen.errors import MidiError, OutputError, UsageError
from musegen.music.bars import barline_after
from musegen.music.export import pretty_midi_sound_font
from musegen.music.normal import normal_form
from musegen.music.score import Score, Track
from musegen.music.synth import synthesise
from musegen.music.writer import MELODIC_CHANNELS, write_midi

PROGRAM = "fluidsynth"
HOW_TO_GET_IT = (
    "for real instruments install FluidSynth (apt install fluidsynth, brew install fluid-synth,"
    " choco install fluidsynth)"
)
SOUND_FONT_VARIABLE = "MUSEGEN_SOUNDFONT"

MAX_FRAMES = 30 * 60 * 48_000
"""The longest sound that is made: half an hour at 48 kHz, 350 MB."""

SOUND_FONTS = (
    "/usr/share/sounds/sf2/default-GM.sf2",  # Debian and Ubuntu
    "/usr/share/sounds/sf3/default-GM.sf3",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/TimGM6mb.sf2",
    "/usr/share/soundfonts/default.sf2",  # Arch and Fedora
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/local/share/soundfonts/default.sf2",
    "/opt/homebrew/share/soundfonts/default.sf2",
    "C:/soundfonts/default.sf2",  # where FluidSynth itself looks on Windows
)
"""Where systems keep a General MIDI sound font; the first that is there is taken."""

_PEAK = round(32767 * 10 ** (-1 / 20))
"""The loudest sample of what we return: 1 dB below full scale."""
_SILENT = _PEAK // 1000
"""A sample below so much (-60 dB) belongs to no tail."""
_GAINS = (0.6, 0.15, 0.04)
"""FluidSynth's gain, tried in turn until nothing is clipped (its own default is 0.2)."""


def render_wav(
    score: Score, *, soundfont: str | os.PathLike | None = None, rate: int = 44_100
) -> tuple[bytes, str]:
    """The score as a WAV file, 16 bits, stereo, and how it was made, in a few words.

    It lasts to the barline at which the score ends, or until its last sound has died away where
    that is later; its loudest sample is 1 dB below full scale. Of the same score the sine waves are
    the same bytes; FluidSynth's depend on its version and the sound font.

    Args:
        score: what is to be heard.
        soundfont: an .sf2 or .sf3 file; None: that of MUSEGEN_SOUNDFONT, else the system's, else
            the one that pretty_midi carries.
        rate: frames a second.

    Raises:
        UsageError: the sound font is none, or the rate is not 8,000 to 96,000.
        MidiError: the score is too long, or cannot be a MIDI file.
        OutputError: FluidSynth failed.
    """
    if not 8_000 <= rate <= 96_000:
        raise UsageError(f"a rate of {rate} frames a second; 8000 to 96000 is valid")
    named = _named_font(soundfont)
    score, _ = normal_form(score)
    end_tick = max(barline_after(score, score.end_tick), barline_after(score, score.length_tick))
    least = math.ceil(score.seconds_at(end_tick) * rate)
    if least > MAX_FRAMES:
        raise MidiError(
            f"score: {least / rate / 60:.0f} minutes of sound; at most"
            f" {MAX_FRAMES / rate / 60:.0f} are rendered: render a part of it"
        )
    program = shutil.which(PROGRAM)
    font = named or _found_font()
    if not score.num_notes:
        return wav_bytes(np.zeros((0, 2), np.int16), least, rate), "silence: there are no notes"
    if program is None or font is None:
        lacking = HOW_TO_GET_IT
        if program is not None:
            lacking = f"for real instruments name a sound font: {SOUND_FONT_VARIABLE}=FILE.sf2"
        return wav_bytes(synthesise(score, rate), least, rate), f"sine waves: {lacking}"
    frames = _played(program, font, score, rate)
    owner = " of pretty_midi" if font == pretty_midi_sound_font() else ""
    return wav_bytes(frames, least, rate), f"fluidsynth with {font.resolve().stem}{owner}"


# --- Sound fonts ----------------------------------------------------------------------------------


def _named_font(soundfont: str | os.PathLike | None) -> Path | None:
    """The sound font that the user names; raises UsageError where it is none."""
    said = ""
    if soundfont is None and os.environ.get(SOUND_FONT_VARIABLE):
        soundfont, said = os.environ[SOUND_FONT_VARIABLE], f"{SOUND_FONT_VARIABLE}: "
    if soundfont is None:
        return None
    path = Path(soundfont).expanduser().absolute()
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{said}{path}: the sound font cannot be read: {reason}") from None
    if not _is_font(head):
        raise UsageError(f"{said}{path}: is no sound font; name an .sf2 or .sf3 file")
    return path


def _found_font() -> Path | None:
    for name in SOUND_FONTS:
        if os.access(name, os.R_OK):
            return Path(name)
    return pretty_midi_sound_font()


def _is_font(head: bytes) -> bool:
    """Whether a file begins as a sound font does (FluidSynth ends with 0 when it reads none)."""
    return head[:4] == b"RIFF" and head[8:12] in (b"sfbk", b"DLS ")


# --- FluidSynth -----------------------------------------------------------------------------------


def _played(program: str, font: Path, score: Score, rate: int) -> np.ndarray:
    """The score through FluidSynth: int16, shape (frames, 2), nothing clipped where it can be."""
    loads = [write_midi(score.replace(tracks=tracks)) for tracks in _loads(score.tracks)]
    for gain in _GAINS:
        parts = [_run(program, font, midi, rate, gain) for midi in loads]
        mixed = parts[0]
        if len(parts) > 1:
            total = np.zeros((max(map(len, parts)), 2), np.int32)
            for part in parts:
                total[: len(part)] += part
            mixed = np.clip(total, -32768, 32767).astype(np.int16)
        if _peak(mixed) < 32767:
            break
    return mixed


def _loads(tracks: tuple[Track, ...]) -> Iterator[tuple[Track, ...]]:
    """Tracks such that each load fits the 16 channels of one port, which is what FluidSynth has."""
    sounding = [track for track in tracks if len(track)]
    melodic = [track for track in sounding if not track.is_drum]
    size = len(MELODIC_CHANNELS)
    kits: dict[tuple[int, int], list[Track]] = {}
    for track in sounding:
        if track.is_drum:
            kits.setdefault((track.program, track.bank), []).append(track)
    drums = list(kits.values())
    for number in range(max(-(-len(melodic) // size), len(drums))):
        kit = drums[number] if number < len(drums) else []
        yield (*melodic[number * size : (number + 1) * size], *kit)


def _run(program: str, font: Path, midi: bytes, rate: int, gain: float) -> np.ndarray:
    """One MIDI file through FluidSynth: int16, shape (frames, 2).

    Raw samples, because a FluidSynth without libsndfile writes no other format.
    """
    with tempfile.TemporaryDirectory(prefix="musegen-") as folder:
        source, target = Path(folder, "piece.mid"), Path(folder, "piece.raw")
        options = [
            *("-f", os.devnull),  # not the user's configuration, which may load anything
            *("-n", "-i", "-q", "-T", "raw", "-O", "s16", "-E", "cpu"),
            *("-r", str(rate), "-g", str(gain), "-o", "synth.polyphony=512"),
            *("-F", str(target), str(font), str(source)),
        ]
        try:
            source.write_bytes(midi)
            done = subprocess.run(
                [program, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=600,
                check=False,
            )
            if done.returncode == 0 and target.is_file() and target.stat().st_size >= 4:
                samples = np.fromfile(target, np.int16)
                return samples[: len(samples) // 2 * 2].reshape(-1, 2)
        except subprocess.TimeoutExpired:
            raise OutputError(f"{program}: not done after 10 minutes, stopped") from None
        except OSError as error:
            raise OutputError(f"{program}: cannot run: {error.strerror or error}") from None
    said = done.stderr.decode("utf-8", "replace").split("\n")
    reason = next((line.strip()[:200] for line in said if line.strip()), "it wrote no sound")
    raise OutputError(f"{program} with {font}: failed (exit code {done.returncode}): {reason}")


# --- WAV ------------------------------------------------------------------------------------------


def _peak(frames: np.ndarray) -> int:
    """The greatest absolute sample of an int16 array; 0 for an empty one."""
    return max(int(frames.max(initial=0)), -int(frames.min(initial=0)))


def wav_bytes(frames: np.ndarray, least: int, rate: int) -> bytes:
    """A WAV file of int16 frames (N, 2): levelled, its silent end cut, at least `least` frames.

    (Source: Multimedia Programming Interface and Data Specifications 1.0, IBM and Microsoft, 1991.)
    """
    peak = _peak(frames)
    scale = _PEAK / peak if peak else 1.0
    stop = least
    for begin in range(len(frames) // rate * rate, -1, -rate):  # from the end, a second at a time
        heard = np.any(np.abs(frames[begin : begin + rate] * scale) >= _SILENT, axis=1)
        if heard.any():
            stop = max(stop, begin + int(np.flatnonzero(heard)[-1]) + 1)
            break
    size = stop * 4
    data = bytearray(44 + size)
    struct.pack_into(
        "<4sI4s4sIHHIIHH4sI",
        *(data, 0, b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 2, rate, rate * 4, 4, 16),
        *(b"data", size),
    )
    samples = np.frombuffer(data, "<i2", offset=44).reshape(-1, 2)
    for begin in range(0, min(stop, len(frames)), rate):
        part = frames[begin : min(begin + rate, stop)]
        samples[begin : begin + len(part)] = np.rint(part * scale)
    return bytes(data)
