"""Policies over variants: deciding, folding feedback, reporting."""
