"""audio.py and synth.py: WAV files, by sine waves and by a program in FluidSynth's place."""

from __future__ import annotations

import io
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from musegen.errors import MidiError, OutputError, UsageError
from musegen.music import audio
from musegen.music.audio import render_wav
from musegen.music.export import pretty_midi_sound_font
from musegen.music.piece import Piece
from musegen.music.score import NOTE_DTYPE, Score, Tempo, Track
from musegen.music.synth import seconds_of, synthesise

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RATE = 16_000
needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="the fake program is a script")


def tone(pitch: int = 69, quarters: int = 2, **track: object) -> Score:
    notes = np.array([(0, 480 * quarters, pitch, 100)], NOTE_DTYPE)
    return Score(tracks=(Track(notes=notes, **track),))  # type: ignore[arg-type]


def samples(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


@pytest.fixture
def no_program(monkeypatch):
    monkeypatch.delenv(audio.SOUND_FONT_VARIABLE, raising=False)
    monkeypatch.setattr(audio, "PROGRAM", "no-such-fluidsynth")


@pytest.fixture
def fake_program(monkeypatch, tmp_path):
    """Puts a script in FluidSynth's place; its arguments come back as a list of lines."""
    font = tmp_path / "fake.sf2"
    font.write_bytes(b"RIFF\0\0\0\0sfbk")
    monkeypatch.setenv(audio.SOUND_FONT_VARIABLE, str(font))
    said = tmp_path / "said"

    def put(body: str) -> Path:
        program = tmp_path / "fluidsynth"
        program.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(said)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            "target = sys.argv[sys.argv.index('-F') + 1]\n"
            "gain = float(sys.argv[sys.argv.index('-g') + 1])\n" + body,
            encoding="utf-8",
        )
        program.chmod(0o755)
        monkeypatch.setattr(audio, "PROGRAM", str(program))
        return said

    return put


def test_without_the_program_it_is_sine_waves_and_says_how_to_get_it(no_program):
    data, how = render_wav(tone(), rate=RATE)
    assert how.startswith("sine waves") and "apt install fluidsynth" in how
    heard = samples(data)
    assert len(heard) == 2 * RATE  # one bar of 4/4 at 120
    assert np.abs(heard).max() == round(32767 * 10 ** (-1 / 20))
    spectrum = np.abs(np.fft.rfft(heard[: RATE // 2, 0]))
    assert abs(2 * int(spectrum.argmax()) - 440) <= 2  # Hz
    assert render_wav(tone(), rate=RATE)[0] == data


@pytest.mark.parametrize("name", ["morning_waltz", "night_bus", "evening_hymn"])
def test_sine_waves_of_the_examples(no_program, name):
    score = Piece.load(EXAMPLES / f"{name}.mid").score
    heard = samples(render_wav(score, rate=8_000)[0])
    assert abs(len(heard) / 8_000 - score.duration_s) < 6
    rms = float(np.sqrt(np.mean((heard / 32768.0) ** 2)))
    assert 0.02 < rms < 0.5
    assert not np.any(np.abs(heard.astype(int)) >= 32767), "clipped"


def test_a_score_without_notes_is_silence(no_program):
    data, how = render_wav(Score(length_tick=1920), rate=RATE)
    assert "silence" in how
    assert len(samples(data)) == 2 * RATE and not samples(data).any()


def test_what_makes_no_sense(no_program, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="8000 to 96000"):
        render_wav(tone(), rate=4)
    with pytest.raises(UsageError, match="cannot be read"):
        render_wav(tone(), soundfont=tmp_path / "none.sf2")
    other = tmp_path / "other.sf2"
    other.write_bytes(b"junk")
    with pytest.raises(UsageError, match="is no sound font"):
        render_wav(tone(), soundfont=other)
    monkeypatch.setenv(audio.SOUND_FONT_VARIABLE, str(other))
    with pytest.raises(UsageError, match="MUSEGEN_SOUNDFONT: "):
        render_wav(tone())
    monkeypatch.delenv(audio.SOUND_FONT_VARIABLE)
    with pytest.raises(MidiError, match="minutes of sound"):
        render_wav(tone(quarters=3_900).replace(tempos=(Tempo(0, 3_000_000),)), rate=RATE)


def test_seconds_follow_the_tempo_map():
    score = tone(quarters=8).replace(tempos=(Tempo(0, 500_000), Tempo(960, 1_000_000)))
    ticks = np.array([[0, 480], [960, 1920]])
    expected = [[score.seconds_at(int(tick)) for tick in row] for row in ticks]
    assert np.allclose(seconds_of(score, ticks), expected)


def test_many_notes_at_once_are_not_clipped():
    notes = np.array([(0, 960, pitch, 127) for pitch in range(30, 90)], NOTE_DTYPE)
    heard = synthesise(Score(tracks=(Track(notes=notes), Track(notes=notes, is_drum=True))), RATE)
    assert 0 < np.abs(heard.astype(int)).max() < 32767


@needs_sh
def test_the_program_plays_and_its_samples_are_levelled(fake_program):
    body = "import array\nn = 300 if gain > .5 else 150\n"
    body += "open(target, 'wb').write(array.array('h', [n, -n] * 16000).tobytes())\n"
    said = fake_program(body)
    data, how = render_wav(tone(), rate=RATE)
    assert how == "fluidsynth with fake"
    heard = samples(data)
    assert len(heard) == 2 * RATE and heard[0].tolist() == [29204, -29204] and not heard[-1].any()
    assert said.read_text().count("\n") == 1


@needs_sh
def test_clipped_sound_is_made_again_more_softly(fake_program):
    body = "import array\nn = 32767 if gain > .1 else 9000\n"
    body += "open(target, 'wb').write(array.array('h', [n, -n] * 1600).tobytes())\n"
    said = fake_program(body)
    render_wav(tone(), rate=RATE)
    assert said.read_text().count("\n") == 3


@needs_sh
def test_more_than_fifteen_instruments_take_two_runs(fake_program):
    body = "import array\nopen(target, 'wb').write(array.array('h', [300, 300] * 1600).tobytes())\n"
    said = fake_program(body)
    tracks = tuple(Track(notes=tone().tracks[0].notes, name=f"t{n}", program=n) for n in range(20))
    render_wav(Score(tracks=tracks), rate=RATE)
    assert said.read_text().count("\n") == 2


@needs_sh
@pytest.mark.parametrize(
    "body", ["sys.exit('fluidsynth: error: broken')", "print('fluidsynth: error: broken')"]
)
def test_a_program_that_fails_is_one_line(fake_program, body):
    fake_program(body)
    with pytest.raises(OutputError, match="failed") as caught:
        render_wav(tone(), rate=RATE)
    assert "\n" not in str(caught.value)


def test_pretty_midi_carries_a_sound_font():
    font = pretty_midi_sound_font()
    assert font is not None and font.read_bytes()[:4] == b"RIFF"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="no fluidsynth")
def test_the_real_program_with_the_font_of_pretty_midi(monkeypatch):
    monkeypatch.delenv(audio.SOUND_FONT_VARIABLE, raising=False)
    monkeypatch.setattr(audio, "SOUND_FONTS", ())
    score = Piece.load(EXAMPLES / "morning_waltz.mid").score
    data, how = render_wav(score, rate=RATE)
    assert how == "fluidsynth with TimGM6mb of pretty_midi"
    heard = samples(data)
    assert score.duration_s - 0.1 < len(heard) / RATE < score.duration_s + 6
    assert 0.02 < float(np.sqrt(np.mean((heard / 32768.0) ** 2))) < 0.5
