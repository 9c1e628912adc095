"use strict";
// Special functions that JavaScript lacks, in double precision: tests/reporting/test_explore.py compares each with Python.

// Gamma(x + 1/2) / Gamma(x).
function gammaHalfRatio(x) {
  let factor = 1;
  for (; x < 30; x += 1) factor *= x / (x + 0.5);
  const u = 1 / x;
  const c = [1, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144, 869 / 4194304, 39325 / 33554432];
  return factor * Math.sqrt(x) * c.reduceRight((sum, term) => sum * u + term, 0);
}

// mu - log(1 + mu) with 1 + mu = ratio, without cancellation near mu = 0.
function logExcess(ratio) {
  const mu = ratio - 1;
  if (Math.abs(mu) > 0.05) return mu - Math.log(ratio);
  let sum = 0;
  for (let k = 13, sign = -1; k >= 2; k -= 1, sign = -sign) sum = sum * mu + sign / k;
  return sum * mu * mu;
}

// x^a exp(-x) / Gamma(a + 1), by Stirling's series for the Gamma function beyond 20.
function gammaDensity(a, x) {
  let b = a;
  let rising = 1;
  for (; b < 20; b += 1) rising *= b + 1;
  const u = 1 / (b * b);
  const stirling = (1 / 12 + u * (-1 / 360 + u * (1 / 1260 + u * (-1 / 1680 + u / 1188)))) / b;
  const root = Math.exp(-stirling) / Math.sqrt(2 * Math.PI * b);
  if (b > a) return rising * x ** a * root * Math.exp(b - x) / b ** b;
  return root * Math.exp(-b * logExcess(x / b));
}

// Both tails [P, Q] of the regularised incomplete gamma function by Temme's uniform expansion, for a >= 1e4.
function temme(a, x) {
  const mu = x / a - 1;
  if (mu <= -1) return [0, 1];
  const eta = Math.sign(mu) * Math.sqrt(2 * logExcess(x / a));
  let c0;
  let c1;
  if (Math.abs(eta) < 0.1) {
    c0 = -1 / 3 + eta * (1 / 12 + eta * (-2 / 135 + eta * (1 / 864 + eta * (1 / 2835 - eta * 139 / 777600))));
    c1 = -1 / 540 + eta * (-1 / 288 + eta * (25 / 12096 - eta * 223 / 1088640));
  } else {
    c0 = 1 / mu - 1 / eta;
    c1 = 1 / eta ** 3 - 1 / mu ** 3 - 1 / mu ** 2 - 1 / (12 * mu);
  }
  const rest = Math.exp(-0.5 * a * eta * eta) / Math.sqrt(2 * Math.PI * a) * (c0 + c1 / a);
  const [low, high] = normalTails(eta * Math.sqrt(a));
  return [low - rest, high + rest];
}

// Both tails [P, Q] of the regularised incomplete gamma function, each accurate on its own.
function gammaTails(a, x) {
  if (x <= 0) return [0, 1];
  if (a >= 1e4) return temme(a, x);
  const front = gammaDensity(a, x);
  if (x < a + 1) {
    let term = 1;
    let sum = 1;
    for (let n = a + 1; term > sum * 1e-17; n += 1) {
      term *= x / n;
      sum += term;
    }
    return [front * sum, 1 - front * sum];
  }
  let b = x + 1 - a;
  let c = Infinity;
  let d = 1 / b;
  let h = d;
  for (let i = 1, change = 0; Math.abs(change - 1) > 1e-16 && i < 1e5; i += 1) {
    const an = i * (a - i);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    change = c * d;
    h *= change;
  }
  return [1 - front * a * h, front * a * h];
}

// Both tails of a standard normal.
function normalTails(z) {
  const [inner, outer] = gammaTails(0.5, 0.5 * z * z);
  return z < 0 ? [0.5 * outer, 0.5 + 0.5 * inner] : [0.5 + 0.5 * inner, 0.5 * outer];
}

// Standard normal quantile: a rational start, then Newton steps on the logarithm of the smaller tail.
function normalQuantile(p) {
  if (p > 0.5) return -normalQuantile(1 - p);
  const t = Math.sqrt(-2 * Math.log(p));
  let z = (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
  for (let pass = 0; pass < 4; pass += 1) {
    const low = normalTails(z)[0];
    const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
    z -= Math.log(low / p) * low / density;
  }
  return z;
}

// The normal score of a probability whose two tails are known.
function scoreOf([low, high]) {
  return low < 0.5 ? normalQuantile(low) : -normalQuantile(high);
}

// Quantile of a chi-square variable at the probability of a normal score: scoreOf is nearly linear in it.
function chiSquareAtScore(score, df) {
  const cube = 2 / (9 * df);
  let x = df * Math.max(1 - cube + score * Math.sqrt(cube), 0.05) ** 3;
  for (let pass = 0; pass < 30; pass += 1) {
    const reached = scoreOf(gammaTails(df / 2, x / 2));
    const slope = gammaDensity(df / 2, x / 2) * df / (2 * x) * Math.sqrt(2 * Math.PI) * Math.exp(0.5 * reached * reached);
    const step = (score - reached) / slope;
    x = Math.max(x + step, 0.1 * x);
    if (Math.abs(step) <= 1e-15 * x) break;
  }
  return x;
}

function chiSquareQuantile(p, df) {
  return chiSquareAtScore(normalQuantile(p), df);
}

// Quantile of chi^2_n chi^2_m / m, the narrower of the two by Gauss quadrature over its normal scores.
function mixedChiSquareQuantile(p, n, m) {
  const score = normalQuantile(p);
  const nodes = chiSquareNodes(Math.max(n, m));
  const excess = (u) => {
    const tails = [0, 0];
    nodes.forEach((node, i) => {
      gammaTails(Math.min(n, m) / 2, Math.exp(u) * m / node / 2).forEach((tail, side) => {
        tails[side] += NORMAL_WEIGHTS[i] * tail;
      });
    });
    return scoreOf(tails) - score;
  };
  const both = 1 / (1 / n + 1 / m);
  let u = Math.log(chiSquareAtScore(score, both) * n / both);
  let f = excess(u);
  let slope = Math.sqrt(both / 2);
  for (let pass = 0; pass < 30 && f !== 0; pass += 1) {
    const step = Math.min(Math.max(-f / slope, -1), 1);
    if (Math.abs(step) < 1e-15) break;
    const before = f;
    f = excess(u + step);
    u += step;
    if (Math.abs(step) < 1e-13) break;
    if (f !== before) slope = (f - before) / step;
  }
  return Math.exp(u);
}

// The last nodes are kept: along a curve the degrees of freedom often stay.
const kept = { df: NaN, nodes: [] };
function chiSquareNodes(df) {
  if (df !== kept.df) Object.assign(kept, { df, nodes: NORMAL_NODES.map((score) => chiSquareAtScore(score, df)) });
  return kept.nodes;
}

// Quantile of Student's t by its expansion in 1/df (Abramowitz and Stegun 26.7.5), for df >= 1000.
function studentQuantile(p, df) {
  const z = normalQuantile(p);
  const s = z * z;
  const terms = [
    1,
    (s + 1) / 4,
    (3 + s * (16 + s * 5)) / 96,
    (-15 + s * (17 + s * (19 + s * 3))) / 384,
    (-945 + s * (-1920 + s * (1482 + s * (776 + s * 79)))) / 92160,
  ];
  return z * terms.reduceRight((sum, term) => sum / df + term, 0);
}
