"""Likelihoods of completions: log P(completion | context), from a real model."""
