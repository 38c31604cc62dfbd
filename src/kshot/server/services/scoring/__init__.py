"""Likelihoods: asked of a scorer, remembered, offered to the routes and to other services."""
