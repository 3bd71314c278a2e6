// The page of a sweep: filters, the choices above every figure, the panel of a point, the table, files, the theme.
"use strict";
(() => {
  const S = accelSweep, ROOT = document.documentElement, DRAWS = typeof Plotly !== "undefined";
  const $ = (id) => document.getElementById(id);
  const FEW = 24; // values of an axis up to which its filter lists them
  const PAGE = 25; // rows of the table at once
  const LISTED = 200; // rows of "numbers of this figure"
  const PRINT_WIDTH = 1000; // px: A4 landscape less its margins
  const state = {};

  const element = (tag, fields = {}, ...inside) => {
    const made = document.createElement(tag);
    Object.entries(fields).forEach(([name, value]) => { if (name in made && name !== "list") made[name] = value; else made.setAttribute(name, value); });
    made.append(...inside.filter((one) => one !== null && one !== undefined));
    return made;
  };
  const button = (text, act, fields = {}) => { const made = element("button", { type: "button", textContent: text, ...fields }); made.addEventListener("click", act); return made; };
  const select = (label, options, value, act, id) => {
    const made = element("select", id ? { id } : {}, ...options.map(([key, text]) => new Option(S.cut(text, 48), key)));
    made.value = value;
    made.addEventListener("change", () => act(made.value));
    return element("label", { className: "choice" }, element("span", { textContent: S.cut(label, 40), title: label }), made);
  };
  const whole = (n) => n.toLocaleString("en-US");

  // ---- files
  function save(name, content, type) {
    const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    const link = element("a", { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  const saveTable = (name, records, form) => (form === "csv" ? save(`${name}.csv`, S.csv(records), "text/csv") : save(`${name}.json`, `${JSON.stringify(records, null, 1)}\n`, "application/json"));
  async function picture(box, name, format) {
    // A picture goes into a white document: it is drawn in the light theme, whatever the page has.
    const before = ROOT.dataset.theme;
    ROOT.dataset.theme = "light";
    try {
      const made = S.draw[name](state[name], 1000);
      const address = await Plotly.toImage({ data: made.data, layout: { ...made.layout, paper_bgcolor: "#fff", width: 1000 } }, { format, width: 1000, height: made.layout.height, scale: 2 });
      const comma = address.indexOf(","), body = address.slice(comma + 1);
      const bytes = address.slice(0, comma).endsWith("base64") ? Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0)) : decodeURIComponent(body);
      save(`${name}.${format}`, new Blob([bytes], { type: format === "svg" ? "image/svg+xml" : "image/png" }));
    } finally {
      if (before === undefined) delete ROOT.dataset.theme; else ROOT.dataset.theme = before;
    }
  }

  // ---- choices above the figures
  const measures = () => [...S.measures.values()].filter((m) => m.values.all === undefined || S.measures.size < 4 || m.name === S.objective?.name);
  const quantities = () => [...measures().filter((m) => !m.name.startsWith("loss.")), ...S.data.axes.filter((axis) => axis.numeric && axis.values.length > 1)].map((q) => [q.name, S.label(q.name)]);
  const axes = () => (S.varied.length ? S.varied : [...S.axes.keys()]).map((name) => [name, name]);
  const values = () => measures().map((m) => [m.name, m.label]);
  const NONE = ["", "none"];

  function start() {
    const { choice } = S.data, fixed = () => ({ ...choice.fixed }), by = () => "";
    state.heat = { x: choice.x, y: choice.y, value: choice.value, by: by(), fixed: fixed() };
    state.lines = { x: choice.line_x, series: choice.series ?? "", value: choice.value, by: by(), scale: "auto", fixed: fixed() };
    state.ledger = { x: choice.line_x, by: choice.value, unit: "share", fixed: fixed() };
    const [x, y] = choice.front ?? [quantities().find(([name]) => name !== choice.value)?.[0] ?? null, choice.value];
    state.front = { x, y, colour: choice.x ?? "", xMore: x ? S.better(x) : false, yMore: y ? S.better(y) : false, xScale: "auto", yScale: "auto", fixed: fixed() };
    Object.keys(state).forEach((name) => { controls(name); numbers(name); });
    filters();
    table();
    redraw();
  }

  const TWO = [["less", "less is better"], ["more", "more is better"]];
  const SCALES = [["auto", "automatic"], ["linear", "linear"], ["log", "logarithmic"]];
  function controls(name) {
    const box = $(`${name}-controls`), own = state[name];
    const set = (key) => (value) => { own[key] = value; controls(name); redraw(name); box.querySelector(`#${name}-${key}`)?.focus(); };
    const pick = (label, key, options) => select(label, options, own[key] ?? "", set(key), `${name}-${key}`);
    const objective = S.objective ? [["", "the value shown"], [S.objective.name, `${S.label(S.objective.name)} (objective)`]] : [["", "the value shown"]];
    const made = {
      heat: () => [pick("across", "x", axes()), pick("up", "y", axes()), pick("colour", "value", values()), pick("best in", "by", objective)],
      lines: () => [pick("along", "x", axes()), pick("a line for every", "series", [NONE, ...axes().filter(([axis]) => axis !== own.x)]), pick("value", "value", values()), pick("best in", "by", objective), pick("scale", "scale", SCALES)],
      ledger: () => [pick("along", "x", axes()), pick("best in", "by", values()), ...(S.measures.has("seconds") ? [pick("in", "unit", [["share", "share of node-cycles"], ["seconds", "time"]])] : [])],
      front: () => [pick("across", "x", quantities()), pick("up", "y", quantities()), pick("colour", "colour", [NONE, ...axes()])],
    }[name]();
    if (name === "front" && own.x && own.y) {
      for (const [key, way, label] of [["x", "xMore", "across"], ["y", "yMore", "up"]]) {
        const from = made[key === "x" ? 0 : 1].querySelector("select");
        from.addEventListener("change", () => { own[way] = S.better(from.value); controls(name); redraw(name); });
        made.push(select(`${label}:`, TWO, own[way] ? "more" : "less", (value) => { own[way] = value === "more"; redraw(name); }, `${name}-${way}`));
      }
      made.push(pick("scale across", "xScale", SCALES), pick("scale up", "yScale", SCALES));
    }
    const shown = { heat: [own.x, own.y], lines: [own.x, own.series], ledger: [own.x], front: [] }[name];
    const rest = S.varied.filter((axis) => !shown.includes(axis)).map((axis) => {
      const { texts, order } = S.axes.get(axis);
      return select(axis, [[-1, name === "front" ? "all" : "best of all"], ...order.map((code) => [code, texts[code]])], own.fixed[axis] ?? -1, (value) => { own.fixed[axis] = Number(value); redraw(name); });
    });
    box.replaceChildren(element("div", { className: "row" }, ...made), ...(rest.length ? [element("div", { className: "row rest", role: "group", ariaLabel: "Other axes" }, element("span", { className: "note", textContent: "other axes" }), ...rest)] : []));
    box.hidden = S.varied.length < { heat: 2, lines: 1, ledger: 1, front: 1 }[name]; // nothing to choose
  }

  function numbers(name) {
    const tools = $(`${name}-files`);
    tools.append(button("CSV", () => saveTable(name, state[name].made.records, "csv"), { title: "the numbers of this figure" }), button("JSON", () => saveTable(name, state[name].made.records, "json")));
    if (DRAWS) for (const format of ["svg", "png"]) tools.append(button(format.toUpperCase(), () => picture($(`${name}-plot`), name, format)));
    tools.hidden = false;
    const details = $(`${name}-numbers`);
    details.addEventListener("toggle", () => list(name));
    if (!DRAWS) details.open = true;
  }
  function list(name) {
    const details = $(`${name}-numbers`), records = state[name].made?.records ?? [];
    if (!details.open) return;
    const heads = Object.keys(records[0] ?? {}), text = (head, value) => (S.quantity(head) ? S.text(head, value) : head === "share" && value !== null ? `${(100 * value).toFixed(1)} %` : value === null ? "-" : typeof value === "boolean" ? (value ? "yes" : "") : String(value));
    const made = element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col", textContent: S.cut(head, 40) })))),
      element("tbody", {}, ...records.slice(0, LISTED).map((record) => element("tr", {}, ...heads.map((head) => element("td", { textContent: S.cut(text(head, record[head]), 60) }))))));
    details.querySelector(".scroll").replaceChildren(made, ...(records.length > LISTED ? [element("p", { className: "note", textContent: `${whole(records.length - LISTED)} more in the CSV.` })] : []));
  }

  // ---- drawing
  function draw(name, width) {
    const box = $(`${name}-plot`), across = width ?? box.clientWidth;
    const made = S.draw[name](state[name], across);
    state[name].made = made;
    $(`${name}-a`).textContent = made.alt;
    $(`${name}-files`).querySelectorAll("button").forEach((one) => { one.disabled = !made.records.length; });
    list(name);
    $(`${name}-numbers`).hidden = !made.records.length;
    box.hidden = !DRAWS || !made.data;
    $(`${name}-key`)?.replaceChildren(...(made.legend ?? []).map((cause) => {
      const spot = element("i", { "data-hatch": cause.hatch });
      spot.style.background = cause.colour;
      return element("li", {}, spot, cause.label);
    }));
    if (box.hidden) return;
    if (width) made.layout.width = width;
    Plotly.react(box, made.data, made.layout, { displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toImage"] });
    if (!box.dataset.listens) {
      box.dataset.listens = "yes";
      box.on("plotly_click", (event) => { const row = state[name].made.clicked(event.points[0]); if (row >= 0) show(row); });
    }
  }
  const NAMES = ["heat", "lines", "ledger", "front"];
  function redraw(only, width) { (only ? [only] : NAMES).forEach((name) => draw(name, width)); }

  // ---- filters
  function filters() {
    const statuses = $("filter-status"), rules = $("filter-axes"), counts = S.data.statuses.map((_, code) => S.data.status.filter((one) => one === code).length);
    const tick = (on, text, act) => { const box = element("input", { type: "checkbox", checked: on }); box.addEventListener("change", () => act(box.checked)); return element("label", { className: "tick" }, box, text); };
    statuses.replaceChildren(element("legend", { textContent: "status" }), ...S.data.statuses.map((name, code) => {
      const made = tick(S.filter.statuses.has(name), `${S.cut(name, 24)} ${whole(counts[code])}`, (on) => { if (on) S.filter.statuses.add(name); else S.filter.statuses.delete(name); changed(); });
      made.querySelector("input").value = name;
      return made;
    }));
    rules.replaceChildren(...S.varied.map((name) => {
      const axis = S.axes.get(name), summary = element("summary", {}), inside = element("div", { className: "drop-body" });
      const title = () => {
        const rule = S.filter.axes.get(name), all = axis.values.length;
        const said = !rule ? "all" : rule.codes ? (rule.codes.size === 1 ? axis.texts[[...rule.codes][0]] : `${rule.codes.size} of ${all}`) : `${rule.low} to ${rule.high}`;
        summary.replaceChildren(S.cut(name, 34), ": ", element("b", { textContent: S.cut(said, 20) }));
      };
      if (!axis.numeric || axis.values.length <= FEW) {
        const boxes = axis.order.map((code) => tick(true, S.cut(axis.texts[code], 60), () => apply()));
        const apply = () => {
          const codes = new Set(axis.order.filter((_, at) => boxes[at].querySelector("input").checked));
          if (codes.size === axis.values.length) S.filter.axes.delete(name); else S.filter.axes.set(name, { codes });
          title();
          changed();
        };
        const every = (on) => () => { boxes.forEach((box) => { box.querySelector("input").checked = on; }); apply(); };
        inside.append(element("div", { className: "row" }, button("all", every(true)), button("none", every(false))), ...boxes);
      } else {
        const low = Math.min(...axis.values), high = Math.max(...axis.values);
        const field = (value, label) => element("input", { type: "number", value, step: "any", ariaLabel: `${name} ${label}` });
        const from = field(low, "from"), to = field(high, "to");
        const apply = () => {
          const range = { low: from.value === "" ? low : Number(from.value), high: to.value === "" ? high : Number(to.value) };
          if (range.low <= low && range.high >= high) S.filter.axes.delete(name); else S.filter.axes.set(name, range);
          title();
          changed();
        };
        [from, to].forEach((one) => one.addEventListener("change", apply));
        inside.append(element("label", { className: "choice" }, element("span", { textContent: "from" }), from), element("label", { className: "choice" }, element("span", { textContent: "to" }), to));
      }
      title();
      const made = element("details", { className: "drop", "data-axis": name }, summary, inside);
      made.addEventListener("toggle", () => { if (made.open) rules.querySelectorAll("details[open]").forEach((other) => { if (other !== made) other.open = false; }); });
      return made;
    }));
    said();
    $("filters").hidden = false;
  }
  const said = () => { $("filter-said").textContent = `${whole(S.passing)} of ${whole(S.count)} points${S.count < S.data.total ? ` on this page, ${whole(S.data.total)} in the store` : ""}`; $("reset").disabled = S.filter.axes.size === 0 && S.passing === S.first; };
  function changed() { S.refilter(); said(); page = 0; rows(); redraw(); }

  // ---- the table of points
  let sorted = { name: null, down: false }, page = 0, order = [];
  const columns = () => {
    const chosen = [S.objective?.name, "seconds", "utilization", "energy_j", "memory_bytes", "chip_sram_bytes", "memory_bytes_per_s"];
    return [...S.data.axes.map((axis) => axis.name), ...[...new Set(chosen)].filter((name) => S.measures.has(name))];
  };
  function worth(name, row) {
    if (name === "index") return S.data.index[row];
    if (name === "status") return S.data.status[row];
    const axis = S.axes.get(name);
    return axis ? (axis.codes[row] < 0 ? null : axis.rank[axis.codes[row]]) : S.value(name, row);
  }
  function table() {
    const heads = ["index", "status", ...columns(), ""], row = $("points-head");
    sorted = S.objective ? { name: S.objective.name, down: S.objective.more } : { name: "index", down: false };
    row.replaceChildren(...heads.map((name) => {
      const text = S.measures.has(name) ? S.label(name) : name, head = element("th", { scope: "col" });
      if (!name) { head.textContent = "reason"; head.className = "text"; return head; }
      head.dataset.name = name;
      head.append(button(S.cut(text, 36), () => { sorted = { name, down: sorted.name === name ? !sorted.down : S.measures.has(name) && S.better(name) }; page = 0; rows(); }));
      return head;
    }));
    $("points-files").append(button("CSV", () => saveTable("points", order.map(S.record), "csv")), button("JSON", () => saveTable("points", order.map(S.record), "json")));
    $("points-files").hidden = false;
    $("points-static").hidden = true;
    $("points-live").hidden = false;
    for (const [id, step] of [["points-first", -1e9], ["points-back", -1], ["points-on", 1], ["points-last", 1e9]]) $(id).addEventListener("click", () => { page += step; rows(); });
    rows();
  }
  function rows() {
    order = [];
    for (let row = 0; row < S.count; row++) if (S.passes[row]) order.push(row);
    const key = new Map(order.map((row) => [row, worth(sorted.name, row)])), sign = sorted.down ? -1 : 1;
    order.sort((a, b) => {
      const x = key.get(a), y = key.get(b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what has no figure comes last either way
      return sign * (x - y) || a - b;
    });
    const last = Math.max(0, Math.ceil(order.length / PAGE) - 1);
    page = Math.min(last, Math.max(0, page));
    document.querySelectorAll("#points-head th[data-name]").forEach((head) => head.setAttribute("aria-sort", head.dataset.name === sorted.name ? (sorted.down ? "descending" : "ascending") : "none"));
    $("points-body").replaceChildren(...order.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
      const opener = button(String(S.data.index[row]), () => show(row, opener), { className: "link", ariaLabel: `Show point ${S.data.index[row]}`, "data-row": row });
      const cells = columns().map((name) => element("td", { className: S.axes.get(name)?.numeric === false ? "text" : "", textContent: S.axes.has(name) ? S.cut(S.axisText(name, row), 40) : S.text(name, S.value(name, row)) }));
      return element("tr", { className: row === S.chosen ? "chosen" : "" }, element("th", { scope: "row" }, opener), element("td", { textContent: S.cut(S.status(row), 24) }), ...cells, element("td", { className: "text", textContent: S.cut(S.reason(row), 90) }));
    }));
    $("points-said").textContent = order.length ? `${whole(page * PAGE + 1)} to ${whole(Math.min(order.length, (page + 1) * PAGE))} of ${whole(order.length)}` : "no point passes the filters";
    for (const [id, off] of [["points-first", page === 0], ["points-back", page === 0], ["points-on", page === last], ["points-last", page === last]]) $(id).disabled = off;
  }

  // ---- the panel of one point
  let opener = null;
  function show(row, from = null) {
    S.chosen = row;
    opener = from ?? document.activeElement;
    const pairs = (list) => element("dl", { className: "pairs" }, ...list.flatMap(([name, value]) => [element("dt", { textContent: S.cut(name, 60) }), element("dd", { textContent: value })]));
    const outcomes = [...S.measures.values()].filter((m) => !m.name.startsWith("loss.") && S.value(m.name, row) !== null).map((m) => [m.label, S.text(m.name, S.value(m.name, row))]);
    const words = S.data.words.filter((word) => word.texts[word.codes[row]]).map((word) => [word.label, S.cut(word.texts[word.codes[row]], 80)]);
    const losses = S.data.causes.map((cause) => [cause.label, S.value(cause.column, row) ?? 0]).filter(([, share]) => share >= 0.0005).sort((a, b) => b[1] - a[1]).map(([label, share]) => [label, `${(100 * share).toFixed(1)} %`]);
    $("design-title").textContent = `Point ${S.data.index[row]}`;
    const reason = S.reason(row), status = S.status(row);
    const parts = [element("p", { className: status === "ok" ? "note" : "warn", textContent: [status, reason].filter(Boolean).join(": ") }), element("h3", { textContent: "Design" }), pairs(S.data.axes.map((axis) => [axis.name, S.axisText(axis.name, row)]))];
    const toml = S.chip(row), text = element("pre", { tabIndex: 0, id: "design-toml", textContent: toml ?? "" }), told = element("span", { role: "status", className: "note" });
    if (toml === null) parts.push(element("p", { className: "note", textContent: "The chip of this point is not known: the point is illegal, or a file that the sweep names was not there when the page was written." }));
    else parts.push(element("div", { className: "row" }, button("Copy chip TOML", () => copy(text, toml).then(() => { told.textContent = "copied"; }), { id: "copy" }),
      button("Save it", () => save(`point-${S.data.index[row]}.toml`, toml, "application/toml"), { id: "save" }), told));
    if (outcomes.length) parts.push(element("h3", { textContent: "Outcome" }), pairs([...outcomes, ...words]));
    if (losses.length) parts.push(element("h3", { textContent: "Where the node-cycles went" }), pairs(losses));
    if (toml !== null) parts.push(element("h3", { textContent: "Chip, for every command with --chip FILE.toml" }), text);
    $("design-body").replaceChildren(...parts);
    $("design").hidden = false;
    $("design").scrollTop = 0;
    $("design").focus({ preventScroll: true });
    rows();
    redraw();
  }
  async function copy(holder, text) {
    try { await navigator.clipboard.writeText(text); } catch {
      getSelection().selectAllChildren(holder); // a page without the clipboard: the text is selected and copied the old way
      document.execCommand("copy");
    }
  }
  function close() {
    if ($("design").hidden) return;
    $("design").hidden = true;
    const again = `#points-body button[data-row="${S.chosen}"]`; // the rows of the table are made anew
    S.chosen = -1;
    rows();
    redraw();
    (opener?.isConnected ? opener : document.querySelector(again))?.focus({ preventScroll: true });
  }

  // ---- theme, print, size of the window
  const themes = ["auto", "light", "dark"];
  const setTheme = (name) => {
    if (name === "auto") delete ROOT.dataset.theme; else ROOT.dataset.theme = name;
    $("theme").textContent = `Theme: ${name}`;
    redraw();
  };
  function listen() {
    $("theme").addEventListener("click", () => setTheme(themes[(themes.indexOf(ROOT.dataset.theme ?? "auto") + 1) % 3]));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
    $("print").addEventListener("click", () => print());
    $("design-close").addEventListener("click", close);
    $("reset").addEventListener("click", () => { S.take(S.data); filters(); changed(); });
    addEventListener("keydown", (event) => { if (event.key === "Escape") { document.querySelectorAll(".drop[open]").forEach((one) => { one.open = false; }); close(); } });
    addEventListener("click", (event) => { if (!event.target.closest?.(".drop")) document.querySelectorAll(".drop[open]").forEach((one) => { one.open = false; }); });
    let before, resizing;
    addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => redraw(), 150); });
    addEventListener("beforeprint", () => { before = ROOT.dataset.theme ?? "auto"; ROOT.dataset.theme = "light"; redraw(null, PRINT_WIDTH); });
    addEventListener("afterprint", () => setTheme(before));
    document.querySelectorAll(".tools").forEach((tools) => { tools.hidden = false; });
  }

  S.load().then(() => {
    S.first = S.passing;
    S.chosen = -1;
    start();
    listen();
    ROOT.dataset.ready = "yes";
  }).catch((error) => {
    const told = $("unreadable");
    told.hidden = false;
    told.append(` (${error.message})`);
  });
})();
