"""What all pictures have in common: their size, their inks, an empty figure, the look of axes."""

from typing import TYPE_CHECKING

from kshot.errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 1680, 1080
DPI = 150
INK, FAINT, GRID = "#1d2733", "#5f6b7a", "#e3e7ec"


def blank_figure(purpose: str) -> "Figure":
    """Return an empty figure of 1,680 by 1,080 pixels.

    Parameters
    ----------
    purpose : str
        What matplotlib is wanted for, as an error says it.

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (an optional extra)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise MissingDependency.of("matplotlib", extra="plots", purpose=purpose) from None
    # No pyplot: nothing global is touched, whatever backend the program uses otherwise.
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: "Axes") -> None:
    """Give axes a faint grid, and lines only where the scales are."""
    axes.grid(color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=10.5, length=0)
