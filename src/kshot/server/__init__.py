"""The HTTP service: the only place that knows HTTP, wiring and processes."""
