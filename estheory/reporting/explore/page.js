const specification = JSON.parse(document.getElementById("specification").textContent);
const control = Object.fromEntries(specification.controls.map((c) => [c.name, c]));
const element = (id) => document.getElementById(id);
const WIDTH = 360;
const HEIGHT = 230;
const FRAME = { left: 48, right: 16, top: 12, bottom: 36 };
const POINTS = 96;
const SUFFIXES = { k: 1e3, m: 1e6, b: 1e9, t: 1e12 };

let state = {};
const axis = { run: "steps", update: "alpha" };

// Numbers as people read and write them.

function short(value, digits = 4, most = 1e5) {
  if (!Number.isFinite(value)) return value > 0 ? "no limit" : "none";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < most) return String(Number(value.toPrecision(digits)));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

function interval(low, high) {
  const digits = Math.min(Math.max(3, Math.ceil(-Math.log10((high - low) / Math.abs(high))) + 2), 12);
  return `${short(low, digits)} to ${short(high, digits)}`;
}

function asTyped(name, value) {
  return control[name].whole && value < 1e15 ? String(value) : short(value, 6);
}

function parsed(text) {
  const match = /^([-+0-9.e]+)\s*([kmbt]?)$/.exec(text.toLowerCase().replace(/[,_\s]/g, ""));
  const value = match ? Number(match[1]) * (SUFFIXES[match[2]] ?? 1) : NaN;
  return match && match[1] !== "" ? value : NaN;
}

function wrong(name, value) {
  const { title, least, most, whole } = control[name];
  if (Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value))) return "";
  return `${title}: a ${whole ? "whole " : ""}number from ${short(least)} to ${short(most)}`;
}

// Sliders: logarithmic but for shares.

function place(name, value) {
  const { low, high, even } = control[name];
  const share = even ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
  return Math.round(1000 * Math.min(Math.max(share, 0), 1));
}

function valueAt(name, position) {
  const { low, high, even, whole } = control[name];
  const share = position / 1000;
  const value = even ? low + share * (high - low) : low * (high / low) ** share;
  if (!whole) return Number(value.toPrecision(3));
  const before = place(name, state[name]); // a key moves the slider by one place, which is less than 1 of a small number
  const next = state[name] + Math.sign(position - before);
  return position > before ? Math.max(Math.round(value), next) : Math.min(Math.round(value), next);
}

// The model at a setting, one input of it changed.

function moved(name, value) {
  const follows = name === "sigma" && element("carry").checked && value !== state.sigma;
  return { ...state, ...(follows ? carried(state, value) : {}), [name]: value };
}

function evaluate(x) {
  return MODEL[x.shaping](x);
}

// Charts.

function nice(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) ticks.push(i * step);
  return ticks;
}

function decades(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first) / 5));
  const ticks = [];
  for (let k = first; k <= last; k += every) ticks.push(10 ** k);
  if (ticks.length > 1) return ticks;
  return nice(low, high, 4).filter((tick) => tick > 0);
}

function horizontal(name, results) {
  const { least, whole } = control[name];
  let near = [state[name]];
  if (name === "alpha" && Number.isFinite(results.optimal_alpha) && results.optimal_alpha > 0) {
    near.push(Math.min(results.optimal_alpha, results.largest_measured_alpha ?? Infinity));
  }
  near = near.map(Math.log10);
  const low = Math.max(10 ** Math.floor(Math.min(...near) - 0.5), least);
  return { low: name === "steps" ? 1 : whole ? Math.round(low) : low, high: 10 ** Math.ceil(Math.max(...near) + 0.5) };
}

function sweep(name, results) {
  const { low, high } = horizontal(name, results);
  const curve = [];
  for (let i = 0; i < POINTS; i += 1) {
    const at = low * (high / low) ** (i / (POINTS - 1));
    curve.push({ at, ...evaluate(moved(name, at)) });
  }
  return { name, low, high, curve };
}

function vertical(chart, swept, results) {
  const names = chart.lines.map((line) => line.formula);
  if (!chart.even) {
    const all = [...swept.curve, results].flatMap((point) => [...names, ...chart.band].map((name) => point[name] ?? 0));
    const sizes = all.filter((value) => value > 0 && Number.isFinite(value));
    if (!sizes.length) return { low: 0.1, high: 1 };
    const low = 10 ** Math.floor(Math.log10(Math.min(...sizes)) + 1e-9);
    const high = 10 ** Math.ceil(Math.log10(Math.max(...sizes)) - 1e-9);
    return { low, high: high > low ? high : 10 * low };
  }
  const main = [...swept.curve, results].map((point) => point[names[0]]).filter(Number.isFinite);
  const top = Math.max(...main, 0) || results[names[1]] || 1;
  const high = 2.2 * top;
  return { low: Math.min(Math.max(Math.min(...main), -top), 1.1 * results[names[0]], 0), high };
}

function drawn(chart, swept, results) {
  const { low, high } = vertical(chart, swept, results);
  const inner = { width: WIDTH - FRAME.left - FRAME.right, height: HEIGHT - FRAME.top - FRAME.bottom };
  const bottom = HEIGHT - FRAME.bottom;
  const across = (value) => FRAME.left + inner.width * Math.log(value / swept.low) / Math.log(swept.high / swept.low);
  const share = (value) => chart.even ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
  const up = (value) => bottom - inner.height * Math.min(Math.max(share(value), -1), 2);
  const shown = (value) => Number.isFinite(value) && (chart.even || value > 0);
  const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const along = (name) => swept.curve.filter((p) => shown(p[name])).map((p) => [across(p.at), up(p[name])]);
  const parts = [];
  for (const tick of decades(swept.low, swept.high)) {
    const x = across(tick).toFixed(1);
    parts.push(`<line class="grid" x1="${x}" x2="${x}" y1="${FRAME.top}" y2="${bottom}"/>`);
    parts.push(`<text class="tick" x="${x}" y="${bottom + 14}" text-anchor="middle">${short(tick, 3, 1e4)}</text>`);
  }
  for (const tick of chart.even ? nice(low, high, 5) : decades(low, high)) {
    const y = up(tick);
    parts.push(`<line class="${tick === 0 ? "zero" : "grid"}" x1="${FRAME.left}" x2="${WIDTH - FRAME.right}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/>`);
    parts.push(`<text class="tick" x="${FRAME.left - 5}" y="${(y + 4).toFixed(1)}" text-anchor="end">${short(tick, 3, 1e4)}</text>`);
  }
  const { symbol, title } = control[swept.name];
  parts.push(`<text x="${WIDTH - FRAME.right}" y="${HEIGHT - 5}" text-anchor="end">${title} ${symbol}</text>`);
  const clip = `clip-${chart.name}`;
  parts.push(`<clipPath id="${clip}"><rect x="${FRAME.left}" y="${FRAME.top}" width="${inner.width}" height="${inner.height}"/></clipPath>`);
  const curves = [];
  if (swept.name === "alpha" && chart.even && results.largest_measured_alpha < swept.high) {
    const x = Math.max(across(results.largest_measured_alpha), FRAME.left);
    curves.push(`<rect class="beyond" x="${x.toFixed(1)}" y="${FRAME.top}" width="${(WIDTH - FRAME.right - x).toFixed(1)}" height="${inner.height}"/>`);
  }
  if (chart.band.length && chart.band[0] in results) {
    const edge = [...along(chart.band[0]), ...along(chart.band[1]).reverse()];
    curves.push(`<path class="band" d="${path(edge)}Z"/>`);
  }
  chart.lines.forEach((line, i) => curves.push(`<path class="line-${i}" d="${path(along(line.formula))}"/>`));
  const x = across(state[swept.name]);
  curves.push(`<line class="here" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${FRAME.top}" y2="${bottom}"/>`);
  chart.lines.forEach((line, i) => {
    const value = results[line.formula];
    if (value !== undefined && shown(value)) curves.push(`<circle class="dot-${i}" cx="${x.toFixed(1)}" cy="${up(value).toFixed(1)}" r="4"/>`);
  });
  parts.push(`<g clip-path="url(#${clip})">${curves.join("")}</g>`);
  const known = chart.lines.filter((line) => line.formula in results);
  const values = known.map((line) => `${line.title} ${short(results[line.formula])}`).join(", ");
  const label = `${chart.title} against ${title}: ${values} at ${short(state[swept.name])}`;
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">${parts.join("")}</svg>`;
}

// The key: each line's stroke, its name and its value at the setting.
function key(chart, results) {
  return chart.lines.map((line, i) => {
    const value = line.formula in results ? `<b>${short(results[line.formula])}</b> ${chart.unit}` : "(no bound with this shaping)";
    const stroke = `<svg width="26" height="8" aria-hidden="true"><path class="line-${i}" d="M1 4H25"/></svg>`;
    return `<span>${stroke} ${line.title} ${value}</span>`;
  }).join("");
}

// The page at the current setting.

function label(row, results) {
  return row.name === "displacement_norm" && !results.keeps_exact_law ? "large-N" : row.label;
}

function spread(row, results) {
  const [low, high] = [results[`${row.name}_low`], results[`${row.name}_high`]];
  return low === undefined ? `<small>${row.spread}</small>` : interval(low, high);
}

function value(row, results) {
  if (!(row.name in results)) return "<small>no bound with this shaping</small>";
  return `${short(results[row.name], 5)}${row.unit === "1" ? "" : ` <small>${row.unit}</small>`}`;
}

function advice(results) {
  const { optimal_alpha: best, largest_measured_alpha: most, best_net_gain: net } = results;
  if (!(results.reward_gain_per_step > 0)) return "No reliability: an update gains nothing, whatever its step size.";
  if (most === undefined) {
    return `The net reward of an update peaks at α ${short(best, 3)}, with ${short(net, 3)}, if gain and cost hold that far: ` +
      "how far the members measured them is known for z-scores alone.";
  }
  const beyond = state.alpha > most ? ` α is beyond ${short(most, 3)}, up to which the members measured the reward: its gain and cost are a guess.` : "";
  if (best <= most) return `Best step size: α ${short(best, 3)}, with ${short(net, 3)} net per update.${beyond}`;
  const there = evaluate(moved("alpha", most));
  return `Best step size within what the members measured: α ${short(most, 3)}, with ${short(there.net_gain_per_step, 3)} net per update` +
    ` (the parabola itself peaks at ${short(best, 3)}).${beyond}`;
}

function show() {
  const results = evaluate(state);
  element("rows").innerHTML = specification.rows.map((row) => {
    return `<tr><th scope="row">${row.name.replaceAll("_", "_<wbr>")}<br><small>${row.definition}</small></th><td class="number">${value(row, results)}</td>` +
      `<td class="spread">${spread(row, results)}</td><td><span class="label">${label(row, results)}</span></td></tr>`;
  }).join("");
  element("advice").textContent = advice(results);
  const swept = { run: sweep(axis.run, results), update: sweep(axis.update, results) };
  for (const chart of specification.charts) {
    const figure = element(`chart-${chart.name}`);
    figure.querySelector(".key").innerHTML = key(chart, results);
    figure.querySelector(".plot").innerHTML = drawn(chart, swept[chart.axis], results);
  }
  element("strip").innerHTML = [["norm", "displacement_norm"], ["KL", "kl_drift"], ["net", "net_gain_per_step"]]
    .map(([name, formula]) => `<span>${name} <b>${short(results[formula], 3)}</b></span>`).join("");
  for (const name of Object.keys(control)) {
    const field = element(name);
    if (field !== document.activeElement) field.value = asTyped(name, state[name]);
    if (field !== document.activeElement || !wrong(name, parsed(field.value))) field.removeAttribute("aria-invalid");
    element(`${name}-slider`).value = place(name, state[name]);
    element(`${name}-slider`).setAttribute("aria-valuetext", asTyped(name, state[name]));
  }
  element("shaping").value = state.shaping;
  for (const button of document.querySelectorAll("[data-preset]")) {
    const { values } = specification.presets.find((preset) => preset.title === button.dataset.preset);
    button.setAttribute("aria-pressed", String(Object.entries(values).every(([name, value]) => state[name] === value)));
  }
}

// State: in the address, so that a link keeps it.

function address() {
  const query = new URLSearchParams();
  for (const name of Object.keys(control)) query.set(name, String(state[name]));
  query.set("shaping", state.shaping);
  query.set("run", axis.run);
  query.set("update", axis.update);
  return `#${query}`;
}

function change(values) {
  state = { ...state, ...values };
  try {
    history.replaceState(null, "", address());
  } catch { /* a frame without an address of its own */ }
  show();
}

function fromAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  const values = {};
  let problem = "";
  for (const [name, text] of query) {
    if (name in control) {
      const value = parsed(text);
      problem ||= wrong(name, value);
      if (!wrong(name, value)) values[name] = value;
    } else if (name === "shaping" && text in MODEL) values.shaping = text;
    else if (name in axis && specification.axes[name].includes(text)) axis[name] = text;
  }
  for (const name of Object.keys(axis)) element(`axis-${name}`).value = axis[name];
  if (problem) say("", `The link has a wrong ${problem}`);
  return values;
}

function say(status, problem = "") {
  element("status").textContent = status;
  element("problem").textContent = problem;
}

// A pilot's document.

function fromPilot(document) {
  if (document?.schema !== "estheory/pilot/1") throw new Error("no document of estheory pilot --json");
  const { sigma, alpha, population, shaping, antithetic } = document.config ?? {};
  const rows = Object.fromEntries((document.estimates ?? []).filter((row) => row.sigma === sigma).map((row) => [row.quantity, row]));
  const spread = rows.member_reward_std?.value;
  const odd = rows.odd_variance?.value;
  const gap = rows.smoothing_gap?.value;
  if (!(shaping in MODEL)) throw new Error(`its shaping ${shaping} is not on this page`);
  if (!(spread > 0)) throw new Error("its members' rewards do not differ");
  if (!(odd > 0 && odd < spread * spread)) throw new Error(`it resolves no signal (odd variance ${short(odd ?? NaN, 2)})`);
  const values = { sigma, alpha, population, shaping, reliability: odd / (spread * spread), member_std: spread };
  const remarks = [];
  if (gap > 0) values.gap = gap;
  else remarks.push(gap === undefined ? "it has no centre, so gap and cost are still assumed" : "its gap is not above 0, so gap and cost are still assumed");
  if (rows.odd_variance.bound) remarks.push("it has no mirrored members, so reliability and gain are upper bounds");
  if (antithetic) remarks.push("its mirrored members are taken as independent here");
  for (const name of Object.keys(values)) {
    const problem = name in control ? wrong(name, values[name]) : "";
    if (problem) throw new Error(problem);
  }
  return { values, remarks };
}

function use(document, name) {
  try {
    const { values, remarks } = fromPilot(document);
    change(values);
    const last = "gap" in values ? ", S and gap" : " and S";
    say([`σ, α, N, ρ²${last} are those of ${name}`, ...remarks].join("; ") + ".");
  } catch (error) {
    say("", `error: cannot use ${name}: ${error.message}`);
  }
}

async function read(file) {
  const text = await file.text();
  try {
    use(JSON.parse(text), file.name);
  } catch {
    say("", `error: cannot use ${file.name}: it is not JSON`);
  }
}

// What people do.

for (const name of Object.keys(control)) {
  const field = element(name);
  field.addEventListener("input", () => {
    const value = parsed(field.value);
    const problem = wrong(name, value);
    field.toggleAttribute("aria-invalid", false);
    if (problem) field.setAttribute("aria-invalid", "true");
    say("", problem);
    if (!problem) change(moved(name, value));
  });
  field.addEventListener("change", () => {
    say("");
    field.value = asTyped(name, state[name]);
    field.removeAttribute("aria-invalid");
  });
  element(`${name}-slider`).addEventListener("input", (event) => {
    say("");
    change(moved(name, valueAt(name, Number(event.target.value))));
  });
}
element("shaping").addEventListener("change", (event) => change({ shaping: event.target.value }));
element("carry").addEventListener("change", show);
for (const name of Object.keys(axis)) {
  element(`axis-${name}`).addEventListener("change", (event) => {
    axis[name] = event.target.value;
    change({});
  });
}
for (const button of document.querySelectorAll("[data-preset]")) {
  button.addEventListener("click", () => {
    const preset = specification.presets.find((each) => each.title === button.dataset.preset);
    change(preset.values);
    say(`${preset.source}: ${preset.note} Its reward is not published: ρ², S, gap and tr F stay as they are.`);
  });
}
element("choose").addEventListener("click", () => element("file").click());
element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) read(file);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
  });
}
element("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is on the clipboard.");
  } catch {
    say("The address of this page is the link.");
  }
});
window.addEventListener("hashchange", () => change(fromAddress()));

element("page").hidden = false;
element("strip").hidden = false;
state = { ...specification.reward, ...specification.presets[0].values };
if (specification.pilot) use(specification.pilot, "the pilot");
change(fromAddress());
