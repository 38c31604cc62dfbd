"""What the quadrature must know of the distributions that arms are drawn from."""

from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np
from scipy.special import betainc, betaincinv, betaln, ndtr, ndtri, stdtr, stdtrit

from kshot.arrays import Bools, Float64s

NORMAL_EVENTS = 1e6
"""Beta distributions of more events than this are taken as normal."""
LEAST_BETA = 0.5
"""Beta distributions of smaller parameters crowd at 0 or 1 as no panel can resolve."""

_STEP = 2.0
"""Width of a panel in standard deviations."""
_AWAY = 2.0
"""Width of a panel in distances from a singularity that lies behind it."""
_TOWARDS = 0.8
"""Width of a panel in distances to a singularity that lies ahead."""
_SMOOTH = 12.0
"""From this parameter on a Beta density is smooth enough at its edge."""
_HEAVY = 10.0
"""Degrees of freedom from which on a Student tail falls more like a normal one."""
_NEAREST = 1e-16
_LAST = 1e-7
"""Probability next to a Beta distribution's edge that one panel may span."""
_INV_SQRT_2PI = 1 / np.sqrt(2 * np.pi)


class Draws(Protocol):
    """K independent continuous distributions; methods return one row or entry per arm."""

    def quantiles(self, level: float) -> Float64s:
        """Return the points below which a draw falls with probability ``level``."""
        ...

    def ends(self, tail: float) -> Float64s:
        """Return the points above which a draw falls with probability ``tail``."""
        ...

    def edges(self, ends: Float64s) -> Float64s:
        """Return those of the ends that no panel may cross, because the density breaks off there."""
        ...

    def moved(self, origin: float) -> "Draws":
        """Return the distributions of the draws less ``origin``."""
        ...

    def take(self, kept: Bools) -> "Draws":
        """Return some of the arms."""
        ...

    def steps(self, x: float) -> Float64s:
        """Return how wide a panel that begins at ``x`` may be for each arm."""
        ...

    def cdf(self, x: Float64s) -> Float64s:
        """Return cumulative probabilities, shape (K, G)."""
        ...

    def pdf(self, x: Float64s) -> Float64s:
        """Return densities, shape (K, G)."""
        ...


@dataclass(frozen=True, slots=True)
class Normals:
    """Normal draws; every ``sds`` above 0."""

    means: Float64s
    sds: Float64s

    def quantiles(self, level: float) -> Float64s:
        """Return quantiles."""
        return self.means + float(ndtri(level)) * self.sds

    def ends(self, tail: float) -> Float64s:
        """Return upper quantiles."""
        return self.means - float(ndtri(tail)) * self.sds

    def edges(self, ends: Float64s) -> Float64s:
        """Return none: the density is smooth."""
        return ends[:0]

    def moved(self, origin: float) -> "Normals":
        """Return the draws less ``origin``."""
        return Normals(self.means - origin, self.sds)

    def take(self, kept: Bools) -> "Normals":
        """Return some of the arms."""
        return Normals(self.means[kept], self.sds[kept])

    def steps(self, x: float) -> Float64s:
        """Return standard deviations."""
        return _STEP * self.sds

    def cdf(self, x: Float64s) -> Float64s:
        """Return cumulative probabilities."""
        below: Float64s = ndtr((x - self.means[:, None]) / self.sds[:, None])
        return below

    def pdf(self, x: Float64s) -> Float64s:
        """Return densities."""
        z = (x - self.means[:, None]) / self.sds[:, None]
        densities: Float64s = np.exp(-0.5 * z * z) * (_INV_SQRT_2PI / self.sds[:, None])
        return densities


@dataclass(frozen=True, slots=True)
class Students:
    """Draws of ``loc + scale * t_df``; every ``scale`` above 0."""

    loc: Float64s
    scale: Float64s
    df: Float64s

    def quantiles(self, level: float) -> Float64s:
        """Return quantiles."""
        return self.loc + stdtrit(self.df, level) * self.scale

    def ends(self, tail: float) -> Float64s:
        """Return upper quantiles."""
        return self.loc - stdtrit(self.df, tail) * self.scale

    def edges(self, ends: Float64s) -> Float64s:
        """Return none: the density is smooth."""
        return ends[:0]

    def moved(self, origin: float) -> "Students":
        """Return the draws less ``origin``."""
        return Students(self.loc - origin, self.scale, self.df)

    def take(self, kept: Bools) -> "Students":
        """Return some of the arms."""
        return Students(self.loc[kept], self.scale[kept], self.df[kept])

    def steps(self, x: float) -> Float64s:
        """Return scales, or shares of the distance to the middle where that is more: tails fall slowly."""
        distance = x - self.loc
        share = np.where(distance < 0, -_TOWARDS * distance, _AWAY * distance)
        # Of many degrees of freedom the tail is a normal one, and soon over.
        return np.maximum(_STEP * self.scale, share / (1.0 + self.df / _HEAVY))

    def cdf(self, x: Float64s) -> Float64s:
        """Return cumulative probabilities."""
        return stdtr(self.df[:, None], (x - self.loc[:, None]) / self.scale[:, None])

    def pdf(self, x: Float64s) -> Float64s:
        """Return densities."""
        df = self.df
        z = (x - self.loc[:, None]) / self.scale[:, None]
        # Not by two gamma functions, whose difference is lost in rounding for many degrees of freedom.
        constant = -betaln(df / 2, 0.5) - 0.5 * np.log(df) - np.log(self.scale)
        return np.exp(constant[:, None] - (df[:, None] + 1) / 2 * np.log1p(z * z / df[:, None]))


@dataclass(frozen=True, slots=True)
class Betas:
    """Draws of Beta(a, b) less a shift; normal ones of equal moments where ``a + b`` is large."""

    a: Float64s
    b: Float64s
    shift: Float64s
    means: Float64s
    sds: Float64s
    gaps: Float64s

    @classmethod
    def of(cls, a: Float64s, b: Float64s, shift: Float64s) -> "Betas":
        """Build from the parameters, all at least `LEAST_BETA`."""
        n = a + b
        sds = np.sqrt(a / n * (b / n) / (n + 1))
        gaps = np.asarray(betaincinv(b, a, _LAST), np.float64)
        return cls(a, b, shift, a / n - shift, sds, gaps)

    @property
    def _many(self) -> Bools:
        large: Bools = self.a + self.b > NORMAL_EVENTS
        return large

    def quantiles(self, level: float) -> Float64s:
        """Return quantiles."""
        normal = self.means + float(ndtri(level)) * self.sds
        return np.where(self._many, normal, betaincinv(self.a, self.b, level) - self.shift)

    def ends(self, tail: float) -> Float64s:
        """Return upper quantiles."""
        normal = self.means - float(ndtri(tail)) * self.sds
        return np.where(self._many, normal, 1 - betaincinv(self.b, self.a, tail) - self.shift)

    def edges(self, ends: Float64s) -> Float64s:
        """Return the ends of densities that are not smooth at 1."""
        return ends[(self.b < _SMOOTH) & ~self._many]

    def moved(self, origin: float) -> "Betas":
        """Return the draws less ``origin``."""
        return replace(self, shift=self.shift + origin, means=self.means - origin)

    def take(self, kept: Bools) -> "Betas":
        """Return some of the arms."""
        return Betas(*(getattr(self, item.name)[kept] for item in fields(self)))

    def steps(self, x: float) -> Float64s:
        """Return standard deviations, or shares of the distance to 0 or 1 where these are not smooth."""
        y = x + self.shift
        near = ~self._many
        rough_low = near & (self.a < _SMOOTH) & (self.a != np.rint(self.a))
        rough_high = near & (self.b < _SMOOTH) & (self.b != np.rint(self.b))
        behind = np.where(rough_low, _AWAY * np.maximum(y, _NEAREST), np.inf)
        ahead = np.where(rough_high, np.maximum(_TOWARDS * (1 - y), self.gaps), np.inf)
        return np.minimum(_STEP * self.sds, np.minimum(behind, ahead))

    def cdf(self, x: Float64s) -> Float64s:
        """Return cumulative probabilities."""
        y = np.clip(x + self.shift[:, None], 0.0, 1.0)
        values = np.empty(y.shape)
        near, many = ~self._many, self._many
        values[near] = betainc(self.a[near, None], self.b[near, None], y[near])
        values[many] = ndtr((x - self.means[many, None]) / self.sds[many, None])
        return values

    def pdf(self, x: Float64s) -> Float64s:
        """Return densities."""
        y = x + self.shift[:, None]
        values = np.zeros(y.shape)
        near, many = ~self._many, self._many
        a, b, given = self.a[near, None], self.b[near, None], y[near]
        within = (given > 0) & (given < 1)
        inside = np.where(within, given, 0.5)
        logs = (a - 1) * np.log(inside) + (b - 1) * np.log1p(-inside) - betaln(a, b)
        values[near] = np.where(within, np.exp(logs), 0.0)
        z = (x - self.means[many, None]) / self.sds[many, None]
        values[many] = np.exp(-0.5 * z * z) * (_INV_SQRT_2PI / self.sds[many, None])
        return values
