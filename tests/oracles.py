"""Slow, obvious versions of the algorithms: loops and dictionaries that can be checked by reading."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np


def top_k(scores, k):
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def longest_prefix_below(picks, rank, lengths, budget):
    """Sort picks by rank and keep the longest beginning whose total stays below the budget, best last."""
    kept: list[int] = []
    for i in sorted(picks, key=lambda i: rank[i]):
        if sum(lengths[j] for j in [*kept, i]) >= budget:
            break
        kept.append(i)
    return kept[::-1]


def mmr(relevance, vectors, k, diversity):
    """Recompute every similarity to every chosen row at every step."""
    chosen = [top_k(relevance, 1)[0]]
    while len(chosen) < min(k, len(relevance)):
        left = [i for i in range(len(relevance)) if i not in chosen]
        value = {
            i: (1 - diversity) * relevance[i]
            - diversity * max(float(np.dot(vectors[i], vectors[s])) for s in chosen)
            for i in left
        }
        chosen.append(max(left, key=lambda i: (value[i], -i)))
    return chosen


def greedy_logdet(kernel, k, first=None):
    """Add the row with the largest log-determinant, each computed from scratch."""
    chosen: list[int] = [] if first is None else [first]
    while len(chosen) < k:
        left = [i for i in range(len(kernel)) if i not in chosen]
        volume = {i: np.linalg.slogdet(kernel[np.ix_([*chosen, i], [*chosen, i])])[1] for i in left}
        chosen.append(max(left, key=lambda i: (volume[i], -i)))
    return chosen


def maxsim(query_tokens, rows_of_tokens, weights):
    """Compare every query token with every token of every row."""
    return np.array(
        [
            [w * max(float(np.dot(x, z)) for z in tokens) for x, w in zip(query_tokens, weights, strict=True)]
            for tokens in rows_of_tokens
        ]
    ).reshape(len(rows_of_tokens), len(query_tokens))


def bert_score_recall(query_tokens, row_tokens):
    """Recall as the BERTScore paper defines it: every reference token's best cosine, averaged."""
    reference = query_tokens / np.linalg.norm(query_tokens, axis=1, keepdims=True)
    candidate = row_tokens / np.linalg.norm(row_tokens, axis=1, keepdims=True)
    return float((reference @ candidate.T).max(axis=1).mean())


def coverage(partial_scores, rows):
    return sum(max(partial_scores[z][i] for z in rows) for i in range(len(partial_scores[0])))


def coverage_greedy(partial_scores, k, lengths=None, max_tokens=None, add_cand_score=None, by_total=False):
    """Follow the published procedure row by row; return picks and resets.

    ``by_total`` ends a round where the total, own scores included, does not rise.
    """
    rows = [[float(value) for value in row] for row in partial_scores]
    chosen: list[int] = []
    covered: list[float] | None = None
    resets = spent = 0
    reached = -math.inf
    while len(chosen) < min(k, len(rows)):

        def value(z, covered=covered):
            best = rows[z] if covered is None else [max(a, c) for a, c in zip(rows[z], covered, strict=True)]
            own = float(np.sum(rows[z])) / add_cand_score if add_cand_score else 0.0
            return float(np.sum(best)) + own

        best = max((z for z in range(len(rows)) if z not in chosen), key=lambda z: (value(z), -z))
        if covered is not None and (
            value(best) <= reached
            if by_total
            else all(a <= c for a, c in zip(rows[best], covered, strict=True))
        ):
            covered, reached = None, -math.inf
            resets += 1
            continue
        reached = value(best)
        if max_tokens is not None:
            spent += lengths[best]
            if spent > max_tokens:
                break
        chosen.append(best)
        covered = rows[best] if covered is None else [max(p) for p in zip(rows[best], covered, strict=True)]
    return chosen, resets


def best_coverage(partial_scores, k):
    return max(coverage(partial_scores, s) for s in itertools.combinations(range(len(partial_scores)), k))


def okapi(documents, query, k1=1.5, b=0.75, eps=0.25):
    """BM25 with floored idf, by the textbook formula."""
    n = len(documents)
    counts = [Counter(document) for document in documents]
    mean_length = sum(len(document) for document in documents) / n
    frequency = Counter(token for count in counts for token in count)
    idf = {token: math.log(n - df + 0.5) - math.log(df + 0.5) for token, df in frequency.items()}
    floor = eps * sum(idf.values()) / len(idf)
    idf = {token: floor if value < 0 else value for token, value in idf.items()}
    scores = []
    for document, count in zip(documents, counts, strict=True):
        norm = k1 * (1 - b + b * len(document) / mean_length)
        scores.append(
            sum(idf.get(token, 0.0) * count[token] * (k1 + 1) / (count[token] + norm) for token in query)
        )
    return scores


def lucene(documents, query, k1=1.5, b=0.75):
    """BM25 as Lucene computes it since version 8."""
    n = len(documents)
    mean_length = sum(len(document) for document in documents) / n
    scores = []
    for document in documents:
        norm = k1 * (1 - b + b * len(document) / mean_length)
        score = 0.0
        for token in query:
            df = sum(token in other for other in documents)
            f = document.count(token)
            score += math.log(1 + (n - df + 0.5) / (df + 0.5)) * f / (f + norm)
        scores.append(score)
    return scores


def reciprocal_rank_fusion(rankings, weights, rank_constant):
    fused = dict.fromkeys(range(len(rankings[0])), 0.0)
    for scores, weight in zip(rankings, weights, strict=True):
        held = [i for i in top_k(scores, len(scores)) if scores[i] > -math.inf]
        for rank, i in enumerate(held, start=1):
            fused[i] += weight / (rank_constant + rank)
    return [fused[i] for i in range(len(fused))]


def dependency_subtrees(labels, heads, max_nodes):
    """Try every set of words; keep those in which all but one hang on another of the set."""
    found = []
    for size in range(1, max_nodes + 1):
        for chosen in itertools.combinations(range(len(labels)), size):
            tops = [word for word in chosen if heads[word] not in chosen or heads[word] == word]
            if len(tops) == 1:

                def subtree(top, chosen=chosen):
                    below = [word for word in chosen if heads[word] == top and word != top]
                    return (labels[top], tuple(sorted(subtree(word) for word in below)))

                found.append(subtree(tops[0]))
    return found


def posterior_variance(vectors, queries, rows, noise):
    """Variance left at the queries after noisy observations of rows, by the closed form."""
    total = float((queries * queries).sum())
    if not rows:
        return total
    X = vectors[rows]
    weights = np.linalg.solve(X @ X.T + noise * np.eye(len(rows)), X @ queries.T)
    return total - float(((X @ queries.T) * weights).sum())


def greedy_posterior_variance(vectors, queries, k, noise, *, repeats=False):
    """Observe whichever row leaves the least variance, each computed from scratch."""
    chosen: list[int] = []
    while len(chosen) < k:
        left = [i for i in range(len(vectors)) if repeats or i not in chosen]
        chosen.append(min(left, key=lambda i: (posterior_variance(vectors, queries, [*chosen, i], noise), i)))
    return chosen


def coverage_within(partial_scores, lengths, max_tokens):
    """Return the largest coverage of any set of rows within a budget, negative scores counting as 0."""
    rows = range(len(partial_scores))
    fitting = [
        s for m in range(len(rows) + 1) for s in itertools.combinations(rows, m)
        if sum(lengths[i] for i in s) <= max_tokens
    ]  # fmt: skip
    return max(
        sum(max([0.0, *(partial_scores[z][i] for z in s)]) for i in range(len(partial_scores[0])))
        for s in fitting
    )


def curriculum(relevance, difficulty, k):
    """Cut the rows into bins by difficulty; each takes its best row, or one just as hard as its ends."""
    ordered = sorted(range(len(relevance)), key=lambda i: (difficulty[i], i))
    count = min(k, len(ordered))
    chosen: list[int] = []
    for number in range(count):
        part = ordered[number * len(ordered) // count : (number + 1) * len(ordered) // count]
        low, high = difficulty[part[0]], difficulty[part[-1]]
        left = [i for i in ordered if low <= difficulty[i] <= high and i not in chosen]
        chosen.append(max(left, key=lambda i: (relevance[i], -i)))
    return chosen


def nearest_rows(vectors, k, *, center):
    """Compare every pair of rows, in fractions up to the square root; ties by row number."""
    rows = [[Fraction(x) for x in row] for row in np.asarray(vectors).tolist()]
    if center:
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        rows = [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]

    def steps(i, j):
        dot, own, other = (
            sum(x * y for x, y in zip(a, b, strict=True))
            for a, b in ((rows[i], rows[j]), (rows[i], rows[i]), (rows[j], rows[j]))
        )
        return round(2**24 * float(dot) / math.sqrt(own * other)) if own and other else 0

    return [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (-steps(i, j), j))[:k]
        for i in range(len(rows))
    ]


def votes_for(neighbours, chosen, discount, discounting=None, number=Fraction):
    """Add up the votes for every row, voter by voter; no vote is discounted to less than 1e-15.

    ``discounting`` are the chosen rows that discount votes, by default all.
    """
    rate = number(discount)
    faintest = math.ceil(15 / math.log10(discount)) if discount > 1 else 0
    discounting = chosen if discounting is None else discounting
    votes = dict.fromkeys(range(len(neighbours)), number(0))
    for v, own in enumerate(neighbours):
        if v not in chosen:
            for u in own:
                votes[u] += rate ** -min(len(set(own) & set(discounting)), faintest)
    return votes


def vote_k(neighbours, budget, discount, labelled=()):
    """Count all votes anew for every pick; stop when there is no vote left."""
    chosen = list(labelled)
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < budget:
        votes = votes_for(neighbours, chosen, discount)
        left = [u for u in votes if u not in chosen and votes[u] > 0]
        if not left:
            break
        best = min(left, key=lambda u: (-votes[u], u))
        picks.append(best)
        gains.append(float(votes[best]))
        chosen.append(best)
    return picks, gains


def facility_value(similarity, chosen, floor=0.0):
    """How similar every row is to the chosen row most similar to it, added up."""
    return math.fsum(max([floor, *(float(row[s]) for s in chosen)]) for row in similarity)


def facility_location(similarity, budget, labelled=(), floor=0.0):
    """Add the row that raises the value most, each value computed from scratch; stop when none does."""
    chosen = list(labelled)
    picks: list[int] = []
    gains: list[float] = []
    nearest = np.array([max([floor, *row[chosen]]) for row in similarity])
    while len(picks) < budget:
        left = [i for i in range(len(similarity)) if i not in chosen]
        raised = {i: float(np.maximum(similarity[:, i] - nearest, 0.0).sum()) for i in left}
        best = max(left, key=lambda i: (raised[i], -i), default=None)
        if best is None or raised[best] <= 0:
            break
        picks.append(best)
        gains.append(raised[best])
        chosen.append(best)
        nearest = np.maximum(nearest, similarity[:, best])
    return picks, gains


def radius(vectors, chosen):
    return max(min(float(np.linalg.norm(row - vectors[s])) for s in chosen) for row in vectors)


def greedy_volume(kernel, budget, labelled=()):
    """Add the row with the largest determinant beside the labelled ones, each computed from scratch."""
    picks: list[int] = []

    def volume(rows):
        chosen = [*labelled, *rows]
        return np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1] if chosen else 0.0

    while len(picks) < budget:
        left = [i for i in range(len(kernel)) if i not in picks and i not in labelled]
        picks.append(max(left, key=lambda i: (round(volume([*picks, i]), 9), -i)))
    return picks, volume(picks) - volume([])


def mig(tags, tag_vectors, budget, quality, labelled=(), threshold=0.9, weight=1.0, a=1e-6, b=0.8):
    """Follow the formulas with dense matrices, all slopes afresh for every pick."""
    unit = tag_vectors / np.linalg.norm(tag_vectors, axis=1)[:, None]
    W = weight * unit @ unit.T
    W[unit @ unit.T < threshold] = 0.0
    np.fill_diagonal(W, 1.0)
    P = W / W.sum(axis=0)
    X = np.array([q * t / max(t.sum(), 1) for q, t in zip(quality, tags, strict=True)]) @ P
    known = X[list(labelled)].sum(axis=0)
    picks: list[int] = []
    slopes, information = [], [float(((known + a) ** b).sum())]
    while len(picks) < budget:
        left = [i for i in range(len(X)) if i not in picks and i not in labelled]
        slope = X @ (b * (known + a) ** (b - 1))
        largest = max(slope[i] for i in left)
        best = next(i for i in left if slope[i] >= largest - 1e-9 * abs(largest))
        picks.append(best)
        slopes.append(float(slope[best]))
        known = known + X[best]
        information.append(float(((known + a) ** b).sum()))
    return picks, slopes, np.diff(information).tolist()


def reach(successors, start):
    """Walk along edges from a row."""
    met, ahead = {start}, [start]
    while ahead:
        for j in successors.get(ahead.pop(), ()):
            if j not in met:
                met.add(j)
                ahead.append(j)
    return met


def worlds(edges):
    """Decide every edge (i, j, p) both ways: each world's probability and its edges as successors."""
    for present in itertools.product((False, True), repeat=len(edges)):
        probability = 1.0
        successors: dict[int, list[int]] = {}
        for (i, j, p), there in zip(edges, present, strict=True):
            probability *= p if there else 1 - p
            if there:
                successors.setdefault(i, []).append(j)
        if probability:
            yield probability, successors


def influence(edges, n):
    """Return a function that gives the expected number of rows that a set of rows activates."""
    each = [
        (probability, [reach(successors, i) for i in range(n)]) for probability, successors in worlds(edges)
    ]
    return lambda rows: sum(p * len(set().union(*(reached[i] for i in rows))) for p, reached in each)


def simulated_cascade(neighbours, probabilities, rows, rng):
    """Let influence spread once, coin by coin; return the round in which each active row was activated."""
    row_to_round = dict.fromkeys(rows, 0)
    newest = list(rows)
    while newest:
        reached = []
        for i in newest:
            for j, p in zip(neighbours[i], probabilities[i], strict=True):
                if j not in row_to_round and rng.random() < p:
                    row_to_round[j] = row_to_round[i] + 1
                    reached.append(j)
        newest = reached
    return row_to_round
