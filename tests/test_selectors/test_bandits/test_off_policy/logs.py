"""Logs of a known policy in a known world."""

import numpy as np

from kshot.selectors.bandits.off_policy import DecisionLog


def softmax(scores):
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


class World:
    """Three arms, three features; Bernoulli rewards whose means are linear, or bend where asked."""

    def __init__(self, seed=0, *, bend=0.0, effect=0.35):
        rng = np.random.default_rng(seed)
        self.thetas = rng.uniform(-1, 1, (3, 3)) * effect
        self.log_scores = rng.normal(size=(3, 3))
        self.target_scores = rng.normal(size=(3, 3))
        self.bend = bend

    def contexts(self, rng, n):
        return np.column_stack([rng.uniform(-1, 1, (n, 2)), np.ones(n)])

    def means(self, contexts):
        bent = self.bend * np.sign(contexts[:, :1] * contexts[:, 1:2])
        return np.clip(0.5 + contexts @ self.thetas.T * 0.5 + bent * [1, -1, 0.5], 0, 1)

    def behaviour(self, contexts):
        return softmax(contexts @ self.log_scores.T)

    def target(self, contexts):
        return softmax(contexts @ self.target_scores.T)

    def value(self, n=400_000):
        contexts = self.contexts(np.random.default_rng(99), n)
        return float((self.means(contexts) * self.target(contexts)).sum(axis=1).mean())

    def log(self, seed, n, *, session_size=1):
        rng = np.random.default_rng(seed)
        contexts = self.contexts(rng, n)
        probabilities = self.behaviour(contexts)
        arms = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=2)
        rows = np.arange(n)
        rewards = (rng.random(n) < self.means(contexts)[rows, arms]).astype(np.float64)
        return DecisionLog(
            contexts,
            arms,
            rewards,
            probabilities[rows, arms],
            rows // session_size,
            rows.astype(np.float64),
            probabilities,
        )
