"""Pictures of an evaluation, by matplotlib, which is loaded when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musegen.atomic import write_all
from musegen.errors import UsageError
from musegen.evaluation.intervals import Estimate
from musegen.evaluation.report import Curve, Likelihoods, Report, TaskResult

__all__ = ["check_plots", "write_plots"]

COLOURS = {"held-out": "#222222", "generated": "#c0392b", "bars shuffled": "#999999"}


def check_plots() -> None:
    """Raises UsageError where matplotlib is not installed: before hours of work, not after."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "plots need matplotlib: pip install 'musegen[plots]', or leave out --plots"
        )


def write_plots(report: Report, folder: Path) -> list[Path]:
    """PNG files in the folder, which is made: the curves, the gaps, the nats by corpus.

    Raises:
        UsageError: matplotlib is not installed.
        OutputError: the folder cannot be written.
    """
    check_plots()
    written = []
    for model in report.models:
        prefix = f"{model.name}-" if len(report.models) > 1 else ""
        for result in model.tasks:
            for curve in result.curves:
                if any(each is not None for each in curve.held_out):
                    name = f"{prefix}{result.task}-{curve.name}.png"
                    written.append(_save(_curve(curve, result), folder / name))
            if result.music:
                name = f"{prefix}{result.task}-gaps.png"
                written.append(_save(_gaps(result), folder / name))
    if report.likelihood is not None:
        written.append(_save(_nats(report.likelihood), folder / "likelihood.png"))
    return written


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    write_all({path: buffer.getvalue()}, folders=True)
    return path


def _line(axes: Any, values: Sequence[Estimate | None], name: str) -> None:
    there = [(place + 1, each) for place, each in enumerate(values) if each is not None]
    if not there:
        return
    at = [place for place, _ in there]
    colour = COLOURS[name]
    axes.plot(at, [each.value for _, each in there], color=colour, label=name)
    axes.fill_between(
        at, [e.low for _, e in there], [e.high for _, e in there], color=colour, alpha=0.15
    )


def _curve(curve: Curve, result: TaskResult) -> Any:
    figure, axes = _figure(7, 4)
    for name, values in (
        ("held-out", curve.held_out),
        ("generated", curve.generated),
        ("bars shuffled", curve.shuffled),
    ):
        _line(axes, values, name)
    axes.set_xlabel("bars apart")
    axes.set_ylabel(curve.name.replace("_", " "))
    axes.set_ylim(bottom=0)
    axes.set_title(f"{result.task}, {result.done} pieces of {result.bars} bars")
    axes.legend(frameon=False)
    return figure


def _gaps(result: TaskResult) -> Any:
    """Each gap against the held-out interval, whose ends stand at -1 and 1."""
    figure, axes = _figure(7, 0.4 * len(result.music) + 1.2)
    names: list[str] = []
    for each in result.music:
        human, gap = each.held_out, each.gap
        if human is None or gap is None or human.low == human.value or human.high == human.value:
            continue
        at, below, above = len(names), human.value - human.low, human.high - human.value
        low, value, high = (
            one / (above if one > 0 else below) for one in (gap.low, gap.value, gap.high)
        )
        colour = "#2c7a3f" if each.within else COLOURS["generated"]
        axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot([value], [at], "o", color=colour)
        names.append(each.name.replace("_", " "))
    axes.axvspan(-1, 1, color="#222222", alpha=0.08)
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("generated minus held-out; from -1 to 1: within the held-out interval")
    axes.set_title(f"{result.task}, {result.done} pieces of {result.bars} bars")
    return figure


def _nats(found: Likelihoods) -> Any:
    own = found.own
    names = list(own.by_corpus)
    figure, axes = _figure(7, 0.5 * len(names) + 1.5)
    every = (own, *found.baselines)
    for number, each in enumerate(every):
        for place, name in enumerate(names):
            one = each.by_corpus.get(name)
            if one is None:
                continue
            at = place + 0.6 * (number + 0.5) / len(every) - 0.3
            label = each.name if place == 0 else None
            colour = f"C{number}"
            axes.plot([one.low, one.high], [at, at], color=colour, linewidth=2)
            axes.plot([one.value], [at], "o", color=colour, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("nats a note")
    axes.set_title("what held-out music costs")
    axes.legend(frameon=False)
    return figure
