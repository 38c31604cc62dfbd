"""Pictures of what the service measured: as PNG with ``kshot[plots]``, as HTML with nothing at all."""

from kshot.clients.plots.interactive import budget_curve_html
from kshot.clients.plots.picture import budget_curve_png
from kshot.clients.plots.policy_page import policy_report_html
from kshot.clients.plots.policy_picture import policy_report_png

__all__ = ["budget_curve_html", "budget_curve_png", "policy_report_html", "policy_report_png"]
