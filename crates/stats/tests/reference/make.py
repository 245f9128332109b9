"""Writes reference.json: values of an independent implementation in 50-digit arithmetic (mpmath) and of scipy.

Not run by the tests. To renew:  pip install mpmath scipy numpy  &&  python make.py
Every process is computed as the plain (not logarithmic) sum that its definition states.
"""

import json
import pathlib

import mpmath as mp
import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

mp.mp.dps = 50
RNG = np.random.default_rng(20240611)
FAIL = [mp.mpf(x) for x in ("1.5", "2", "3", "5", "10", "30")]
PRIOR = [mp.mpf(x) / mp.mpf("9.5") for x in ("3", "2", "1.5", "1", "1", "1")]
LIMIT_PRIOR = [mp.mpf(x) / mp.mpf("9.5") for x in ("2.5", "1.5", "1.5", "1", "1.5", "1.5")]


def special():
    xs = [1e-8, 1e-3, 0.3, 0.5, 0.999999, 1.0000001, 1.5, 1.9999, 2.5, 7.3, 14.9, 15.1, 99.5, 1e4 + 0.5, 1e6, 1e9 + 0.5, 3e12, 1e15]
    pairs = [(a, b) for a in (0.5, 3.25, 14.5, 40.5, 1e4 + 0.5, 5e6 + 0.5, 1e9) for b in (0.5, 2.5, 16.5, 1e5, 1e9 + 0.5, 1e12)]
    ps = [1e-300, 1e-100, 1e-20, 1e-9, 1e-3, 0.01, 0.07, 0.075, 0.2, 0.4999, 0.6, 0.925, 0.93, 0.99, 0.9999, 1 - 1e-12]
    return {
        "ln_gamma": [[x, float(mp.loggamma(mp.mpf(x)))] for x in xs],
        "ln_beta": [
            [a, b, float(mp.loggamma(mp.mpf(a)) + mp.loggamma(mp.mpf(b)) - mp.loggamma(mp.mpf(a) + mp.mpf(b)))] for a, b in pairs
        ],
        "normal_quantile": [[p, normal_quantile(p)] for p in ps],
    }


def normal_quantile(p):
    start = norm.ppf(p)
    with mp.workdps(400):
        return float(mp.findroot(lambda z: mp.erfc(-z / mp.sqrt(2)) / 2 / mp.mpf(p) - 1, (mp.mpf(start), mp.mpf(start) * (1 + mp.mpf("1e-9")) + mp.mpf("1e-12"))))


def ratio_stream(name, rho0, ratios, prior, at_once, n0, eta, batches):
    rho0, at_once, n0, eta = map(mp.mpf, (rho0, at_once, n0, eta))
    capital = [at_once * p for p in prior]
    reserve, n, out = 1 - at_once, mp.mpf(0), []
    for kc, ks, w in batches:
        w = mp.mpf(w)
        m = kc + ks
        if m and 0 < w < 1:
            h = m / (n + m + n0)
            z0 = w * rho0 + 1 - w
            for k, r in enumerate(ratios):
                z = w * r + 1 - w
                factor = (((r / rho0) * z0 / z) ** kc * (z0 / z) ** ks) ** eta
                capital[k] = (capital[k] + h * reserve * prior[k]) * factor
            reserve *= 1 - h
            n += m
        out.append(float(mp.log(sum(capital) + reserve)))
    return {"name": name, "rho0": float(rho0), "eta": float(eta), "batches": batches, "ln_e": out}


def batches(size, rate, ratio, weights):
    out = []
    for i in range(size):
        w = weights[i * len(weights) // size]
        out.append([int(RNG.poisson(rate * w * ratio)), int(RNG.poisson(rate * (1 - w))), w])
    return out


def ratios():
    weights = [0.05, 0.25, 0.5, 0.05, 1.0, 0.0, 0.8]
    fail15 = [mp.mpf("1.5") * r for r in FAIL]
    passing = [mp.mpf(x) for x in ("1", "0.75", "0.4")]
    pass_prior = [mp.mpf(x) for x in ("0.6", "0.25", "0.15")]
    return [
        ratio_stream("fail", 1, FAIL, PRIOR, "0.7", 60, 1, batches(140, 6, 1.0, weights)),
        ratio_stream("fail", 1, FAIL, PRIOR, "0.7", 60, 1, batches(140, 40, 2.5, weights)),
        ratio_stream("fail", 1, FAIL, PRIOR, "0.7", 60, 0.25, batches(140, 40, 3.0, weights)),
        ratio_stream("strict", 1.5, fail15, PRIOR, "0.7", 60, 1, batches(140, 20, 3.0, weights)),
        ratio_stream("pass", 1.5, passing, pass_prior, 1, 60, 1, batches(140, 20, 1.0, weights)),
        ratio_stream("fail", 1, FAIL, PRIOR, "0.7", 60, 1, [[10**6, 19 * 10**6, 0.05], [10**9, 19 * 10**9, 0.05], [40, 0, 0.05]]),
    ]


def harmonic(n):
    """What is left of half of the capital after n events, for n0 = 60."""
    return 30 / mp.mpf(n + 60)


def logarithmic(n):
    return mp.mpf("0.5") / (1 + mp.log(1 + mp.mpf(n) / 60))


def spread(capital, n, reserve, prior, k, ln_event, ln_quiet):
    """The even spread of k <= 32 events within one quiet stretch; after each the capital gets what the reserve loses."""
    gap = [mp.e ** (q / (k + 1)) for q in ln_quiet]
    event = [mp.e**e for e in ln_event]
    for _ in range(k):
        capital = [a * g * e for a, g, e in zip(capital, gap, event)]
        capital = [a + (reserve(n) - reserve(n + 1)) * p for a, p in zip(capital, prior)]
        n += 1
    return [a * g for a, g in zip(capital, gap)], n


def limits():
    out = []
    for limit, rate in ((0.05, 0.04), (0.05, 0.3), (0.01, 0.01), (0.5, 0.7)):
        p0 = mp.mpf(limit)
        qs = [min(p0 * mp.mpf(x), mp.mpf("0.99")) for x in ("1.2", "1.5", "2", "4", "10", "19.8")]
        capital, n, ln_e, seen = [p / 2 for p in LIMIT_PRIOR], 0, [], []
        for _ in range(60):
            requests = int(RNG.integers(0, 60))
            k = min(int(RNG.binomial(requests, rate)), 32)
            ln_quiet = [(requests - k) * mp.log((1 - q) / (1 - p0)) for q in qs]
            capital, n = spread(capital, n, logarithmic, LIMIT_PRIOR, k, [mp.log(q / p0) for q in qs], ln_quiet)
            seen.append([requests, k])
            ln_e.append(float(mp.log(sum(capital) + logarithmic(n))))
        out.append({"limit": limit, "batches": seen, "ln_e": ln_e})
    return out


def poissons():
    out = []
    for rate0, rate in ((0.01, 0.008), (0.01, 0.05)):
        capital, n, ln_e, seen = [p / 2 for p in PRIOR], 0, [], []
        for _ in range(60):
            seconds = float(RNG.uniform(1, 120))
            k = int(RNG.poisson(rate * seconds))
            ln_quiet = [-(r - 1) * mp.mpf(rate0) * mp.mpf(seconds) for r in FAIL]
            capital, n = spread(capital, n, harmonic, PRIOR, k, [mp.log(r) for r in FAIL], ln_quiet)
            seen.append([k, seconds])
            ln_e.append(float(mp.log(sum(capital) + harmonic(n))))
        out.append({"rate": rate0, "batches": seen, "ln_e": ln_e})
    return out


def project(qc, qs, d, w):
    f = lambda x: w * (-qc / (x + d) + (1 - qc) / (1 - x - d)) + (1 - w) * (-qs / x + (1 - qs) / (1 - x))
    lo, hi = max(mp.mpf(0), -d), min(mp.mpf(1), 1 - d)
    for _ in range(180):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if f(mid) < 0 else (lo, mid)
    return (lo + hi) / 2


def differences():
    """One batch each: the factor for given past, weight and counts."""
    out = []
    for kind, d in (("pass_below", 0.005), ("pass_below", 0.05), ("pass_not_lower", 0.002), ("fail_above", 0.005)):
        for past in ((100_000, 0), (100_000, 1_000), (1_000, 50)):
            for w in (0.05, 0.5, 0.9):
                batch = [400, int(RNG.binomial(400, 0.02)), 3000, int(RNG.binomial(3000, 0.012))]
                qs = (mp.mpf(past[1]) + mp.mpf("0.5")) / (past[0] + 1)
                dd = -mp.mpf(d) if kind == "pass_not_lower" else mp.mpf(d)
                multiples = ("1.5", "2", "4", "12") if kind == "fail_above" else ("0",)
                nc, kc, ns, ks = batch
                total = mp.mpf(0)
                for multiple in multiples:
                    qc = qs + mp.mpf(multiple) * mp.mpf(d)
                    x = project(qc, qs, dd, mp.mpf(w))
                    total += (
                        (qc / (x + dd)) ** kc * ((1 - qc) / (1 - x - dd)) ** (nc - kc) * (qs / x) ** ks * ((1 - qs) / (1 - x)) ** (ns - ks)
                    ) / len(multiples)
                if kind == "fail_above":
                    total = (1 + total) / 2
                out.append({"kind": kind, "difference": d, "past": list(past), "weight": w, "batch": batch, "ln_e": float(mp.log(total))})
    return out


def gauges():
    out = []
    for mean, sd in ((0.0, 0.05), (0.3, 0.1), (0.18, 0.3)):
        ys = [float(y) for y in RNG.normal(mean, sd, 40)]
        mu0 = mp.log(mp.mpf(1.2))
        ln_fail, ln_pass = [], []
        for count in range(1, len(ys) + 1):
            best = {1: -mp.inf, -1: -mp.inf}
            for j, start in enumerate([0, 4, 8, 16, 32], 1):
                window = [mp.mpf(y) for y in ys[start:count]]
                n = len(window)
                if n < 3:
                    continue
                bar = sum(window) / n
                s2 = sum((y - bar) ** 2 for y in window) / (n - 1)
                t2 = n * (bar - mu0) ** 2 / s2
                ln_e = -mp.log(1 + n) / 2 - mp.mpf(n) / 2 * (mp.log(1 + t2 / ((1 + n) * (n - 1))) - mp.log(1 + t2 / (n - 1)))
                side = 1 if bar > mu0 else -1
                best[side] = max(best[side], ln_e - mp.log(j * (j + 1)))
            ln_fail.append(None if best[1] == -mp.inf else float(best[1]))
            ln_pass.append(None if best[-1] == -mp.inf else float(best[-1]))
        out.append({"blocks": ys, "ln_fail": ln_fail, "ln_pass": ln_pass})
    return out


def ratio_intervals():
    out = []
    for bins in ([[10, 95, 0.05]], [[0, 60, 0.05]], [[30, 200, 0.05], [55, 160, 0.25]], [[5000, 95000, 0.05], [900, 800, 0.5]]):
        for alpha in (0.05, 0.01):

            def ln_e(ln_rho):
                rho, total = mp.e ** mp.mpf(ln_rho), mp.mpf(0)
                for r, p in zip(FAIL, PRIOR):
                    for multiple in (r, 1 / r):
                        term = p / 2
                        for kc, ks, w in bins:
                            z0, z = mp.mpf(w) * rho + 1 - mp.mpf(w), mp.mpf(w) * rho * multiple + 1 - mp.mpf(w)
                            term *= (multiple * z0 / z) ** kc * (z0 / z) ** ks
                        total += term
                return float(mp.log(total) + mp.log(alpha))

            kc, ks = sum(b[0] for b in bins), sum(b[1] for b in bins)
            scale = (kc + ks + 1) / (kc + ks)
            score = lambda s: sum(scale * (c + t) * w * np.exp(s) / (w * np.exp(s) + 1 - w) for c, t, w in bins) - kc - 0.5
            centre = brentq(score, -30, 30, xtol=1e-13)
            low = 0.0 if ln_e(-20) < 0 else float(np.exp(brentq(ln_e, -20, centre, xtol=1e-12)))
            high = float(np.exp(brentq(ln_e, centre, 20, xtol=1e-12)))
            out.append({"bins": bins, "alpha": alpha, "ratio": float(np.exp(centre)), "low": low, "high": high})
    return out


def rate_intervals():
    out = []
    for n, k in ((1, 0), (10, 10), (100, 3), (100_000, 60), (1_000_000_000, 5_000_000)):
        for alpha in (0.05, 0.01):
            mix = mp.beta(k + mp.mpf("0.5"), n - k + mp.mpf("0.5")) / mp.pi if n < 10**6 else None
            ln_mix = mp.log(mix) if mix else mp.loggamma(k + mp.mpf("0.5")) + mp.loggamma(n - k + mp.mpf("0.5")) - mp.loggamma(n + 1) - mp.log(mp.pi)
            f = lambda p: ln_mix - (k * mp.log(p) if k else 0) - ((n - k) * mp.log(1 - p) if n - k else 0) + mp.log(alpha)

            def root(lo, hi, rising):
                for _ in range(160):
                    mid = (lo + hi) / 2
                    lo, hi = (mid, hi) if (f(mid) > 0) != rising else (lo, mid)
                return float(lo)

            rate = mp.mpf(k) / n
            low = 0.0 if k == 0 else root(mp.mpf(0), rate, False)
            high = 1.0 if k == n else root(rate, mp.mpf(1), True)
            out.append({"requests": n, "events": k, "alpha": alpha, "low": low, "high": high})
    return out


def mann_whitney():
    """R's wilcox.test(x, y, conf.int=TRUE, exact=FALSE, correct=TRUE), its root finder at full precision."""
    out = []
    for case in range(24):
        m, n = int(RNG.integers(3, 40)), int(RNG.integers(3, 40))
        if case % 3 == 0:
            x, y = RNG.normal(0.3, 1, m), RNG.normal(0, 1, n)
        elif case % 3 == 1:
            x, y = RNG.integers(0, 6, m).astype(float), RNG.integers(0, 5, n).astype(float)
        else:
            x, y = RNG.poisson(3, m) / 100_000, RNG.poisson(2, n) / 100_000
        z = norm.ppf(0.99)

        def w(d, zq):
            ranks = rankdata(np.concatenate([x - d, y]).round(15))
            dz = ranks[:m].sum() - m * (m + 1) / 2 - m * n / 2
            _, ties = np.unique(ranks, return_counts=True)
            sigma = np.sqrt(m * n / 12 * (m + n + 1 - (ties.astype(float) ** 3 - ties).sum() / ((m + n) * (m + n - 1))))
            return (dz - np.sign(dz) * 0.5) / sigma - zq

        def root(zq):
            lo, hi = x.min() - y.max(), x.max() - y.min()
            if w(lo, zq) <= 0:
                return lo
            if w(hi, zq) >= 0:
                return hi
            return brentq(w, lo, hi, args=(zq,), xtol=1e-14)

        differences = np.subtract.outer(x, y)
        estimate = float(np.median(differences))
        r1 = rankdata(np.concatenate([x, y]))[:m].sum()
        out.append(
            {
                "x": x.tolist(), "y": y.tolist(), "lower": float(root(z)), "upper": float(root(-z)), "estimate": estimate,
                "effect": float((2 * r1 - m * (m + 1)) / (2 * m * n)),
            }
        )
    return out


def informations():
    out = []
    for w in (0.05, 0.25, 0.5, 0.8):
        for truth, null in ((2, 1), (5, 1), (1, 1.5), (1, 2)):
            ww, r, r0 = map(mp.mpf, (w, truth, null))
            z, z0 = ww * r + 1 - ww, ww * r0 + 1 - ww
            value = mp.mpf("0.01") * (r * mp.log(r / r0 * z0 / z) + (1 - ww) / ww * mp.log(z0 / z))
            out.append([w, truth, null, float(value)])
    return out


def dispersions():
    pods = RNG.poisson(0.4, (240, 4)) + 8 * (RNG.random((240, 4)) < 0.02)
    requests = RNG.integers(20, 60, (240, 4))
    phis = []
    for length in (1, 5, 20, 60):
        k, r = (a.reshape(-1, length, 4).sum(1) for a in (pods, requests))
        share = r / r.sum(1, keepdims=True)
        used = k.sum(1) > 0
        scatter = ((k - share * k.sum(1, keepdims=True)) ** 2).sum(1) / (1 - (share**2).sum(1))
        phis.append(scatter[used].sum() / k.sum())
    return {"requests": requests.tolist(), "events": pods.tolist(), "phi": float(max(phis))}


if __name__ == "__main__":
    values = {
        "special": special(), "ratios": ratios(), "limits": limits(), "poissons": poissons(), "differences": differences(),
        "gauges": gauges(), "ratio_intervals": ratio_intervals(), "rate_intervals": rate_intervals(), "mann_whitney": mann_whitney(),
        "information": informations(), "dispersion": dispersions(),
    }
    path = pathlib.Path(__file__).with_name("reference.json")
    path.write_text(json.dumps(values, separators=(",", ":")).replace('],[', '],\n[') + "\n")
