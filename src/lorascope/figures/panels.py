"""A grid of panels with one legend and a caption: what all figures of medians share."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from ..errors import SpecError
from .axes import LARGEST, Panel, abreast, draw_lines, dress, marks
from .extent import Extent
from .frame import Entry, framed
from .points import Point, as_csv
from .reference_points import ReferencePoint, reference
from .style import LOOK, REFERENCE_GREY, LineStyle, line_styles

__all__ = ["EXACT", "RANK", "Picture", "draw", "panels_of", "rendered"]

RANK = "rank of every adapter"
EXACT = 1e-12  # squared errors below this are those of rounding
AUTHORS = "authors' median"
READ = "Authors' medians as read from their notebooks."
JOINED = 4  # reported values that a line is drawn through; fewer say nothing of what is between them


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows.

    Attributes:
        name: of the figure, and of its files.
        figure: to be saved at 200 dpi; it belongs to no window.
        points: everything that is drawn of the records, as CSV.
        source: the records.
    """

    name: str
    figure: Figure
    points: str
    source: Extent


def panels_of(
    points: Sequence[Point], x: str = RANK, y: str = "test MSE", log: bool = False, floor: float = 0.0
) -> list[Panel]:
    """One panel for each that the points name.

    Args:
        points: of all panels, from ``gather``.
        x, y: labels of the axes.
        log: whether ``y`` is logarithmic.
        floor: of that axis.
    """
    titles = dict.fromkeys(point.panel for point in points)
    return [
        Panel(title, [point for point in points if point.panel == title], x, y, log, floor=floor) for title in titles
    ]


def draw(
    source: Extent,
    name: str,
    title: str,
    panels: Sequence[Panel],
    columns: int = 2,
    width: float = 3.3,
    styles: Mapping[str, LineStyle] | None = None,
    note: str = "",
    theirs: tuple[str, str] = (AUTHORS, READ),
) -> Picture:
    """Panels in rows, their lines in one legend above, and a caption that says what the marks mean.

    Args:
        source: the records, for the scale, the seeds and the failures.
        name, title: of the figure.
        panels: row by row; those without values are left out.
        columns: panels in a row, at most.
        width: of a panel, in inches.
        styles: of lines, where they are not those of the methods.
        note: what else the caption says.
        theirs: what reported values are called in the legend, and what the caption says of them.

    Raises:
        SpecError: no panel has a point with a value.

    Cost O(points).
    """
    shown = [panel for panel in panels if any(point.seeds for point in panel.points)]
    if not shown:
        lack = "failed" if source.failed == len(source.found) else "have none of the metrics that it shows"
        raise SpecError(
            f"the figure {name} needs results, but all {len(source.found)} runs of the suite {source.suite} {lack}; "
            f"run it again: lorascope run {source.suite}"
        )
    points = [point for panel in shown for point in panel.points]
    authors = [_authors(name, panel) for panel in shown]
    ours = line_styles((point.line for point in points), styles)
    reported = [point for some in authors for point in some]
    grey = {line: _grey(style) for line, style in line_styles((one.line for one in reported), styles).items()}
    entries = [Entry(line, style) for line, style in ours.items()]
    entries += [Entry(f"{theirs[0]}: {line}", style) for line, style in grey.items()]
    tick_lines = max(name.count("\n") + 1 for panel in shown for name in panel.names.values() or ("",))
    with mpl.rc_context(LOOK):
        caption = _caption(source, shown, [*([theirs[1]] if reported else []), *([note] if note else [])])
        figure, grid = framed(title, source.title(), entries, caption, len(shown), columns, width, tick_lines)
        for place, (panel, axis) in enumerate(zip(shown, grid, strict=True)):
            dress(axis, panel, [(point.x, point.y) for point in authors[place]])
            for line, style in grey.items():
                values = [(point.x, point.y) for point in authors[place] if point.line == line]
                marks(axis, values, style if len(values) >= JOINED else replace(style, dash="none"))
            for line, style in ours.items():
                draw_lines(axis, abreast(panel, line), style, bool(panel.names))
            if place % columns == 0 or panel.y != shown[place - 1].y:
                axis.set_ylabel(panel.y)
    return Picture(name, figure, as_csv(name, source.scale, points), source)


def rendered(picture: Picture, kind: Literal["png", "svg"]) -> bytes:
    """The picture as a file's content: 200 dots an inch, and the same for the same records.

    Args:
        picture: from ``draw``.
        kind: of file.

    Cost O(points).
    """
    content = io.BytesIO()
    # without a date and random names, which would differ from run to run
    with mpl.rc_context({"svg.hashsalt": picture.name}):
        picture.figure.savefig(content, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
    return content.getvalue()


def _authors(name: str, panel: Panel) -> list[ReferencePoint]:
    return [one for one in reference() if (one.figure, one.panel, one.metric) == (name, panel.title, panel.metric)]


def _grey(style: LineStyle) -> LineStyle:
    return replace(style, colour=REFERENCE_GREY, filled=False, width=0.8)


def _caption(source: Extent, panels: Sequence[Panel], notes: Sequence[str]) -> str:
    """What marks mean, and what is not there."""
    points = dict.fromkeys(point for panel in panels for point in panel.points)
    several = max(point.seeds for point in points) > 1
    said = ["Lines: median over seeds; shaded: from the least to the greatest." if several else "One seed a point."]
    said += notes
    for floor in sorted({one.floor for one in panels if any(0 <= point.y < one.floor for point in one.points)}):
        said.append(f"At the lower edge: below {floor:g}.")
    infinite = sum(point.y > LARGEST for point in points)
    told = [one.beyond for one in panels if one.beyond and any(point.y > LARGEST for point in one.points)]
    if told:
        said += dict.fromkeys(told)
    elif infinite:
        said.append(f"Arrows at the top: {_counted(infinite, 'median')} that {_are(infinite)} not finite.")
    if source.failed:
        said.append(f"{_counted(source.failed, 'run')} failed; a point without any is a gap.")
    if source.superseded:
        said.append(f"{_counted(source.superseded, 'run')} of fewer steps or inputs left out.")
    if source.apart:
        said.append(f"{_counted(source.apart, 'run')} of another checkpoint or of other settings left out.")
    return " ".join(said)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
