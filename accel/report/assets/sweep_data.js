// The rows of a sweep as #sweep-data holds them: filters, the best of every cell, knees, fronts, texts of numbers.
"use strict";
const accelSweep = {};
(() => {
  const S = accelSweep;

  // Inflates what is packed; plain JSON is read as it is.
  S.load = async () => {
    const holder = document.getElementById("sweep-data");
    let text = holder.textContent;
    if (holder.dataset.form === "deflate") {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
    }
    S.take(JSON.parse(text));
  };

  S.take = (data) => {
    S.data = data;
    S.count = data.index.length;
    S.axes = new Map(data.axes.map((axis) => [axis.name, { ...axis, kind: "axis", rank: ranks(axis) }]));
    S.measures = new Map(data.measures.map((measure) => [measure.name, { ...measure, kind: "measure" }]));
    S.objective = data.objective === null ? null : { ...S.measures.get(data.objective.name), more: data.objective.more };
    S.varied = data.axes.filter((axis) => axis.values.length > 1).map((axis) => axis.name);
    S.filter = { statuses: new Set([data.statuses.includes("ok") ? "ok" : data.statuses.includes("screened") ? "screened" : ""].filter(Boolean)), axes: new Map() };
    if (!S.filter.statuses.size) data.statuses.forEach((name) => S.filter.statuses.add(name));
    S.refilter();
  };

  const ranks = (axis) => { const made = Array(axis.values.length); axis.order.forEach((code, at) => { made[code] = at; }); return made; };

  // ---- values and their texts
  S.number = (value, digits = 3) => {
    if (value === 0) return "0";
    const rounded = Number(value.toPrecision(digits));
    return Math.abs(rounded) >= 10 ** (digits - 1) ? Math.round(rounded).toLocaleString("en-US") : rounded.toPrecision(digits);
  };
  const scaled = (value, unit, scales) => {
    const [scale, prefix] = scales.find(([size]) => Math.abs(value) >= size * 0.9995) ?? scales[scales.length - 1];
    return `${S.number(value / scale)} ${prefix}${unit}`;
  };
  const SMALL = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];
  const UNITS = {
    s: (v) => scaled(v, "s", SMALL), USD: (v) => scaled(v, "USD", SMALL), J: (v) => scaled(v, "J", [[1e3, "k"], ...SMALL]),
    share: (v) => `${(100 * v).toFixed(1)} %`,
    B: (v) => scaled(v, "B", [[2 ** 40, "Ti"], [2 ** 30, "Gi"], [2 ** 20, "Mi"], [2 ** 10, "Ki"], [1, ""]]),
    "B/s": (v) => scaled(v, "B/s", [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1, ""]]),
    TFLOPS: (v) => `${S.number(v)} TFLOPS`, mm2: (v) => `${S.number(v)} mm²`,
  };
  // What a figure may show: a measure by name, or a numeric axis.
  S.quantity = (name) => S.measures.get(name) ?? S.axes.get(name) ?? null;
  S.value = (name, row) => {
    const measure = S.measures.get(name);
    if (measure) return Array.isArray(measure.values) ? measure.values[row] : measure.values.all;
    const axis = S.axes.get(name), code = axis.codes[row];
    return code < 0 || typeof axis.values[code] !== "number" ? null : axis.values[code];
  };
  S.text = (name, value) => {
    if (value === null || value === undefined) return "-";
    const what = S.quantity(name);
    if (what.kind === "axis" && what.values.includes(value)) return what.texts[what.values.indexOf(value)];
    if (UNITS[what.unit]) return UNITS[what.unit](value);
    return `${Number.isInteger(value) ? value.toLocaleString("en-US") : S.number(value, 4)} ${what.unit}`.trim();
  };
  S.label = (name) => { const what = S.quantity(name); return what.kind === "axis" ? what.name : what.label; };
  S.axisText = (name, row) => { const axis = S.axes.get(name); return axis.codes[row] < 0 ? "-" : axis.texts[axis.codes[row]]; };
  S.status = (row) => S.data.statuses[S.data.status[row]];
  S.reason = (row) => S.data.reasons[S.data.reason[row]];

  // ---- filters: a status set, and for every axis a set of codes or a range of numbers
  S.refilter = () => {
    const { statuses, axes } = S.filter;
    const byStatus = S.data.statuses.map((name) => statuses.has(name));
    S.inAxes = new Uint8Array(S.count).fill(1);
    axes.forEach((rule, name) => {
      const axis = S.axes.get(name);
      const allowed = axis.values.map((value, code) => (rule.codes ? rule.codes.has(code) : value >= rule.low && value <= rule.high));
      for (let row = 0; row < S.count; row++) if (!allowed[axis.codes[row]]) S.inAxes[row] = 0;
    });
    S.passes = S.inAxes.map((inside, row) => (inside && byStatus[S.data.status[row]] ? 1 : 0));
    S.passing = S.passes.reduce((sum, one) => sum + one, 0);
  };

  // ---- the best of every cell, as sweep_views.py has it
  const picker = (measure) => (measure.more === null && S.objective ? S.objective : measure);
  S.better = (name) => picker(S.quantity(name)).more === true;
  const holds = (fixed, shown) => Object.entries(fixed).filter(([name, code]) => code >= 0 && !shown.includes(name)).map(([name, code]) => [S.axes.get(name).codes, code]);

  // Row with the best `value` for every pair of codes of the axes; -1 for none. by: another measure that decides.
  S.best = (fixed, axes, value, by = value) => {
    const held = holds(fixed, axes), sizes = axes.map((name) => S.axes.get(name).values.length);
    const made = new Int32Array(sizes.reduce((a, b) => a * b, 1)).fill(-1);
    const codes = axes.map((name) => S.axes.get(name).codes);
    const judge = picker(S.quantity(by)), sign = judge.more ? -1 : 1;
    for (let row = 0; row < S.count; row++) {
      if (!S.passes[row] || S.value(value, row) === null) continue;
      const worth = S.value(judge.name, row);
      if (worth === null || held.some(([column, code]) => column[row] !== code)) continue;
      let place = 0;
      for (let at = 0; at < axes.length; at++) place = codes[at][row] < 0 ? -1 : place < 0 ? -1 : place * sizes[at] + codes[at][row];
      if (place < 0) continue;
      const old = made[place];
      if (old < 0 || sign * worth < sign * S.value(judge.name, old)) made[place] = row;
    }
    return made;
  };

  // What became of the points of every pair of codes that have no figures: [status, row, how many] or null.
  S.fates = (fixed, axes) => {
    const held = holds(fixed, axes), [down, across] = axes.map((name) => S.axes.get(name));
    const made = Array(down.values.length * across.values.length).fill(null);
    for (let row = 0; row < S.count; row++) {
      if (!S.inAxes[row] || ["ok", "screened"].includes(S.status(row)) || held.some(([column, code]) => column[row] !== code)) continue;
      const place = down.codes[row] * across.values.length + across.codes[row];
      if (made[place] === null) made[place] = { status: S.status(row), row, count: 1 };
      else made[place].count += 1;
    }
    return made;
  };

  S.rowsWith = (fixed, names) => {
    const held = holds(fixed, []), rows = [];
    for (let row = 0; row < S.count; row++) {
      if (S.passes[row] && names.every((name) => S.value(name, row) !== null) && !held.some(([column, code]) => column[row] !== code)) rows.push(row);
    }
    return rows;
  };

  // The smallest x from which on y stays within a share of its best: accel.sweep.fronts.knee. Index, or -1 for none.
  S.knee = (xs, ys, more, within = S.data.knee.within) => {
    const worse = ys.map((y) => (more ? -y : y));
    const order = xs.map((_, at) => at).filter((at) => !Number.isNaN(xs[at]) && !Number.isNaN(worse[at]));
    order.sort((a, b) => xs[a] - xs[b] || worse[a] - worse[b] || a - b);
    const line = order.filter((at, place) => place === 0 || xs[at] !== xs[order[place - 1]]);
    if (line.length < 3) return -1;
    const best = line.reduce((least, at) => Math.min(least, worse[at]), Infinity);
    let start = 0;
    line.forEach((at, place) => { if (!(Math.abs(worse[at] - best) <= within * Math.abs(best))) start = place + 1; });
    return start === 0 || start >= line.length - 1 ? -1 : line[start];
  };

  // The points that no other beats, x upward; of equal ones all: accel.sweep.fronts.pareto. Places among those given.
  S.pareto = (xs, ys, xMore, yMore) => {
    const x = xs.map((v) => (xMore ? -v : v)), y = ys.map((v) => (yMore ? -v : v));
    const order = xs.map((_, at) => at).sort((a, b) => x[a] - x[b] || y[a] - y[b] || a - b);
    const kept = [];
    let least = Infinity, first = -1, onFront = false; // first: the best of the points with this x
    for (const at of order) {
      if (first < 0 || x[at] !== x[first]) {
        first = at;
        onFront = y[at] < least;
        least = Math.min(least, y[at]);
      }
      if (onFront && y[at] === y[first]) kept.push(at);
    }
    return kept.sort((a, b) => xs[a] - xs[b] || ys[a] - ys[b] || a - b);
  };

  // ---- the chip of a point
  S.chip = (row) => {
    const { bases, chips, of } = S.data.chips;
    if (of[row] < 0) return null;
    const [base, changed] = chips[of[row]], lines = bases[base].split("\n");
    changed.forEach(([at, line]) => { lines[at] = line; });
    const plain = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
    const design = S.data.axes.map((axis) => `#   ${plain(axis.name)} = ${plain(S.axisText(axis.name, row))}`);
    return [`# Chip of point ${S.data.index[row]} of the sweep: ${plain(S.data.title)}`, ...design, ...lines].join("\n");
  };

  // ---- tables of plain data, for files
  S.csv = (records) => {
    const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
    const cell = (value) => (value === null || value === undefined ? "" : /[",\r\n]/.test(String(value)) ? `"${String(value).replace(/"/g, '""')}"` : String(value));
    return `${[names, ...records.map((record) => names.map((name) => record[name]))].map((line) => line.map(cell).join(",")).join("\n")}\n`;
  };
  S.design = (row) => Object.fromEntries(S.data.axes.map((axis) => [axis.name, axis.codes[row] < 0 ? null : axis.values[axis.codes[row]]]));
  S.record = (row) => ({
    index: S.data.index[row], status: S.status(row), reason: S.reason(row), fidelity: S.data.fidelities[S.data.fidelity[row]], ...S.design(row),
    ...Object.fromEntries([...S.measures.keys()].map((name) => [name, S.value(name, row)])),
    ...Object.fromEntries(S.data.words.map((word) => [word.name, word.texts[word.codes[row]]])),
  });
})();
