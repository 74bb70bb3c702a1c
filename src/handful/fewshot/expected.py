"""The expected score: the cosine that a taught sample would have to its own class, had it not been taught.

A sample helps to make both its class's mean and the whitening, so its cosine as it stands is too good; with few samples
in many dimensions, by a half. Leaving each out for real takes the samples, which NEMO does not keep. Their mean is a
closed form of its sums. With A = W'W the inverse of the scatter R + ridge I, m the mean of a class of n samples, u what
a sample differs from it by, and N samples in all:

    u'Au is on average   h = tr(A R) / N                  (the leverage; Hoaglin and Welsch 1978)
    (m'Au)^2             v = m'A R A m / N
    m'Au                 0

Without the sample the scatter is smaller by c u u', c = n / (n - 1), so A becomes A + g A u u' A, with
g = c / (1 - c h) (Sherman and Morrison 1950), and the class's mean m - u / (n - 1). So, with M = m'A m and
q = 1 / (n - 1):

    x . rest     M - q h + g (v - q h^2)
    |x|^2        M + h + g (v + h^2)
    |rest|^2     M + q^2 h + g (v + q^2 h^2)

tests/fewshot/test_nemo.py has it beside leaving each sample out for real.
"""

from __future__ import annotations

import numpy as np

OF_ONE = 0.6  # while no class has two samples to compare: what photographs of one thing have, one taught
MOST_LEVERAGE = 0.999


def left_out_cosine(n: np.ndarray, white_means: np.ndarray, whiten: np.ndarray, ridge: float) -> float:
    """The mean cosine of the taught samples to their own class, each left out.

    n: (k,) samples a class; white_means: (k, d) float64, the means of the classes in the whitened space; whiten: (d, d)
    float64; ridge: as Nemo's. Classes of one sample say nothing; OF_ONE where there is no other.
    """
    several = n > 1
    if not several.any():
        return OF_ONE
    count, mean = n.sum(), white_means[several]
    h = max(0.0, len(whiten) - ridge * float(np.vdot(whiten, whiten))) / count
    m2 = np.einsum("kd,kd->k", mean, mean)
    turned = mean @ whiten  # A m
    v = np.maximum(m2 - ridge * np.einsum("kd,kd->k", turned, turned), 0.0) / count
    n = n[several]
    c, q = n / (n - 1), 1 / (n - 1)
    g = c / (1 - np.minimum(c * h, MOST_LEVERAGE))
    inner = m2 - q * h + g * (v - q * h**2)
    sample = m2 + h + g * (v + h**2)
    rest = m2 + q**2 * h + g * (v + q**2 * h**2)
    cosine = inner / np.sqrt(np.maximum(sample * rest, 1e-24))
    return float(np.clip(n @ cosine / n.sum(), 0.0, 1.0))


def before_0_4(n: np.ndarray, white_means: np.ndarray, whiten: np.ndarray, ridge: float) -> float:
    """The expected score of models of schema 1, which left a sample out of its mean, but not out of the whitening. All
    as in left_out_cosine."""
    several = n > 1
    if not several.any():
        return OF_ONE
    m2 = np.einsum("kd,kd->k", white_means, white_means)
    # of all samples in the whitened space, from their sum of products (L L' - ridge I) + sum_k n_k m_k m_k'
    mean2 = (len(whiten) - ridge * float(np.vdot(whiten, whiten)) + float(n @ m2)) / n.sum()
    n, sum2 = n[several], (m2 * n**2)[several]
    inner = float(np.sum(sum2) - mean2 * n.sum())
    left = np.sqrt(np.maximum(sum2 * (1 - 2 / n) + mean2, 1e-12))
    return float(np.clip(inner / float(np.sum(n * np.sqrt(mean2) * left)), 0.0, 1.0))
