"""Searches, sleeves, latents of designs, and the verbs that design."""

from __future__ import annotations

import io
import json
import sys
import types
import wave
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest

from musegen import design_space, designs
from musegen.art.colours import Palette, contrast
from musegen.cli.main import run
from musegen.data.design_batches import DesignBatches, DesignTable, HeldDesigns, write_table
from musegen.design import airfoil, sleeve
from musegen.design.base import Constraint, Evaluation
from musegen.design.registry import DESIGNS
from musegen.design.search import METHODS, Box, search
from musegen.design.sleeve import Layout, Sleeve, Wishes, broken_into
from musegen.errors import CheckpointError, DataError, DesignError, OutputError, UsageError
from musegen.picture_files import pixels_of

PALETTE = Palette("#101020", "#f0f0ff", "#d060a0", "#404070", "#303050")
PROFILE = np.stack((np.linspace(0.1, 1, 48), np.linspace(0, 1, 48)), axis=1)


@dataclass
class Bowl:
    """A design with a known best: (0.3, ..., 0.3), kept away by a constraint."""

    name: str = "bowl"
    objective: str = "height"
    least: float = -1.0

    def __post_init__(self):
        self.bounds = np.array([(-1.0, 1.0)] * 4)
        self.start = None
        self.judged = 0

    def decode(self, numbers):
        return numbers

    def evaluate(self, made, fine=False):
        self.judged += fine
        limit = Constraint("first", float(made[0]), self.least, 1.0, True)
        return Evaluation(float(((made - 0.3) ** 2).sum()), (limit,), {"first": float(made[0])})

    def export(self, made, facts):
        return {".json": json.dumps([made.tolist(), facts]).encode()}


def test_constraints_and_margins():
    most = Constraint("mass_g", 11.0, 10.0, 2.0)
    least = Constraint("pt", 8.0, 9.0, 2.0, True)
    assert most.excess() == least.excess() == 0.5 and most.excess(0.1) == pytest.approx(0.6)
    assert most.text() == "mass_g 11 is above 10" and least.text() == "pt 8 is below 9"
    told = Evaluation(0.0, (most, least, Constraint("x", 0.0, 1.0, 1.0)))
    assert told.excess() == 1.0 and told.broken() == (most, least)


@pytest.mark.parametrize("method", METHODS)
def test_a_search_finds_the_bottom(method):
    bowl = Bowl()
    found = search(bowl, method=method, evaluations=400, num=3, seed=1)
    assert found.evaluations == 400 == len(found.best)
    assert (np.diff(found.best) <= 0).all() and bowl.judged == 3  # the winners alone are judged
    assert found.proposals[0].searched.objective < (1e-4 if method == "cma" else 0.3)
    for one, other in combinations(found.proposals, 2):
        assert np.abs(one.numbers - other.numbers).mean() / 2 >= 0.05
    again = search(Bowl(), method=method, evaluations=400, num=3, seed=1)
    assert np.array_equal(found.proposals[2].numbers, again.proposals[2].numbers)
    before = np.random.get_state()[1].copy()
    search(Bowl(), method=method, evaluations=20, seed=3)
    assert np.array_equal(np.random.get_state()[1], before)  # numpy's own generator is the user's


def test_a_margin_keeps_inside_the_limit():
    found = search(Bowl(least=0.5), evaluations=400, seed=1, margin=0.05)
    first = found.proposals[0].numbers[0]
    assert 0.55 <= first < 0.56 and found.proposals[0].feasible
    nowhere = search(Bowl(least=2.0), evaluations=60, seed=1)
    assert not nowhere.proposals[0].feasible and not np.isfinite(nowhere.best).any()
    with pytest.raises(DesignError, match=r"none of 60 designs holds .*first .* is below 2"):
        designs.best_feasible(nowhere, "a bowl")


def test_ctrl_c_keeps_what_was_found():
    bowl = Bowl()
    plain, count = bowl.evaluate, []

    def evaluate(made, fine=False):
        count.append(1)
        if len(count) == 50:
            raise KeyboardInterrupt
        return plain(made, fine)

    bowl.evaluate = evaluate
    found = search(bowl, evaluations=400, seed=1)
    assert found.interrupted and found.evaluations == 49 and found.proposals


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"method": "magic"}, "method 'magic'"),
        ({"evaluations": 0}, "1 or more"),
        ({"num": 0}, "1 or more"),
    ],
)
def test_searches_that_make_no_sense(asked, text):
    with pytest.raises(UsageError, match=text):
        search(Bowl(), **asked)


def test_without_cma_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(OutputError, match=r"pip install \"musegen\[design\]\""):
        search(Bowl(), evaluations=10)
    assert search(Bowl(), evaluations=10, method="random").evaluations == 10


def test_the_registry_names_classes(capsys):
    for name, kind in DESIGNS.items():
        assert kind.design_class().name == name == kind.name and kind.description
    assert run(["design", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["kinds"]
    assert set(told) == {"airfoil", "bar", "sleeve"}
    assert told["bar"]["objective"] == "worst_partial_cents"
    assert run(["design", "list"]) == 0
    assert "minimises worst_partial_cents" in capsys.readouterr().out


# --- Sleeves --------------------------------------------------------------------------------------


def a_sleeve(**options):
    given = {"title": "Night train to Lisbon", "artist": "Me", "page": "cd", **options}
    return Sleeve(given.pop("title"), PALETTE, PROFILE, **given)


@pytest.mark.parametrize(
    ("words", "count", "lines"),
    [
        ("a", 3, ("a",)),
        ("one two three", 2, ("one two", "three")),
        ("night train to lisbon", 2, ("night train", "to lisbon")),
    ],
)
def test_titles_are_broken_evenly(words, count, lines):
    found = broken_into(words.split(), count)
    assert max(map(len, found)) == max(map(len, lines)) and " ".join(found) == words


def layouts(count, evaluations):
    """Constraints that winners break, of many pages, titles and looks."""
    broken = []
    for number in range(count):
        made = a_sleeve(
            page=("sleeve", "cd", "poster", "flyer")[number % 4],
            artist="" if number % 5 == 0 else "The Founders",
            title=("Ö", "Waltz", "Night train to Lisbon")[number % 3],
            look=number % 12,
        )
        found = search(made, evaluations=evaluations, num=3, seed=number)
        best = designs.best_feasible(found, f"layout {number}")
        broken += [one.text() for one in (*best.judged.broken(), *best.searched.broken())]
        assert contrast(best.made.ink, best.made.paper) >= 4.5
    return broken


def test_layouts_hold_their_constraints_in_pixels():
    """What a search by boxes finds is judged without them."""
    assert layouts(12, 600) == []


@pytest.mark.slow
def test_a_hundred_layouts_hold_their_constraints_in_pixels():
    assert layouts(100, 2000) == []


def test_the_judge_of_pixels_sees_what_boxes_do_not():
    design = a_sleeve()
    good = search(design, evaluations=300, num=1, seed=1).proposals[0].made
    title = good.title
    wide, tall = title.box.width_mm, title.box.height_mm
    over = sleeve.Box(good.emblem.left_mm, good.emblem.top_mm, wide, tall)
    moved = Layout(**{**vars(good), "title": replace(title, box=over)})
    names = [one.name for one in design.evaluate(moved, fine=True).broken()]
    assert "emblem_to_title_mm" in names
    pale = Layout(**{**vars(good), "ink": good.paper[:-1] + "f"})
    assert "text_contrast" in [one.name for one in design.evaluate(pale, fine=True).broken()]
    edge = Layout(**{**vars(good), "emblem": sleeve.Box(-5.0, 10.0, 30.0, 30.0)})
    for fine in (False, True):
        assert "emblem_margin_mm" in [one.name for one in design.evaluate(edge, fine=fine).broken()]


def test_a_look_is_kept_to():
    found = [search(a_sleeve(look=k), evaluations=150, seed=1) for k in range(4)]
    assert len({one.proposals[0].made.paper for one in found}) >= 3
    assert np.array_equal(a_sleeve(look=12).bounds, a_sleeve(look=0).bounds)


def test_sleeves_are_svg_png_and_pdf_with_a_trim_box():
    design = a_sleeve()
    made = search(design, evaluations=150, seed=1).proposals[0].made
    facts = {"random_seed": 3, "version": "x", "model": "icons"}
    files = design.export(made, facts)
    assert set(files) == {".svg", ".png", ".pdf"} and files == design.export(made, facts)
    assert b'width="126mm"' in files[".svg"] and b"/trainedAlgorithmicMedia" in files[".svg"]
    plain = design.export(made, {"random_seed": 3})[".svg"]
    assert b"/algorithmicMedia" in plain  # no model had a hand in it
    assert pixels_of(files[".png"]).shape[:2] == (1417, 1417)  # 120 mm at 300 an inch
    assert b"/TrimBox [8.50 8.50 348.66 348.66]" in files[".pdf"]
    assert files[".pdf"].startswith(b"%PDF")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"page": "stamp"}, "page 'stamp'"),
        ({"title": "  "}, "title is empty"),
        ({"title": "夜"}, "lacks '夜'"),
    ],
)
def test_sleeves_that_cannot_be(options, text):
    with pytest.raises(UsageError, match=text):
        a_sleeve(**options)


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"margin_share": 0.3, "gap_share": 0.1}, "margin 30% and gap 10% contradict"),
        ({"contrast": 30.0}, "contrast 30"),
        ({"smallest_pt": 0.0}, "smallest type"),
        ({"margin_share": 0.7}, "margin and gap"),
    ],
)
def test_wishes_that_contradict_each_other(wishes, text):
    with pytest.raises(UsageError, match=text):
        Wishes(**wishes)


# --- Latents --------------------------------------------------------------------------------------


def ring(count=400):
    """Designs of two numbers: the first is what is told, the second is free."""
    rng = np.random.default_rng(0)
    told, free = rng.uniform(-1, 1, count), rng.normal(0, 0.4, count)
    return np.stack((told, free), 1), told[:, None]


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent")
    table = write_table(folder / "table", "ring", *ring(), {"source": "made"})
    told = design_space.train(
        table.folder,
        folder / "model",
        max_steps=400,
        seed=1,
        overrides=["data.batch_size=64", "model.latent=2", "model.beta=0.1"],
    )
    assert told["best"] < 0.3 * told["first_validation"]["bound"]
    return folder / "model"


class Ring(Bowl):
    name = "ring"

    def __init__(self):
        super().__init__("ring")
        self.bounds = np.array([(-1.2, 1.2)] * 2)


def test_points_of_a_latent_are_designs_that_answer(latent):
    points = np.random.default_rng(1).standard_normal((64, 2))
    for told in (-0.6, 0.8):
        space = design_space.LatentSpace.from_pretrained(latent, Ring(), [told])
        made = space.numbers(points)
        assert np.abs(made[:, 0] - told).mean() < 0.15 and made[:, 1].std() > 0.15
        assert np.array_equal(made, space.numbers(points))
    found = search(Ring(), space=space, evaluations=60, seed=1)
    assert found.proposals[0].numbers[1] == pytest.approx(0.3, abs=0.1)


def test_latents_of_another_kind_are_refused(latent):
    with pytest.raises(UsageError, match="was trained on ring, not on bowl"):
        design_space.LatentSpace.from_pretrained(latent, Bowl(), [0.5])
    with pytest.raises(CheckpointError, match="not a latent of designs"):
        design_space.LatentSpace.from_pretrained("icons", Ring())
    assert "designs of the kind ring" in (latent / "README.md").read_text()


def test_tables_of_designs(tmp_path):
    table = write_table(tmp_path / "t", "ring", *ring(100), {})
    batches, held = DesignBatches(table, 16, seed=1), HeldDesigns(table, 4)
    one = batches.batch(0)
    assert one["numbers"].shape == (16, 2) and one["conditions"].shape == (16, 1)
    assert np.array_equal(one["numbers"], DesignBatches(table, 16, seed=1).batch(0)["numbers"])
    halves = [DesignBatches(table, 16, seed=1, rank=r, world=2).batch(0) for r in (0, 1)]
    assert np.array_equal(
        np.stack([h["numbers"] for h in halves], 1).reshape(16, 2), one["numbers"]
    )
    assert sum(len(batch["numbers"]) for batch in held.batches()) == 10
    with pytest.raises(UsageError, match="exists"):
        write_table(tmp_path / "t", "ring", *ring(100), {})
    with pytest.raises(DataError, match="at least 50"):
        write_table(tmp_path / "u", "ring", *ring(10), {})
    with pytest.raises(DataError, match="holds no table"):
        DesignTable.open(tmp_path)
    (tmp_path / "t" / "numbers.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="damaged"):
        DesignTable.open(tmp_path / "t")
    with pytest.raises(UsageError, match="shared"):
        DesignBatches(table, 5, world=2)


# --- Airfoils, without the packages that know them ------------------------------------------------


def a_wing():
    lower, upper = np.full(8, -0.12), np.full(8, 0.2)
    return airfoil.AirfoilShape(lower, upper, 0.05, 0.002)


def test_airfoils_are_judged_by_the_larger_network(monkeypatch):
    asked = []

    def aero(parameters, alpha, Re, model_size):
        asked.append((model_size, alpha, Re))
        told = {"CL": 0.9, "CD": 0.01, "CM": -0.05, "analysis_confidence": 0.95}
        return {name: np.array([value]) for name, value in told.items()}

    fake = types.ModuleType("neuralfoil")
    fake.get_aero_from_kulfan_parameters = aero
    monkeypatch.setitem(sys.modules, "neuralfoil", fake)
    known = np.stack([a_wing().numbers() * scale for scale in (0.8, 1.0, 1.2)])
    design = airfoil.Airfoil(known)
    made = design.decode(known[1])
    told = design.evaluate(made)
    assert told.objective == -90 and not told.broken()
    design.evaluate(made, fine=True)
    assert asked == [("large", 4.0, 5e5), ("xxxlarge", 4.0, 5e5)]
    assert design.nearest(made) == 0 and design.nearest(design.decode(known[0] * 0.9)) > 0
    thin = design.evaluate(design.decode(0.3 * known[1]))
    assert [one.name for one in thin.broken()] == ["thickness_of_chord"]
    files = design.export(made, {"random_seed": 1})
    points = np.loadtxt(io.BytesIO(files[".dat"]), skiprows=1)
    assert points[0, 0] == points[-1, 0] == 1 and points[:, 0].min() == 0
    assert np.array_equal(design.decode(made.numbers()).sides()[1], made.sides()[1])


def test_airfoils_need_their_extra(monkeypatch):
    for name in ("aerosandbox", "neuralfoil"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OutputError, match=r"musegen\[airfoil\]"):
        next(airfoil.known_airfoils())
    with pytest.raises(OutputError, match=r"musegen\[airfoil\]"):
        airfoil.Airfoil(np.stack([a_wing().numbers()] * 2)).evaluate(a_wing())


# --- Verbs ----------------------------------------------------------------------------------------

SONG = "examples/night_bus.mid"


@pytest.fixture
def song(request):
    return str(request.config.rootpath / SONG)


def written(capsys):
    return [one["path"] for one in json.loads(capsys.readouterr().out)["files"]]


def test_sleeves_for_a_song(song, tmp_path, capsys):
    asked = ["design", "sleeve", song, "--artist", "Me", "--page", "cd", "--num", "2", "--json"]
    asked += ["--evaluations", "200", "--quiet", "--random-seed", "5"]
    assert run([*asked, "--out", str(tmp_path / "a")]) == 0
    paths = written(capsys)
    assert len(paths) == 7 and paths[-1].endswith("designs.json")
    assert run([*asked, "--out", str(tmp_path / "b")]) == 0
    for one, other in zip(paths, written(capsys), strict=True):
        with open(one, "rb") as first, open(other, "rb") as second:
            assert first.read() == second.read()
    assert run([*asked, "--out", str(tmp_path / "a")]) == 0  # beside the others, not over them
    assert not set(paths[:-1]) & set(written(capsys))
    index = json.loads((tmp_path / "a" / "designs.json").read_text())
    assert len(index["designs"]) == 4 and all(one["feasible"] for one in index["designs"])


def test_a_taste_chooses_among_sleeves(song, tmp_path):
    asked = {"page": "cd", "emblem": "rings", "evaluations": 120, "random_seed": 1}
    from musegen.design.taste import Rating, add_rating

    made = designs.sleeves(song, num=4, **asked)
    dark = sorted(made, key=lambda one: -one.features["dark"])
    path = tmp_path / "ratings.jsonl"
    for _ in range(4):
        add_rating(path, Rating("sleeve", dark[0].features, dark[-1].features))
    liked = designs.sleeves(song, num=2, taste=path, **asked)
    assert len(liked) == 2
    assert liked[0].features["dark"] >= np.median([one.features["dark"] for one in made])


def test_bars_and_an_instrument_that_is_played(song, tmp_path, capsys):
    asked = ["design", "bar", "--note", "A4", "--num", "1", "--evaluations", "300", "--json"]
    assert run([*asked, "--out", str(tmp_path), "--quiet"]) == 0
    assert len(written(capsys)) == 5
    folder = tmp_path / "set"
    asked = ["design", "instrument", "--range", "A4-B4", "--evaluations", "250", "--quiet"]
    assert run([*asked, "--out", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    told = json.loads((folder / "instrument.json").read_text())
    assert set(told["voices"]) == {"69", "70", "71"}
    sound = tmp_path / "played.wav"
    asked = ["play-on", song, "--instrument", str(folder), "--rate", "8000", "--out", str(sound)]
    assert run([*asked, "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["moved"] > 0
    with wave.open(str(sound)) as opened:
        assert opened.getnframes() > 8_000


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        ("bar --note H4", 2, "note 'H4'"),
        (
            "bar --note A4 --ratios 1:9:9.5 --num 1 --evaluations 250",
            1,
            "the nearest that was found",
        ),
        ("bar --note C0 --num 1 --evaluations 100", 1, "this workshop can make about"),
        ("bar --note A4 --material brass", 2, "material 'brass'"),
        ("bar --note A4 --materials none.toml", 1, "none.toml"),
        ("bar --note A4 --thinnest-mm 40", 2, "thinnest_mm 40 and thickest_mm 30 contradict"),
        ("instrument --range C4", 2, "two notes"),
        ("instrument --range C4-A3", 2, "below the first"),
        ("sleeve none.mid", 1, "none.mid"),
        ("sleeve {song} --title 夜", 2, "lacks '夜'"),
        ("sleeve {song} --taste none.jsonl", 1, "no such file of ratings"),
        (
            "sleeve {song} --emblem rings --contrast 20.9 --num 1 --evaluations 40",
            1,
            "text_contrast",
        ),
        ("sleeve {song} --out {song}", 1, "is a file"),
    ],
)
def test_bad_input_is_one_line(song, tmp_path, capsys, asked, code, text):
    words = [word.format(song=song) for word in asked.split()]
    if "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    assert run(["design", *words, "--quiet"]) == code
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and text in told[0], told


def test_instruments_that_there_are_not(song, tmp_path, capsys):
    for text in (None, "{", '{"format": 1, "voices": {"x": {}}}', '{"format": 3}'):
        if text is not None:
            (tmp_path / "instrument.json").write_text(text)
        assert run(["play-on", song, "--instrument", str(tmp_path), "--out", "x.wav"]) == 1
        told = capsys.readouterr().err
        assert len(told.strip().splitlines()) == 1
        assert ("holds no instrument" if text is None else "is damaged") in told
    assert run(["play-on", song, "--instrument", str(tmp_path), "--out", "x.mp3"]) == 2
    assert "ends in .wav" in capsys.readouterr().err


def test_the_box_is_a_space():
    space = Box(np.array([(0.0, 2.0), (-1.0, 1.0)]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(
        space.numbers(np.array([[0.5, 0.5], [2.0, -1.0]])), [[1, 0], [2, -1]]
    )
    np.testing.assert_allclose(space.start, [0.5, 0.98])
