"""Pictures of what the service measured: as PNG with ``kshot[plots]``, as HTML with nothing at all."""

from kshot.clients.plots.interactive import budget_curve_html
from kshot.clients.plots.picture import budget_curve_png

__all__ = ["budget_curve_html", "budget_curve_png"]
