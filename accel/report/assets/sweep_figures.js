// The figures of a sweep: each returns what Plotly draws, the data behind it, and one sentence on it.
"use strict";
(() => {
  const S = accelSweep;
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8e6bbf"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const SYMBOLS = ["circle", "square", "triangle-up", "x", "star", "pentagon", "triangle-down"];
  const FATES = { illegal: "x-thin-open", timeout: "hourglass-open", memory: "square-open", failed: "asterisk-open" };
  const FATE_TEXT = { illegal: "illegal", timeout: "timed out", memory: "out of memory", failed: "failed" };
  const DOTS = 4000; // beaten points that are drawn at most
  const LARGE = 40; // ratio of most to least above which a scale is logarithmic

  // Plotly reads a small HTML in its texts: a name is never markup.
  const esc = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const cut = (text, most) => esc(text.length > most ? `${text.slice(0, most - 1)}…` : text);
  S.esc = esc;
  S.cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const bright = (colour) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140;
  };

  function layout(extra) {
    const axis = { gridcolor: token("--line"), linecolor: token("--soft"), zeroline: false, automargin: true, ticks: "outside", tickcolor: token("--line") };
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, separators: ".,", hovermode: "closest", dragmode: "zoom",
      font: { color: token("--ink"), size: 12, family: "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" },
      hoverlabel: { bgcolor: token("--pane"), bordercolor: token("--soft"), font: { color: token("--ink") }, align: "left", namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: token("--soft"), activecolor: token("--ink") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)" },
      margin: { l: 10, r: 18, t: extra.showlegend ? 48 : 30, b: 14 }, ...extra,
    };
    for (const name of ["xaxis", "yaxis"]) made[name] = { ...axis, ...made[name] };
    return made;
  }

  // What a hover says: the design, then how it went.
  const OUTCOMES = ["seconds", "utilization", "energy_j", "chip_sram_bytes", "memory_bytes_per_s"];
  function said(row, more = []) {
    const lines = [`<b>point ${S.data.index[row]}</b>${S.status(row) === "ok" ? "" : ` ${esc(S.status(row))}`}`];
    S.data.axes.forEach((axis) => lines.push(`${cut(axis.name, 40)} = ${cut(S.axisText(axis.name, row), 40)}`));
    const named = [...new Set([...more, S.objective?.name, ...OUTCOMES])].filter((name) => S.measures.has(name) && S.value(name, row) !== null);
    named.forEach((name) => lines.push(`${esc(S.label(name))}: <b>${esc(S.text(name, S.value(name, row)))}</b>`));
    if (S.reason(row)) lines.push(cut(S.reason(row), 90));
    return lines.join("<br>");
  }

  // Ticks of places 0..n-1 named by an axis' values: every k-th where there is no room, long words slanted.
  function places(name, room, vertical) {
    const axis = S.axes.get(name), texts = axis.order.map((code) => axis.texts[code]);
    const longest = Math.min(24, Math.max(...texts.map((text) => text.length)));
    const slant = !vertical && !axis.numeric && longest * 7 > room / texts.length;
    const need = vertical ? 18 : slant ? 20 : longest * 7.2 + 10;
    const every = Math.max(1, Math.ceil((need * texts.length) / room));
    const at = texts.map((_, place) => place).filter((place) => place % every === 0);
    return { tickvals: at, ticktext: at.map((place) => cut(texts[place], 24)), ...(slant ? { tickangle: -35 } : { tickangle: 0 }), title: { text: cut(name, 60) },
      range: vertical ? undefined : [-0.5, texts.length - 0.5] };
  }

  // Ticks of numbers with units; logarithmic where they span much. values: those shown.
  function scale(name, values, choice = "auto") {
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    const what = S.quantity(name);
    const log = low > 0 && high > low && (choice === "log" || (choice === "auto" && (what.kind === "axis" ? what.log : high / low > LARGE)));
    let ticks = low === high ? [low] : null;
    if (!(high >= low)) return { log: false, axis: {}, ticks: [] };
    if (!ticks && what.kind === "axis") {
      const own = what.values.filter((value) => value >= low && value <= high).sort((a, b) => a - b);
      if (own.length <= 12) ticks = own;
    }
    if (!ticks && log && what.unit === "B" && high > 4096) {
      ticks = [];
      const every = Math.ceil(Math.log2(high / low) / 8) || 1;
      for (let e = Math.ceil(Math.log2(low)); e <= Math.floor(Math.log2(high)); e++) if (e % every === 0) ticks.push(2 ** e);
      if (ticks.length < 2) ticks = [low, high];
    } else if (!ticks && log) {
      const steps = Math.log10(high / low) > 3.5 ? [1] : Math.log10(high / low) > 1.6 ? [1, 3] : [1, 2, 5];
      ticks = [];
      for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e++) for (const s of steps) ticks.push(Number(`${s}e${e}`));
      const kept = ticks.filter((v) => v >= low / 1.5 && v <= high * 1.5);
      ticks = kept.length > 1 ? kept : [low, high];
    } else if (!ticks) {
      const binary = what.unit === "B" && high > 4096 ? 2 ** (10 * Math.floor(Math.log2(high) / 10 + 1e-9)) : 1;
      const span = (high - low || Math.abs(high) || 1) / 6 / binary, power = 10 ** Math.floor(Math.log10(span));
      const step = binary * power * [1, 2, 5, 10].find((s) => s * power >= span * 0.999);
      ticks = [];
      for (let at = Math.floor(low / step) - 1; at <= Math.ceil(high / step) + 1; at++) ticks.push(Number((at * step).toPrecision(12)));
      if (ticks.length > 40) ticks = [low, high];
    }
    const texts = ticks.map((value) => tickText(name, value));
    return { log, ticks, texts, low, high, axis: { type: log ? "log" : "linear", tickvals: ticks, ticktext: texts.map(esc) } };
  }
  const UNIT = { s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]] };
  function tickText(name, value) {
    const what = S.quantity(name);
    if (what.kind === "axis" && (!what.unit || what.values.includes(value))) return S.text(name, value);
    if (value === 0) return "0";
    if (what.unit === "share") return `${Number((100 * value).toPrecision(4))} %`;
    if (UNIT[what.unit]) {
      const [size, unit] = UNIT[what.unit].find(([least]) => Math.abs(value) >= least * 0.9995) ?? UNIT[what.unit].at(-1);
      return `${Number((value / size).toPrecision(4)).toLocaleString("en-US")} ${unit}`;
    }
    if (!what.unit) return Math.abs(value) >= 1e6 ? `${Number((value / 1e6).toPrecision(4)).toLocaleString("en-US")} M` : `${Number(value.toPrecision(6)).toLocaleString("en-US")}`;
    return S.text(name, value).replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\. /, " ");
  }

  const nothing = (why) => ({ data: null, records: [], alt: why });
  const others = (fixed, shown) => {
    const told = S.varied.filter((name) => !shown.includes(name));
    const held = told.filter((name) => fixed[name] >= 0).map((name) => `${name} = ${S.axes.get(name).texts[fixed[name]]}`);
    const open = told.filter((name) => !(fixed[name] >= 0));
    return `${held.length ? ` at ${held.join(", ")}` : ""}${open.length ? `, best over ${open.join(", ")}` : ""}`;
  };
  const way = (name) => (S.better(name) ? "most" : "least");
  const tell = (row) => S.varied.map((name) => `${name} = ${S.axisText(name, row)}`).join(", ");

  S.draw = {
    heat(state, width) {
      const { x, y, value, by, fixed } = state;
      if (!x || !y || x === y) return nothing(S.varied.length < 2 ? "A heatmap needs two axes with more than one value." : "Choose two different axes.");
      const down = S.axes.get(y), across = S.axes.get(x), nx = across.order.length, ny = down.order.length;
      const found = value ? S.best(fixed, [y, x], value, by || value) : new Int32Array(nx * ny).fill(-1), fate = S.fates(fixed, [y, x]);
      const rows = down.order.map((dc) => across.order.map((ac) => found[dc * nx + ac]));
      const lost = down.order.map((dc) => across.order.map((ac) => (found[dc * nx + ac] < 0 ? fate[dc * nx + ac] : null)));
      const worth = (row) => (row < 0 ? null : S.value(value, row));
      const values = rows.flat().filter((row) => row >= 0).map(worth);
      const records = rows.flatMap((line, i) => line.map((row, j) => ({
        [x]: across.values[across.order[j]], [y]: down.values[down.order[i]], ...(value ? { [value]: worth(row) } : {}), index: row < 0 ? null : S.data.index[row],
        status: row < 0 ? lost[i][j]?.status ?? "" : S.status(row), ...(row < 0 ? {} : S.design(row)),
      })));
      const top = value && values.length ? S.better(value) : false;
      const best = values.length ? rows.flat().filter((row) => row >= 0).reduce((a, b) => ((top ? worth(b) > worth(a) : worth(b) < worth(a)) ? b : a)) : -1;
      const marks = {}, shapes = [];
      lost.forEach((line, i) => line.forEach((one, j) => { if (one) (marks[one.status] ??= []).push({ i, j, one }); }));
      const data = [];
      if (values.length) {
        const shown = scale(value, values), f = (v) => (v === null ? null : shown.log ? Math.log10(v) : v);
        let low = f(shown.low), high = f(shown.high);
        if (!(high > low)) { low -= Math.abs(low) * 0.05 || 1; high += Math.abs(high) * 0.05 || 1; }
        const inside = shown.ticks.map((v, at) => [f(v), shown.texts[at]]).filter(([v]) => v >= low - (high - low) * 1e-9 && v <= high + (high - low) * 1e-9);
        const room = (width - 210) / nx, longest = Math.max(...values.map((v) => S.text(value, v).length));
        data.push({
          type: "heatmap", z: rows.map((line) => line.map((row) => f(worth(row)))), zmin: low, zmax: high, colorscale: "Cividis", reversescale: !top, xgap: 1, ygap: 1, hoverongaps: false,
          text: rows.map((line) => line.map((row) => (row < 0 ? "" : esc(S.text(value, worth(row)))))), texttemplate: ny <= 24 && room > longest * 6.6 + 4 ? "%{text}" : undefined, textfont: { size: 11 },
          customdata: rows.map((line) => line.map((row) => (row < 0 ? "" : said(row, [value])))), hovertemplate: "%{customdata}<extra></extra>",
          colorbar: { tickvals: inside.map(([v]) => v), ticktext: inside.map(([, text]) => esc(text)), thickness: 12, outlinewidth: 0, title: { text: cut(S.label(value), 34), side: "right" } },
        });
        const around = (row, colour, dash) => rows.forEach((line, i) => line.forEach((one, j) => {
          if (one >= 0 && one === row) shapes.push({ type: "rect", x0: j - 0.47, x1: j + 0.47, y0: i - 0.46, y1: i + 0.46, line: { color: colour, width: 3.5, dash } });
        }));
        around(best, "#d55e00", "solid");
        around(S.chosen, token("--ink"), "dot");
      }
      Object.entries(marks).forEach(([status, spots]) => data.push({
        type: "scatter", mode: "markers", name: FATE_TEXT[status] ?? cut(status, 20), showlegend: true, x: spots.map(({ j }) => j), y: spots.map(({ i }) => i),
        marker: { symbol: FATES[status] ?? "diamond-open", size: 9, color: token("--soft"), line: { width: 1.6, color: token("--soft") } },
        customdata: spots.map(({ one }) => one.row), text: spots.map(({ one }) => `${one.count > 1 ? `${one.count} points without figures; one of them:<br>` : ""}${said(one.row)}`),
        hovertemplate: "%{text}<extra></extra>",
      }));
      const clicked = (point) => (point.data.type === "heatmap" ? rows[point.pointNumber[0]][point.pointNumber[1]] : point.customdata ?? -1);
      const wide = Math.max(140, width - 200);
      return {
        data, records, clicked, alt: value && values.length
          ? `${sentence(S.label(value))} of the best point of every cell${others(fixed, [x, y])}. ${sentence(way(value))}: ${S.text(value, worth(best))} at ${tell(best)}, outlined. Empty cells have no point.`
          : `No point that passes the filters has figures${others(fixed, [x, y])}; marks say what became of them.`,
        layout: layout({ height: Math.round(Math.min(640, Math.max(230, ny * 38 + 120))), showlegend: true, shapes,
          xaxis: { ...places(x, wide), showgrid: false, showline: false, range: [-0.5, nx - 0.5] }, yaxis: { ...places(y, Math.max(120, Math.min(520, ny * 38)), true), showgrid: false, showline: false, range: [-0.5, ny - 0.5] } }),
      };
    },

    lines(state, width) {
      const { x, series, value, by, fixed } = state;
      if (!x || !value) return nothing(S.varied.length ? "No point that passes the filters has figures." : "A line needs an axis with more than one value.");
      const axis = S.axes.get(x), names = series && series !== x ? [series, x] : [x];
      const found = S.best(fixed, names, value, by || value), nx = axis.values.length;
      const of = names.length > 1 ? S.axes.get(series) : null;
      const lines = (of ? of.order : [null]).map((code) => ({ code, rows: axis.order.map((ac) => found[(code ?? 0) * nx + ac]).filter((row) => row >= 0) })).filter((line) => line.rows.length);
      if (!lines.length) return nothing(`No point that passes the filters has ${S.label(value)}${others(fixed, names)}.`);
      const place = (row) => (axis.numeric ? axis.values[axis.codes[row]] : axis.rank[axis.codes[row]]);
      const every = lines.flatMap((line) => line.rows), up = scale(value, every.map((row) => S.value(value, row)), state.scale);
      const records = [], told = [], data = [], notes = [];
      lines.forEach((line, index) => {
        const xs = line.rows.map(place), ys = line.rows.map((row) => S.value(value, row));
        const bend = axis.numeric ? S.knee(xs, ys, S.better(value)) : -1;
        const colour = LINES[index % LINES.length], name = of ? `${series} = ${of.texts[line.code]}` : S.label(value);
        line.rows.forEach((row, at) => records.push({ ...(of ? { [series]: of.values[line.code] } : {}), [x]: axis.values[axis.codes[row]], [value]: ys[at], knee: at === bend, index: S.data.index[row], ...S.design(row) }));
        data.push({ type: "scatter", mode: xs.length > 80 ? "lines" : "lines+markers", name: cut(name, 36), x: xs, y: ys, showlegend: lines.length > 1,
          line: { color: colour, width: 2, dash: DASHES[Math.floor(index / LINES.length) % DASHES.length] }, marker: { color: colour, size: 7, symbol: SYMBOLS[index % SYMBOLS.length] },
          customdata: line.rows, text: line.rows.map((row) => said(row, [value])), hovertemplate: "%{text}<extra></extra>" });
        if (bend >= 0) {
          data.push({ type: "scatter", mode: "markers", name: "knee", legendgroup: "knee", showlegend: notes.length === 0, x: [xs[bend]], y: [ys[bend]], hoverinfo: "skip",
            marker: { symbol: "diamond-open", size: 17, color: token("--ink"), line: { width: 2.5, color: token("--ink") } } });
          notes.push({ x: up_(axis, xs[bend]), y: up.log ? Math.log10(ys[bend]) : ys[bend], text: esc(S.axisText(x, line.rows[bend])), bend });
        }
        told.push(`${of ? `${of.texts[line.code]}: ` : ""}${bend < 0 ? "none" : `${S.axisText(x, line.rows[bend])} (${S.text(value, ys[bend])})`}`);
      });
      const chosen = every.filter((row) => row === S.chosen).slice(0, 1);
      if (chosen.length) data.push({ type: "scatter", mode: "markers", name: "selected", showlegend: true, x: chosen.map(place), y: chosen.map((row) => S.value(value, row)), hoverinfo: "skip",
        marker: { symbol: "circle-open", size: 22, color: token("--ink"), line: { width: 2, color: token("--ink") } } });
      const across = axis.numeric ? numericTicks(x, every.map(place), width) : { ...places(x, width - 90), range: [-0.5, axis.order.length - 0.5] };
      return {
        data, records, clicked: (point) => point.customdata ?? -1, knees: told,
        alt: `${sentence(S.label(value))} along ${x}${of ? `, a line for every ${series}` : ""}${others(fixed, names)}. ${axis.numeric ? `Knee${lines.length > 1 ? "s" : ""}: ${told.join("; ")}.` : "An axis of names has no knee."}`,
        layout: layout({ height: 380, showlegend: data.some((trace) => trace.showlegend), xaxis: { ...across, title: { text: cut(x, 60) } }, yaxis: { ...up.axis, title: { text: cut(S.label(value), 40) }, ...padded(up) },
          annotations: notes.filter(outermost).slice(0, 8).map(({ bend, ...note }) => ({ ...note, text: `knee ${note.text}`, showarrow: false, yshift: S.better(value) ? -19 : 19, font: { size: 11, color: token("--ink") }, bgcolor: `${token("--paper")}cc` })) }),
      };
      // Of knees at one x only the outermost has its label, where no mark covers it.
      function outermost(note) { return notes.every((other) => other.x !== note.x || (S.better(value) ? other.y >= note.y : other.y <= note.y)); }
      function up_(own, at) { return own.log ? Math.log10(at) : at; }
    },

    ledger(state, width) {
      const { x, by, fixed } = state, causes = S.data.causes;
      if (!causes.length || !x || !by) return nothing(causes.length ? "No point that passes the filters has figures." : "No point has a loss ledger: bounds alone have none.");
      const axis = S.axes.get(x);
      const found = S.best(fixed, [x], by, by), rows = axis.order.map((code) => found[code]).filter((row) => row >= 0 && causes.some((cause) => S.value(cause.column, row) !== null));
      if (!rows.length) return nothing(`No point that passes the filters has a loss ledger${others(fixed, [x])}.`);
      const absolute = state.unit === "seconds" && S.measures.has("seconds");
      const part = (cause, row) => (S.value(cause.column, row) ?? 0) * (absolute ? S.value("seconds", row) ?? 0 : 1);
      const seen = causes.filter((cause) => rows.some((row) => part(cause, row) > 0));
      const records = rows.flatMap((row) => causes.map((cause) => ({ [x]: axis.values[axis.codes[row]], cause: cause.name, share: S.value(cause.column, row), ...(S.measures.has("seconds") ? { seconds: S.value("seconds", row) } : {}), index: S.data.index[row] })));
      const at = rows.map((row) => axis.rank[axis.codes[row]]);
      const totals = rows.map((row) => seen.reduce((sum, cause) => sum + part(cause, row), 0)), up = absolute ? scale("seconds", [0, ...totals], "linear") : null;
      const data = seen.map((cause) => ({
        type: "bar", name: esc(cause.label), x: at, y: rows.map((row) => part(cause, row) * (absolute ? 1 : 100)), showlegend: false, customdata: rows,
        marker: { color: cause.colour, line: { color: token("--paper"), width: 0.6 }, pattern: { shape: cause.hatch, fgcolor: bright(cause.colour) ? "#444444" : "#dddddd", fillmode: "overlay", size: 7, solidity: 0.12 } },
        text: rows.map((row) => `<b>${esc(cause.label)} ${(100 * (S.value(cause.column, row) ?? 0)).toFixed(1)} %</b><br>${said(row)}`), textposition: "none", hovertemplate: "%{text}<extra></extra>",
      }));
      const most = causes.filter((cause) => cause.name !== "useful").map((cause) => [rows.reduce((sum, row) => sum + (S.value(cause.column, row) ?? 0), 0) / rows.length, cause.label]).sort((a, b) => b[0] - a[0])[0];
      return {
        data, records, clicked: (point) => point.customdata ?? -1, legend: seen,
        alt: `Where the node-cycles go along ${x}, at the point with the ${way(by)} ${S.label(by)}${others(fixed, [x])}.${most && most[0] > 0 ? ` The largest loss on average is ${most[1]}, ${(100 * most[0]).toFixed(1)} %.` : ""}`,
        layout: layout({ height: 360, barmode: "stack", bargap: 0.18, xaxis: { ...places(x, width - 80), showgrid: false, range: [-0.5, axis.order.length - 0.5] },
          yaxis: absolute ? { ...up.axis, title: { text: "time" } } : { range: [0, 100], tickvals: [0, 20, 40, 60, 80, 100], ticktext: ["0", "20 %", "40 %", "60 %", "80 %", "100 %"], title: { text: "share of node-cycles" } } }),
      };
    },

    front(state, width) {
      const { x, y, colour, fixed, xMore, yMore } = state;
      if (!x || !y || x === y) return nothing("A front needs two different quantities that points differ in.");
      const rows = S.rowsWith(fixed, [x, y]);
      if (!rows.length) return nothing(`No point that passes the filters has ${S.label(x)} and ${S.label(y)}${others(fixed, []).replace(/, best over .*/, "")}.`);
      const xs = rows.map((row) => S.value(x, row)), ys = rows.map((row) => S.value(y, row));
      const kept = S.pareto(xs, ys, xMore, yMore), best = kept.map((at) => rows[at]), on = new Set(best);
      const across = scale(x, xs, state.xScale), up = scale(y, ys, state.yScale);
      const beaten = rows.filter((row) => !on.has(row)), step = Math.max(1, Math.ceil(beaten.length / DOTS)), drawn = beaten.filter((_, at) => at % step === 0);
      const value = (name) => (row) => S.value(name, row), data = [];
      const axis = colour ? S.axes.get(colour) : null;
      const groups = axis && axis.values.length <= 10 ? axis.order.map((code) => [`${colour} = ${axis.texts[code]}`, drawn.filter((row) => axis.codes[row] === code)]) : [["beaten points", drawn]];
      groups.forEach(([name, own], index) => { if (own.length) data.push({
        type: "scatter", mode: "markers", name: cut(name, 36), showlegend: true, x: own.map(value(x)), y: own.map(value(y)), customdata: own, text: own.map((row) => said(row, [x, y])), hovertemplate: "%{text}<extra></extra>",
        marker: { size: 6, opacity: 0.6, symbol: axis ? SYMBOLS[index % SYMBOLS.length] : "circle", color: axis ? (axis.values.length <= 10 ? LINES[index % LINES.length] : own.map((row) => axis.rank[axis.codes[row]])) : "#8a8f96",
          ...(axis && axis.values.length > 10 ? { colorscale: "Cividis", colorbar: { title: { text: cut(colour, 30), side: "right" }, thickness: 12, outlinewidth: 0, ...placesOf(axis) } } : {}) },
      }); });
      data.push({ type: "scatter", mode: "lines+markers", name: "front", showlegend: true, x: best.map(value(x)), y: best.map(value(y)), customdata: best, text: best.map((row) => said(row, [x, y])), hovertemplate: "%{text}<extra></extra>",
        line: { color: token("--ink"), width: 1.6, shape: xMore ? "vh" : "hv" }, marker: { size: 11, symbol: "diamond", line: { width: 1.2, color: token("--paper") },
          color: best.map((row) => (axis && axis.values.length <= 10 ? LINES[Math.max(0, axis.rank[axis.codes[row]]) % LINES.length] : token("--ink"))) } });
      if (rows.includes(S.chosen)) data.push({ type: "scatter", mode: "markers", name: "selected", showlegend: true, x: [S.value(x, S.chosen)], y: [S.value(y, S.chosen)], hoverinfo: "skip",
        marker: { symbol: "circle-open", size: 22, color: token("--ink"), line: { width: 2, color: token("--ink") } } });
      const names = (at, more) => `${more ? "most" : "least"} ${S.label(at)}`;
      return {
        data, clicked: (point) => point.customdata ?? -1, front: best,
        records: rows.map((row) => ({ index: S.data.index[row], on_front: on.has(row), [x]: S.value(x, row), [y]: S.value(y, row), ...S.design(row) })),
        alt: `${best.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} points are on the front of ${names(x, xMore)} and ${names(y, yMore)}: no other point is as good in one and better in the other.${step > 1 ? ` Of the beaten points ${drawn.length.toLocaleString("en-US")} are drawn; the file has all.` : ""}`,
        layout: layout({ height: 430, showlegend: true, xaxis: { ...thin(across, width), title: { text: cut(`${S.label(x)} (${xMore ? "more" : "less"} is better)`, 70) }, ...padded(across) }, yaxis: { ...up.axis, title: { text: cut(`${S.label(y)} (${yMore ? "more" : "less"} is better)`, 60) }, ...padded(up) } }),
      };
    },
  };

  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const placesOf = (axis) => {
    const every = Math.ceil(axis.order.length / 8), at = axis.order.map((_, place) => place).filter((place) => place % every === 0);
    return { tickvals: at, ticktext: at.map((place) => cut(axis.texts[axis.order[place]], 16)) };
  };

  // A scale with a little air on both sides, so that no mark lies on the frame.
  function padded({ log, low, high }) {
    const [a, b] = log ? [Math.log10(low), Math.log10(high)] : [low, high], air = (b - a) * 0.06 || (log ? 0.1 : Math.abs(b) * 0.1 || 1);
    return { range: [a - air, b + air], autorange: false };
  }

  // Ticks of a numeric scale, fewer where their texts would touch.
  function thin(made, width) {
    const texts = made.texts ?? [], longest = Math.max(1, ...texts.map((text) => text.length));
    const room = Math.max(2, Math.floor((width - 120) / (longest * 7.5 + 12))), every = Math.max(1, Math.ceil(texts.length / room));
    return { ...made.axis, tickvals: made.ticks.filter((_, at) => at % every === 0), ticktext: texts.filter((_, at) => at % every === 0).map(esc), tickangle: 0 };
  }
  function numericTicks(name, values, width) {
    const made = scale(name, values);
    // Ticks stand at the values themselves; those too close to the last one are left out.
    const [a, b] = made.log ? [Math.log10(made.low), Math.log10(made.high)] : [made.low, made.high];
    const pixel = (v) => (((made.log ? Math.log10(v) : v) - a) / (b - a || 1)) * (width - 110);
    const kept = [];
    made.ticks.forEach((v, at) => {
      const half = made.texts[at].length * 3.6 + 5;
      if (!kept.length || pixel(v) - half > kept[kept.length - 1].end) kept.push({ v, text: made.texts[at], end: pixel(v) + half });
    });
    return { ...made.axis, tickvals: kept.map(({ v }) => v), ticktext: kept.map(({ text }) => esc(text)), tickangle: 0, ...padded(made) };
  }
})();
