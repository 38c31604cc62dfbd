"""Kernel ridge regression per arm: expected rewards that may bend, and how uncertain they are.

For an arm with contexts ``x_i``, weights ``w_i`` and mean rewards ``y_i``, and a prior mean ``m(x)``::

    M = (K + ridge diag(1 / w))^-1        K_ij = k(x_i, x_j)
    mean(z) = m(z) + k_z^T M (y - m)      width(z)^2 = (k(z, z) - k_z^T M k_z) / ridge

With the linear kernel these are the means and widths of `kshot.selectors.bandits.ridge`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Float64s, require_shape
from kshot.selectors.bandits.base import ArmPrior
from kshot.selectors.bandits.grid import intercept_alone, natural
from kshot.selectors.bandits.kernel_points import contexts_of, packed
from kshot.selectors.bandits.kernels import Kernel
from kshot.selectors.bandits.ridge import inverse_factor

MOST_UPDATES = 1_024
"""Changes of an inverse, after which it is computed anew."""


@dataclass(frozen=True, slots=True)
class KernelModel:
    """The kernel ridge regression of one arm.

    Attributes
    ----------
    contexts : tuple of bytes, length n
        Distinct.
    rows : float64 array, shape (n, d)
        The same as numbers.
    weights : float64 array, shape (n,)
        Above 0.
    inverse : float64 array, shape (n, n)
        M above.
    coefficients : float64 array, shape (n,)
        ``M (y - m)``.
    updates : int
        Changes since the inverse was computed.
    """

    contexts: tuple[bytes, ...]
    rows: Float64s
    weights: Float64s
    inverse: Float64s
    coefficients: Float64s
    updates: int = 0


@dataclass(frozen=True, slots=True)
class KernelRidge:
    """A kernel, a penalty and a prior: what makes a model of points.

    Attributes
    ----------
    kernel : Kernel
    ridge : float
        Above 0.
    prior : ArmPrior
        Its outcomes are thought to be at the context that is 0 but for its intercept; its ``theta``, if there
        is one, has a coefficient per feature of a context.
    """

    kernel: Kernel
    ridge: float
    prior: ArmPrior

    def prior_means(self, rows: Float64s) -> Float64s:
        """Return the prior's mean rewards, shape (n,).

        Raises
        ------
        InvalidShape
            The prior's coefficients have another number than the contexts' features.
        """
        if self.prior.theta is None:
            return np.full(len(rows), self.prior.reward)
        require_shape("theta", self.prior.theta, (rows.shape[1],))
        means: Float64s = rows @ self.prior.theta
        return means

    def model(
        self, by_context: Mapping[bytes, tuple[float, float]], dimension: int, earlier: KernelModel | None
    ) -> KernelModel:
        """Return the model of outcomes, from an earlier model where that costs less.

        Parameters
        ----------
        by_context : mapping of bytes to (float, float)
            Weight above 0 and weighted reward by context.
        dimension : int
            Features of a context.
        earlier : KernelModel or None
            Of the same kernel, penalty and prior.

        Notes
        -----
        O(n^3) anew; O(n^2) for every context that is new, gone or of another weight. Both agree up to
        rounding: less than 1e-8 after 1,024 changes, when the inverse is computed anew.
        """
        sums = dict(by_context)
        if self.prior.events:
            origin = packed(intercept_alone(dimension))
            weight, reward = sums.get(origin, (0.0, 0.0))
            sums[origin] = (
                weight + self.prior.events,
                reward + self.prior.events * self.prior.reward,
            )
        built = None if earlier is None else self._advanced(earlier, sums, dimension)
        if built is None:
            built = self._anew(sums, dimension)
        contexts, rows, weights, inverse, updates = built
        rewards = np.array([sums[context][1] for context in contexts])
        left = rewards / weights - self.prior_means(rows) if len(contexts) else rewards
        return KernelModel(contexts, rows, weights, inverse, inverse @ left, updates)

    def estimate(self, model: KernelModel, z: Float64s, pending: Float64s | None) -> tuple[float, float]:
        """Return mean and width at a context, shape (d,).

        Parameters
        ----------
        model : KernelModel
        z : float64 array, shape (d,)
        pending : float64 array, shape (m, d), or None
            Contexts of outcomes that are awaited; they narrow the width.

        Notes
        -----
        O(n d + n^2); with m awaited outcomes O(n^2 m + m^3) more.
        """
        near = self.kernel.between(model.rows, z[None])[:, 0]
        mean = float(self.prior_means(z[None])[0] + near @ model.coefficients)
        left = self.kernel.with_itself(z) - float(near @ (model.inverse @ near))
        if pending is not None and len(pending):
            cross = self.kernel.between(model.rows, pending)
            told = model.inverse @ cross
            covariance = self.kernel.between(pending, pending) - cross.T @ told
            with_z = self.kernel.between(pending, z[None])[:, 0] - told.T @ near
            covariance[np.diag_indices(len(pending))] += self.ridge
            left -= float(with_z @ np.linalg.solve(covariance, with_z))
        return mean, float(np.sqrt(max(0.0, left) / self.ridge))

    def _anew(self, sums: Mapping[bytes, tuple[float, float]], dimension: int) -> "_Built":
        contexts = tuple(sorted(sums))
        rows = natural(contexts_of(contexts, dimension))
        weights = np.array([sums[context][0] for context in contexts])
        matrix = self.kernel.between(rows, rows)
        matrix[np.diag_indices(len(rows))] += self.ridge / weights
        try:
            factor = inverse_factor(matrix) if len(rows) else matrix
            inverse = factor.T @ factor
        except np.linalg.LinAlgError:
            # A penalty below the rounding of the kernel: nothing it holds is less than the penalty.
            values, vectors = np.linalg.eigh(matrix)
            inverse = (vectors / np.maximum(values, self.ridge / weights.max())) @ vectors.T
        return contexts, rows, weights, inverse, 0

    def _advanced(
        self, earlier: KernelModel, sums: Mapping[bytes, tuple[float, float]], dimension: int
    ) -> "_Built | None":
        """Return the inverse by changes of an earlier one; None where computing it anew costs less."""
        held = dict(zip(earlier.contexts, earlier.weights.tolist(), strict=True))
        gone = [context for context in held if context not in sums]
        new = sorted(context for context in sums if context not in held)
        other = [context for context in held if context in sums and sums[context][0] != held[context]]
        changes = len(gone) + len(new) + len(other)
        if changes > max(8, len(sums) // 8) or earlier.updates + changes > MOST_UPDATES:
            return None
        contexts, inverse = list(earlier.contexts), earlier.inverse
        for context in other:
            place = contexts.index(context)
            inverse = reweighted(inverse, place, self.ridge / sums[context][0] - self.ridge / held[context])
        for context in gone:
            place = contexts.index(context)
            inverse = without(inverse, place)
            del contexts[place]
        rows = natural(contexts_of(contexts, dimension))
        for context in new:
            row = natural(contexts_of([context], dimension))
            column = self.kernel.between(rows, row)[:, 0]
            corner = self.kernel.with_itself(row[0]) + self.ridge / sums[context][0]
            inverse = bordered(inverse, column, corner)
            contexts.append(context)
            rows = np.vstack([rows, row])
        weights = np.array([sums[context][0] for context in contexts])
        return tuple(contexts), rows, weights, inverse, earlier.updates + changes


_Built = tuple[tuple[bytes, ...], Float64s, Float64s, Float64s, int]


def bordered(inverse: Float64s, column: Float64s, corner: float) -> Float64s:
    """Return the inverse of a matrix with a row and column more.

    Parameters
    ----------
    inverse : float64 array, shape (n, n)
        Of the matrix without them.
    column : float64 array, shape (n,)
    corner : float
        The new last entry of the diagonal.

    Notes
    -----
    O(n^2). Of one number it is ``1 / corner``.
    """
    n = len(inverse)
    u = inverse @ column
    scale = 1.0 / (corner - float(column @ u))
    larger = np.empty((n + 1, n + 1))
    larger[:n, :n] = inverse + scale * np.outer(u, u)
    larger[:n, n] = larger[n, :n] = -scale * u
    larger[n, n] = scale
    return larger


def without(inverse: Float64s, place: int) -> Float64s:
    """Return the inverse of a matrix with the row and column of a place left out, in O(n^2)."""
    column = np.delete(inverse[:, place], place)
    smaller = np.delete(np.delete(inverse, place, axis=0), place, axis=1)
    result: Float64s = smaller - np.outer(column, column) / inverse[place, place]
    return result


def reweighted(inverse: Float64s, place: int, change: float) -> Float64s:
    """Return the inverse of a matrix with a change of one entry of its diagonal, in O(n^2)."""
    column = inverse[:, place]
    result: Float64s = inverse - np.outer(column, column) * (change / (1.0 + change * inverse[place, place]))
    return result
