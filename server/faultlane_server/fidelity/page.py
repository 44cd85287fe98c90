"""The report as one page of HTML, with plots in it."""

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from faultlane_server.fidelity.effects import QUANTITIES, effects
from faultlane_server.fidelity.report import text_report
from faultlane_server.fidelity.rows import family_of, is_fitted
from faultlane_server.fidelity.score import Verdict, by_guest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = 3.4  # of one plot, each way
WHERE_IT_CAME_FROM = ("Creator", "Date", "Format", "Type")  # left out: they name other pages
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>faultlane: fidelity</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}
pre{font-size:13px;line-height:1.35;overflow-x:auto}svg{max-width:100%;height:auto}</style></head>"""


class MissingPlots(ImportError):
    """matplotlib is not installed."""


def require_plots() -> None:
    """Find out whether plots can be drawn, before there is anything to draw.

    Raises
    ------
    MissingPlots
        If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPlots("plots need matplotlib: pip install 'faultlane[report]'") from error


def html_page(verdicts: Sequence[Verdict]) -> str:
    """Return the report with a plot of each quantity: measured against simulated, and effects.

    It needs matplotlib: see `require_plots`.
    """
    plots = []
    for guest, of_guest in by_guest(verdicts).items():
        if of_guest:
            plots.append(f"<h2>{escape(guest.profile)}</h2>" + _svg(_scatter(of_guest)))
    plots.append("<h2>Effects of the designs</h2>" + _svg(_effects(verdicts)))
    report = escape(text_report(verdicts))
    return (
        f"{HEAD}<body><h1>How true the simulation is</h1>{''.join(plots)}<pre>{report}</pre></body>"
    )


def _figure(plots: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    columns = min(plots, 3)
    rows = -(-plots // columns)
    figure = Figure(figsize=(columns * INCHES, rows * INCHES), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(plots)]


def _scatter(verdicts: Sequence[Verdict]) -> "Figure":
    """Plot each quantity, simulated over measured; what was fitted is grey."""
    names = list(dict.fromkeys(verdict.quantity for verdict in verdicts))
    figure, plots = _figure(len(names))
    for axes, name in zip(plots, names, strict=True):
        chosen = [verdict for verdict in verdicts if verdict.quantity == name]
        for family in sorted({family_of(verdict.case.row) for verdict in chosen}):
            tested = [v for v in chosen if family_of(v.case.row) == family]
            fitted = [v for v in tested if is_fitted(v.case.row)]
            tested = [v for v in tested if not is_fitted(v.case.row)]
            _dots(axes, fitted, f"{family} (fitted)", alpha=0.35)
            _dots(axes, tested, family, alpha=0.8)
        _diagonal(axes, name, [v.measured for v in chosen] + [v.simulated for v in chosen])
    plots[0].legend(fontsize="x-small")
    return figure


def _dots(axes: "Axes", verdicts: Sequence[Verdict], label: str, alpha: float) -> None:
    if verdicts:
        measured = [verdict.measured for verdict in verdicts]
        simulated = [verdict.simulated for verdict in verdicts]
        axes.scatter(measured, simulated, s=9, alpha=alpha, label=label)


def _diagonal(axes: "Axes", title: str, values: Sequence[float]) -> None:
    """Draw where simulated equals measured, on logarithmic axes if nothing is 0."""
    least, most = min(values), max(values)
    if least > 0:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.plot([least, most], [least, most], color="black", linewidth=0.6)
    axes.set_title(title, fontsize="small")
    axes.set_xlabel("measured", fontsize="x-small")
    axes.set_ylabel("simulated", fontsize="x-small")
    axes.tick_params(labelsize="x-small")


def _effects(verdicts: Sequence[Verdict]) -> "Figure":
    """Plot the ratio of each design to the kernel as released, simulated over measured."""
    found = effects(verdicts)
    figure, plots = _figure(len(QUANTITIES))
    for axes, name in zip(plots, QUANTITIES, strict=True):
        chosen = [effect for effect in found if effect.quantity == name]
        for design in sorted({effect.design for effect in chosen}):
            measured = [effect.measured for effect in chosen if effect.design == design]
            simulated = [effect.simulated for effect in chosen if effect.design == design]
            axes.scatter(measured, simulated, s=9, alpha=0.7, label=design)
        values = [effect.measured for effect in chosen] + [effect.simulated for effect in chosen]
        _diagonal(axes, name, values or [1.0])
    plots[0].legend(fontsize="x-small")
    return figure


def _svg(figure: "Figure") -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(WHERE_IT_CAME_FROM))
    text = drawn.getvalue()
    return text[text.index("<svg") :]
