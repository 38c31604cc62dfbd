"""Annotation plans: what to label next, what it buys."""
