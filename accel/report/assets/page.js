// Draws the figures of a report from the numbers in #report-data; without Plotly the tables stand alone.
"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("report-data").textContent);
  const ROOT = document.documentElement;
  const DRAWS = typeof Plotly !== "undefined";
  const NARROW = 640; // px below which a legend stands under its figure
  const PRINT_WIDTH = 1000; // px: A4 landscape less its margins
  const CONFIG = {
    displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg" },
  };
  const MACHINES = ["#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#8e6bbf"];
  const DASHES = ["dash", "dot", "dashdot", "longdash", "longdashdot"];
  const SYMBOLS = { program: "diamond", bound: "diamond-open", measured: "circle", model: "circle-dot", uncalibrated: "circle-open" };

  // Plotly reads a small HTML in its texts: a name is never markup.
  const esc = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const cut = (text, most) => esc(text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const pct = (share) => `${(100 * share).toFixed(1)} %`;
  const whole = (n) => Math.round(n).toLocaleString("en-US");
  const token = (name) => getComputedStyle(ROOT).getPropertyValue(name).trim();
  const swatch = (cause) => DATA.causes[cause];
  const bright = (colour) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return 0.299 * r + 0.587 * g + 0.114 * b > 140;
  };
  const marker = (cause) => ({
    color: swatch(cause).colour,
    line: { color: swatch(cause).colour, width: 0.5 },
    pattern: { shape: swatch(cause).hatch, fgcolor: bright(swatch(cause).colour) ? "#444444" : "#dddddd", fillmode: "overlay", size: 7, solidity: 0.12 },
  });

  function layout(extra) {
    const axis = { gridcolor: token("--line"), linecolor: token("--soft"), zeroline: false, automargin: true, ticks: "outside", tickcolor: token("--line") };
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, separators: ".,",
      font: { color: token("--ink"), size: 12, family: "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" },
      hoverlabel: { bgcolor: token("--pane"), bordercolor: token("--soft"), font: { color: token("--ink") }, align: "left", namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: token("--soft"), activecolor: token("--ink") },
      margin: { l: 10, r: 16, t: 26, b: 10 }, ...extra,
    };
    for (const name of ["xaxis", "yaxis"]) made[name] = { ...axis, ...made[name] };
    return made;
  }

  // Ticks of a logarithmic axis: 1, 2, 5 over few decades, powers of ten over many.
  function decades(low, high, narrow) {
    const steps = narrow || Math.log10(high / low) > 3.5 ? [1] : [1, 2, 5], values = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) for (const s of steps) values.push(Number(`${s}e${e}`));
    const kept = values.filter((v) => v >= low && v <= high);
    return { tickvals: kept, ticktext: kept.map((v) => (v >= 1e6 || v < 1e-3 ? v.toExponential(0) : v.toLocaleString("en-US"))) };
  }

  const draw = {
    stack(figure) {
      const many = figure.labels.length > 1;
      const seen = figure.causes.map((cause, at) => ({ cause, at })).filter(({ at }) => figure.shares.some((row) => row[at] > 0));
      const data = seen.map(({ cause, at }) => ({
        type: "bar", orientation: "h", name: swatch(cause).label, y: figure.labels.map((_, row) => row), x: figure.shares.map((row) => 100 * row[at]),
        marker: { ...marker(cause), line: { color: token("--paper"), width: 1 } },
        text: figure.shares.map((row) => (row[at] >= 0.04 ? pct(row[at]) : "")), textposition: "inside", insidetextanchor: "middle", textangle: 0,
        constraintext: "none", textfont: { color: bright(swatch(cause).colour) ? "#111111" : "#ffffff", size: 11 },
        customdata: figure.shares.map((row, index) => [esc(figure.labels[index]), pct(row[at])]),
        hovertemplate: `<b>${swatch(cause).label}</b> %{customdata[1]}<br>%{customdata[0]}<extra></extra>`,
      }));
      const height = 60 + (many ? 30 : 44) * figure.labels.length;
      return { data, legend: seen.map(({ cause }) => cause), layout: layout({
        barmode: "stack", bargap: 0.25, height, margin: { l: 10, r: 24, t: 26, b: 30 },
        xaxis: { range: [0, 100], tickvals: [0, 20, 40, 60, 80, 100], ticktext: ["0", "20 %", "40 %", "60 %", "80 %", "100 %"], fixedrange: true },
        yaxis: { autorange: "reversed", tickvals: figure.labels.map((_, row) => row), ticktext: many ? figure.labels.map((x) => cut(x, 40)) : [""],
          ticks: "", fixedrange: true, showgrid: false },
      }) };
    },

    roofline(figure, _choice, across) {
      const narrow = across < NARROW;
      const finite = figure.points.map((point) => point.intensity).filter((x) => x !== null && x > 0);
      const ridges = figure.roofs.map((roof) => (roof.peak_tflops * 1e3) / roof.memory_gbps);
      const low = Math.min(...finite, ...ridges) / 4, high = Math.max(...finite, ...ridges) * 6;
      const rates = figure.points.map((point) => point.tflops).filter((y) => y > 0);
      const top = Math.max(...figure.roofs.map((roof) => roof.peak_tflops)) * 2;
      const floor = Math.min(...rates, ...figure.roofs.map((roof) => (roof.memory_gbps * low) / 1e3)) / 2;
      const owners = new Set(figure.points.filter((p) => p.mark === "program").map((p) => p.of));
      let others = 0;
      const colours = {};
      const data = figure.roofs.map((roof, index) => {
        const own = owners.has(roof.name);
        const colour = own ? token("--ink") : MACHINES[others % MACHINES.length];
        const dash = own ? "solid" : DASHES[others % DASHES.length];
        if (!own) others += 1;
        colours[roof.name] = colour;
        const xs = [low, ridges[index], high];
        return {
          type: "scatter", mode: "lines", name: cut(`roof of ${roof.name}`, 34), x: xs, y: xs.map((x) => Math.min(roof.peak_tflops, (x * roof.memory_gbps) / 1e3)),
          line: { color: colour, width: own ? 2.5 : 1.5, dash },
          text: xs.map(() => `<b>${esc(roof.name)}</b><br>peak ${roof.peak_tflops.toPrecision(4)} TFLOPS, memory ${whole(roof.memory_gbps)} GB/s<br>ridge at ${ridges[index].toPrecision(3)} flop/B`),
          hovertemplate: "%{text}<extra></extra>",
        };
      });
      const many = figure.points.filter((p) => p.mark === "program").length > 1;
      figure.points.forEach((point, index) => data.push({
        type: "scatter", mode: many ? "markers+text" : "markers", x: [point.intensity === null ? high / 1.5 : point.intensity], y: [point.tflops],
        name: cut(`${many ? `${index + 1} ` : ""}${point.name}${point.mark === "program" || point.mark === "bound" ? "" : ` (${point.mark})`}`, 34),
        text: many ? [`${index + 1}`] : undefined, textposition: index % 2 ? "top right" : "bottom left",
        marker: { symbol: SYMBOLS[point.mark], size: point.mark === "program" ? 13 : 11, color: colours[point.of], line: { width: 1.5, color: SYMBOLS[point.mark].endsWith("open") ? colours[point.of] : token("--paper") } },
        customdata: [[esc(point.name), esc(point.note), point.intensity === null ? "no memory traffic" : `${point.intensity.toPrecision(4)} flop/B`]],
        hovertemplate: "<b>%{customdata[0]}</b><br>%{y:.4g} TFLOPS at %{customdata[2]}<br>%{customdata[1]}<extra></extra>",
      }));
      return { data, layout: layout({
        height: (many ? 440 : 400) + (narrow ? 22 * data.length : 0), showlegend: true, hovermode: "closest",
        legend: { font: { size: 11 }, bgcolor: "rgba(0,0,0,0)", ...(narrow ? { orientation: "h", x: 0, y: -0.25, yanchor: "top" } : { x: 1.01, y: 1, yanchor: "top" }) }, margin: { l: 10, r: 10, t: 26, b: 10 },
        xaxis: { type: "log", range: [Math.log10(low), Math.log10(high)], ...decades(low, high, narrow), title: { text: "flop per byte of memory traffic" } },
        yaxis: { type: "log", range: [Math.log10(floor), Math.log10(top)], ...decades(floor, top), title: { text: "TFLOPS" } },
      }) };
    },

    nodes(figure, choice) {
      const grid = figure.grids[choice];
      const share = (value) => (100 * value) / figure.cycles;
      const z = [], hover = [];
      for (let row = 0; row < figure.rows; row++) {
        const part = grid.values.slice(row * figure.cols, (row + 1) * figure.cols);
        z.push(part.map(share));
        hover.push(part.map((value, col) => `node (${row}, ${col})<br>${whole(value)} cycles, ${pct(value / figure.cycles)}`));
      }
      const small = figure.rows <= 6 && figure.cols <= 6;
      return map(figure, [{ ...heat(z.flat()), type: "heatmap", z, text: z.map((row) => row.map((v) => `${v.toFixed(1)} %`)), texttemplate: small ? "%{text}" : undefined,
        customdata: hover, hovertemplate: "%{customdata}<extra></extra>", xgap: 1, ygap: 1 }], figure.cols, figure.rows, "node");
    },

    links(figure, choice) {
      const { rows, cols } = figure;
      const bytes = (row, col, way) => figure.values[4 * (row * cols + col) + way];
      const z = Array.from({ length: 2 * rows - 1 }, () => Array(2 * cols - 1).fill(null));
      const hover = z.map((row) => row.map(() => ""));
      const put = (y, x, names, moved, ends) => {
        const at = choice === 0 ? Math.max(...moved) : names.includes(CHOICES[choice]) ? moved[names.indexOf(CHOICES[choice])] : null;
        z[y][x] = at === null ? null : (100 * at) / figure.capacity;
        hover[y][x] = `link ${ends}<br>${names.map((name, i) => `${name}ward ${whole(moved[i])} B, ${pct(moved[i] / figure.capacity)}`).join("<br>")}`;
      };
      for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) {
        if (c + 1 < cols) put(2 * r, 2 * c + 1, ["east", "west"], [bytes(r, c, 0), bytes(r, c + 1, 1)], `(${r}, ${c}) - (${r}, ${c + 1})`);
        if (r + 1 < rows) put(2 * r + 1, 2 * c, ["south", "north"], [bytes(r, c, 2), bytes(r + 1, c, 3)], `(${r}, ${c}) - (${r + 1}, ${c})`);
      }
      // Edges of the cells: a router takes 0.3 of a pitch, the link to the next one the rest.
      const edges = (count) => Array.from({ length: 2 * count }, (_, i) => Math.floor(i / 2) + (i % 2 ? 0.15 : -0.15));
      const sites = { x: [], y: [], text: [], symbol: [] };
      const holes = new Set(figure.holes.map(String));
      for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) {
        const hole = holes.has(`${r},${c}`);
        sites.x.push(c); sites.y.push(r);
        sites.text.push(`site (${r}, ${c})${hole ? ", no node" : ""}`); sites.symbol.push(hole ? "x-thin-open" : "square");
      }
      const spots = { type: "scatter", mode: "markers", x: sites.x, y: sites.y, text: sites.text, hovertemplate: "%{text}<extra></extra>",
        marker: { symbol: sites.symbol, color: token("--line"), size: Math.max(2, Math.min(14, 90 / Math.max(rows, cols))) } };
      return map(figure, [{ ...heat(z.flat().filter((v) => v !== null)), type: "heatmap", x: edges(cols), y: edges(rows), z, customdata: hover, hoverongaps: false,
        hovertemplate: "%{customdata}<extra></extra>" }, spots], cols, rows, "site");
    },

    spans(figure, choice) {
      const view = figure.views[choice];
      const causes = figure.causes.filter((_, index) => view.cause.includes(index));
      const said = (at) => [figure.words[view.text[at]], figure.words[view.note[at]]].filter(Boolean).map(esc).join("<br>");
      const data = causes.map((cause) => {
        const index = figure.causes.indexOf(cause);
        const own = view.cause.map((c, at) => (c === index ? at : -1)).filter((at) => at >= 0);
        return {
          type: "bar", orientation: "h", name: swatch(cause).label, marker: marker(cause), width: 0.78,
          base: own.map((at) => view.start[at]), x: own.map((at) => view.end[at] - view.start[at]), y: own.map((at) => view.lane[at]),
          customdata: own.map((at) => [said(at), whole(view.start[at]), whole(view.end[at]), whole(view.end[at] - view.start[at])]),
          hovertemplate: `<b>${swatch(cause).label}</b><br>%{customdata[0]}<br>cycle %{customdata[1]} to %{customdata[2]}: %{customdata[3]} cycles<extra></extra>`,
        };
      });
      return { data, legend: causes, layout: layout({
        barmode: "overlay", height: 96 + 34 * view.lanes.length, hovermode: "closest", margin: { l: 10, r: 24, t: 26, b: 10 },
        xaxis: { range: view.window, title: { text: "cycle" }, tickformat: ",d", nticks: 9 },
        yaxis: { autorange: "reversed", range: [view.lanes.length - 0.5, -0.5], tickvals: view.lanes.map((_, lane) => lane), ticktext: view.lanes.map((x) => cut(x, 28)), ticks: "", showgrid: false, fixedrange: true },
      }) };
    },
  };

  const CHOICES = ["busier direction", "east", "west", "south", "north"];
  const choicesOf = (figure) => ({ nodes: () => figure.grids.map((grid) => grid.label), links: () => CHOICES, spans: () => figure.views.map((view) => view.label) })[figure.kind]?.() ?? [];

  // Colour runs over what there is, so that a difference shows; equal values get a range of their own.
  function heat(values) {
    let low = values.length ? values[0] : 0, high = low;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    if (high - low < 0.2) { low = Math.max(0, low - 1); high += 1; }
    return { colorscale: "Cividis", zmin: low, zmax: high, colorbar: { ticksuffix: " %", thickness: 12, len: 1, outlinewidth: 0, nticks: 6 } };
  }

  function map(figure, data, across, down, what) {
    const ticks = (count) => {
      const every = Math.ceil(count / 20);
      return { tickvals: Array.from({ length: count }, (_, i) => i).filter((_, i) => i % every === 0), ticktext: Array.from({ length: count }, (_, i) => `${i}`).filter((_, i) => i % every === 0) };
    };
    const ratio = Math.min(1.6, Math.max(down / across, 0.2));
    return { ratio, data, layout: layout({
      margin: { l: 10, r: 10, t: 26, b: 10 }, hovermode: "closest",
      xaxis: { ...ticks(figure.cols), title: { text: `${what} column` }, showgrid: false, showline: false, constrain: "domain" },
      yaxis: { ...ticks(figure.rows), title: { text: `${what} row` }, autorange: "reversed", showgrid: false, showline: false, scaleanchor: "x", constrain: "domain" },
    }) };
  }

  function paint(box, width) {
    const figure = DATA.figures[box.dataset.figure];
    const across = width ? (box.closest(".pair") ? Math.floor(width / 2) - 12 : width) : box.clientWidth;
    const made = draw[figure.kind](figure, Number(box.dataset.choice ?? 0), across);
    if (made.ratio) made.layout.height = Math.round(Math.min(720, Math.max(190, (across - 130) * made.ratio + 90)));
    if (width) made.layout.width = across;
    Plotly.react(box, made.data, made.layout, CONFIG);
    const key = box.parentElement.querySelector(".key");
    if (key && made.legend) key.replaceChildren(...made.legend.map((cause) => {
      const entry = document.createElement("li"), spot = document.createElement("i");
      spot.style.background = swatch(cause).colour;
      spot.dataset.hatch = swatch(cause).hatch;
      entry.append(spot, swatch(cause).label);
      return entry;
    }));
  }

  const visible = () => [...document.querySelectorAll(".plot[data-figure]")].filter((box) => !box.closest("[hidden]"));
  const paintAll = (width) => { if (DRAWS) visible().forEach((box) => paint(box, width)); };

  document.querySelectorAll(".plot[data-figure]").forEach((box) => {
    const names = choicesOf(DATA.figures[box.dataset.figure]);
    if (!DRAWS || names.length < 2) return;
    const row = document.createElement("label"), pick = document.createElement("select");
    row.className = "choice";
    names.forEach((name, index) => pick.add(new Option(name, index)));
    pick.addEventListener("change", () => { box.dataset.choice = pick.value; paint(box); });
    row.append("Show", pick);
    box.before(row);
  });

  const sections = [...document.querySelectorAll("section.subject")];
  const picker = document.getElementById("pick");
  function choose(id) {
    if (!picker || !sections.some((section) => section.id === id)) return;
    sections.forEach((section) => { section.hidden = section.id !== id; });
    picker.value = id;
    paintAll();
  }
  if (picker) {
    picker.closest(".chooser").hidden = false;
    picker.addEventListener("change", () => choose(picker.value));
    document.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => {
      const to = (picker.selectedIndex + Number(button.dataset.step) + picker.options.length) % picker.options.length;
      choose(picker.options[to].value);
    }));
    addEventListener("hashchange", () => { choose(location.hash.slice(1)); document.getElementById(location.hash.slice(1))?.scrollIntoView(); });
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? (down ? "descending" : "ascending") : "none"));
      const value = (row) => { const raw = row.cells[index].dataset.v; return raw === undefined ? row.cells[index].textContent : Number(raw); };
      const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
      table.tBodies[0].append(...rows);
    }));
  });

  const themes = ["auto", "light", "dark"];
  const themeButton = document.getElementById("theme");
  const setTheme = (name) => {
    if (name === "auto") delete ROOT.dataset.theme; else ROOT.dataset.theme = name;
    themeButton.textContent = `Theme: ${name}`;
    paintAll();
  };
  themeButton.addEventListener("click", () => setTheme(themes[(themes.indexOf(ROOT.dataset.theme ?? "auto") + 1) % 3]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paintAll());
  document.getElementById("print").addEventListener("click", () => print());
  let before, resizing;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => paintAll(), 150); });
  addEventListener("beforeprint", () => { before = ROOT.dataset.theme ?? "auto"; ROOT.dataset.theme = "light"; paintAll(PRINT_WIDTH); });
  addEventListener("afterprint", () => setTheme(before));

  document.querySelectorAll(".tools").forEach((tools) => { tools.hidden = false; });
  if (picker) choose(sections.some((section) => section.id === location.hash.slice(1)) ? location.hash.slice(1) : picker.value);
  else paintAll();
  ROOT.dataset.ready = "yes";
})();
