// The page of a search: reads the JSON of one or two views (autotune/viewer/view.py) and draws it. Texts of a view are
// only ever text nodes, or text on a canvas.
"use strict";
(() => {
  const { views, live } = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  for (const view of views) view.spans = view.spans.map(([lane, what, trial, start_s, end_s]) => ({ lane, what, trial, start_s, end_s }));
  let shown = 0;
  let view = views[0];
  const MOST_LINES = 2000, MOST_AXES = 12; // of the parallel coordinates: more are a block of colour

  // Elements and texts

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  const text = (value) => (typeof value === "string" && value !== "" ? value : JSON.stringify(value));
  const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
  function number(value) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(3);
    return size >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(value.toPrecision(4)));
  }
  const time = (value, of = view) => (value === null || value === undefined ? "" : `${number(value)} ${of.unit}`);
  const seconds = (s) => (s === null ? "" : s < 60 ? `${number(s)} s` : `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`);
  const percent = (share) => `${number(Math.round(share * 1000) / 10)} %`;
  const cut = (words, most) => (words.length > most ? words.slice(0, most - 1) + "…" : words);

  const within = (name, most) => (name.length > most ? `${name.slice(0, Math.ceil(most / 2) - 1)}…${name.slice(-Math.floor(most / 2))}` : name); // the ends of a name tell it from others

  // Views

  const trial = (of, place) => of.trials.number[place];
  function configOf(of, place) {
    return Object.fromEntries(of.parameters.map((parameter, j) => [parameter.name, parameter.values[of.trials.codes[j][place]]]));
  }
  function placeOf(of, id) {
    of.places ??= new Map(of.trials.number.map((one, place) => [one, place]));
    return of.places.get(id);
  }
  function describe(of, place) {
    const t = of.trials;
    const lines = [`config ${trial(of, place)}: ${t.time_ms[place] === null ? of.kinds[t.kind[place]] : time(t.time_ms[place], of)}`];
    for (const [name, value] of Object.entries(configOf(of, place)).slice(0, 14)) lines.push(`${cut(name, 30)} = ${cut(text(value), 40)}`);
    return lines.join("\n");
  }

  // Colours and charts

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const charts = []; // {node, options, chart, listeners}
  function chart(label, options, listeners = {}, height = null) {
    const node = el("div", { class: "chart", role: "img", "aria-label": label });
    if (height) node.style.height = `${height}px`;
    charts.push({ node, options, listeners, chart: null });
    near.observe(node);
    return node;
  }
  function draw(entry) {
    if (!entry.node.isConnected || !entry.node.clientWidth) return;
    entry.chart ??= echarts.init(entry.node, null, { renderer: "canvas" });
    entry.chart.setOption({ ...base(), ...entry.options() }, true);
    for (const [event, listener] of Object.entries(entry.listeners)) {
      entry.chart.off(event);
      entry.chart.on(event, (what) => listener(what, entry.chart));
    }
  }
  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const entry = charts.find((one) => one.node === target);
      if (isIntersecting && entry && !entry.chart) draw(entry);
    }
  }, { rootMargin: "300px" });
  const redraw = () => charts.forEach((entry) => entry.chart && draw(entry));
  const redrawOne = (node) => draw(charts.find((entry) => entry.node === node));
  function base() {
    return {
      animation: false,
      textStyle: { color: colour("text"), fontFamily: "system-ui, sans-serif" },
      color: [colour("accent"), colour("second")],
      tooltip: {
        renderMode: "richText", confine: true, backgroundColor: colour("panel"), borderColor: colour("line"),
        textStyle: { color: colour("text"), fontSize: 12 },
      },
    };
  }
  function axis(name, more = {}) {
    return {
      name, nameLocation: "middle", nameGap: 28, nameTextStyle: { color: colour("dim") },
      axisLine: { lineStyle: { color: colour("line") } }, axisTick: { lineStyle: { color: colour("line") } },
      axisLabel: { color: colour("dim"), hideOverlap: true, ...(more.axisLabel ?? {}) },
      splitLine: { lineStyle: { color: colour("line"), opacity: 0.5 } },
      ...Object.fromEntries(Object.entries(more).filter(([key]) => key !== "axisLabel")),
    };
  }
  function bounds(values) { // of a logarithmic axis, a little beyond the values
    let low = Infinity, high = -Infinity;
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    if (!(low > 0) || low === Infinity) return { min: 1, max: 10 };
    return { min: low / 1.08, max: high === low ? high * 2 : high * 1.08 };
  }
  const narrow = () => window.innerWidth < 760;

  function toggles(label, choices, chosen, choose) {
    const buttons = choices.map(([value, words]) => el("button", {
      type: "button", "aria-pressed": String(value === chosen),
      onclick: () => { for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.value === value)); choose(value); },
      "data-value": value,
    }, words));
    return el("span", { role: "group", "aria-label": label, class: "controls" }, ...buttons);
  }

  // Sections

  function summary() {
    const compared = views.length > 1;
    const facts = Object.fromEntries(view.facts);
    const tiles = ["best", "default", "speed-up", "configs", "median", "points", "failed"].filter((name) => name in facts).map((name) => {
      const [, main, more] = /^([^(]*)(\(.*\))?$/.exec(facts[name]) ?? [null, facts[name], ""];
      return el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, main.trim(), more ? el("small", {}, more.slice(1, -1)) : null));
    });
    const rest = view.facts.filter(([name]) => !["best", "default", "speed-up", "configs", "median", "points", "failed"].includes(name));
    const why = el("div", {}, ...view.why.map((sentence) => el("p", {}, sentence)), mattersMost());
    if (compared) return el("section", { id: "summary" }, el("h2", {}, "Two searches side by side"), comparison(), why);
    const factTable = el("table", { class: "plain" }, el("tbody", {}, ...rest.map(([name, words]) => el("tr", {}, el("td", {}, name), el("td", {}, words)))));
    return el("section", { id: "summary" }, el("dl", { class: "tiles" }, ...tiles), why,
      el("div", { class: "columns" }, el("div", { class: "scroll" }, bestConfig()), el("details", {}, el("summary", {}, "How it was made"), factTable)));
  }
  function mattersMost() {
    const { parameters, pairs, doubt } = view.importances;
    if (doubt) return el("p", { class: "note" }, doubt[0].toUpperCase() + doubt.slice(1) + ".");
    const parts = parameters.filter(({ share }) => share.low > 0.02).slice(0, 3).map(({ parameter, share }) => `${view.parameters[parameter].name} (${percent(share.value)})`);
    const pair = pairs.length && pairs[0].share.low > 0.05 ? `; ${pairs[0].parameters.map((j) => view.parameters[j].name).join(" and ")} together ${percent(pairs[0].share.value)}` : "";
    return parts.length ? el("p", {}, `What matters most: ${parts.join(", ")}${pair}, of the differences in time.`) : null;
  }
  function bestConfig() {
    if (view.best === null) return el("p", {}, "No config was timed.");
    const best = configOf(view, view.best);
    const usual = view.default === null ? null : configOf(view, view.default);
    const rows = Object.entries(best).map(([name, value]) => {
      const changed = usual !== null && text(usual[name]) !== text(value);
      return el("tr", changed ? { class: "changed" } : {}, el("td", {}, name), el("td", {}, text(value)), usual ? el("td", {}, changed ? text(usual[name]) : "the same") : null);
    });
    return el("table", { class: "plain" }, el("thead", {}, el("tr", {}, el("th", {}, "parameter"), el("th", {}, "best"), usual ? el("th", {}, "default") : null)), el("tbody", {}, ...rows));
  }
  function comparison() {
    const names = [...new Set(views.flatMap((one) => one.facts.map(([name]) => name)))];
    const parameters = [...new Set(views.flatMap((one) => one.parameters.map(({ name }) => name)))];
    const configs = views.map((one) => (one.best === null ? {} : configOf(one, one.best)));
    const line = (name, cells) => el("tr", cells.every((cell) => cell === cells[0]) ? {} : { class: "changed" }, el("td", {}, name), ...cells.map((cell) => el("td", {}, cell)));
    const head = () => el("thead", {}, el("tr", {}, el("th", {}, ""), ...views.map((one) => el("th", {}, one.title))));
    return el("div", { class: "halves" },
      el("div", { class: "scroll" }, el("table", { class: "plain" }, head(), el("tbody", {}, ...names.map((name) => line(name, views.map((one) => Object.fromEntries(one.facts)[name] ?? "")))))),
      el("div", { class: "scroll" }, el("h2", {}, "The best config of each"), el("table", { class: "plain" }, head(), el("tbody", {}, ...parameters.map((name) => line(name, configs.map((config) => (name in config ? text(config[name]) : "—"))))))));
  }

  function history() {
    let by = "evaluations";
    const timed = views.some((one) => one.trials.at_s.some((at) => at !== null));
    const options = () => {
      const series = [];
      const all = [];
      views.forEach((one, i) => {
        const { first_ms: times, at_s: at } = one.trials;
        const x = (place) => (by === "evaluations" ? place + 1 : at[place]);
        const points = [];
        times.forEach((value, place) => { if (value !== null && x(place) !== null) { points.push([x(place), value, place]); all.push(value); } });
        const steps = one.history.filter((step) => by === "evaluations" || step.at_s !== null).map((step) => [by === "evaluations" ? step.evaluations : step.at_s, step.time_ms, placeOf(one, step.trial)]);
        if (steps.length && times.length) steps.push([x(times.length - 1) ?? steps.at(-1)[0], steps.at(-1)[1], steps.at(-1)[2]]);
        const tone = colour(i ? "second" : "accent");
        const name = views.length > 1 ? `${one.title}${one.title === views[1 - i].title ? ` (${i + 1})` : ""}` : "best so far";
        if (views.length === 1) series.push({ name: "a config", type: "scatter", data: points, symbolSize: points.length > 1500 ? 3 : 5, itemStyle: { color: colour("point"), opacity: 0.75 }, emphasis: { disabled: true } });
        else series.push({ name, type: "scatter", data: points, symbolSize: 4, itemStyle: { color: tone, opacity: 0.35 }, emphasis: { disabled: true } });
        series.push({ name, type: "line", step: "end", data: steps, showSymbol: steps.length < 40, symbolSize: 6, lineStyle: { width: 2.5, color: tone }, itemStyle: { color: tone }, z: 5 });
      });
      const usual = view.default === null || views.length > 1 ? null : view.trials.time_ms[view.default];
      if (usual !== null) series.at(-1).markLine = { silent: true, symbol: "none", data: [{ yAxis: usual }], lineStyle: { color: colour("dim"), type: "dotted" }, label: { formatter: () => "default", position: "insideEndTop", color: colour("dim") } };
      const last = by === "evaluations" ? Math.max(1, ...views.map((one) => one.trials.number.length)) : undefined;
      return {
        grid: { left: 62, right: 16, top: 40, bottom: 44 },
        legend: { top: 4, left: 56, textStyle: { color: colour("text") }, data: [...new Set(series.map(({ name }) => name))] },
        xAxis: axis(by === "evaluations" ? "configs measured" : "seconds", { type: "value", min: 0, max: last, splitLine: { show: false } }),
        yAxis: axis(view.unit, { type: "log", nameGap: 46, ...bounds(all), axisLabel: { formatter: number } }),
        tooltip: { ...base().tooltip, formatter: ({ data, seriesIndex }) => describe(views[Math.floor(seriesIndex / 2)], data[2]) },
        series,
      };
    };
    const node = chart("Best time so far, and the time of every config in the order of measuring", options, { click: ({ data }) => data && views.length === 1 && select(data[2]) });
    const choose = toggles("x axis", [["evaluations", "by configs"], ["seconds", "by seconds"]], by, (value) => { by = value; redrawOne(node); });
    const words = view.state === "recording" ? "In the order of the file." : "First timings, each taken alone; the final comparison may rank close ones differently.";
    return el("section", { id: "history" }, el("h2", {}, "Best so far"), el("p", { class: "dim" }, words), timed ? choose : null, node);
  }

  let brushed = null;
  function parallel() {
    const t = view.trials;
    const places = t.time_ms.map((value, place) => place).filter((place) => t.time_ms[place] !== null).sort((a, b) => t.time_ms[a] - t.time_ms[b]);
    if (places.length < 2) return null;
    const kept = places.slice(0, MOST_LINES);
    const varied = view.parameters.map((_, j) => j).filter((j) => view.parameters[j].values.length > 1);
    const importance = new Map(view.importances.parameters.map(({ parameter, share }) => [parameter, share.value]));
    let order = "importance";
    const chosen = [...varied].sort((a, b) => (importance.get(b) ?? 0) - (importance.get(a) ?? 0)).slice(0, MOST_AXES);
    const sorted = () => (order === "importance" ? chosen : [...chosen].sort((a, b) => a - b));
    const options = () => {
      const dims = sorted();
      const limits = bounds(kept.map((place) => t.time_ms[place]));
      const rank = new Map(kept.map((place, i) => [place, kept.length > 1 ? i / (kept.length - 1) : 0]));
      const rows = [...kept].reverse().map((place) => [...dims.map((j) => t.codes[j][place]), t.time_ms[place], rank.get(place), place]);
      const upright = narrow();
      const written = { color: colour("text"), fontSize: 11, textBorderColor: colour("back"), textBorderWidth: 3 };
      const axes = dims.map((j, dim) => {
        const { name, values } = view.parameters[j];
        return { dim, name: within(name, upright ? 22 : dims.length > 8 ? 12 : 15), type: "value", min: 0, max: values.length - 1, interval: values.length > 12 ? undefined : 1, minInterval: 1,
          axisLabel: { formatter: (code) => (Number.isInteger(code) && values[code] !== undefined ? cut(text(values[code]), 10) : ""), ...written } };
      });
      axes.push({ dim: dims.length, name: view.unit, type: "log", ...limits, axisLabel: { formatter: number, ...written } });
      return {
        parallel: {
          left: upright ? 24 : 50, right: 60, top: upright ? 36 : 46, bottom: 24, layout: upright ? "vertical" : "horizontal",
          parallelAxisDefault: {
            nameTextStyle: { color: colour("text"), fontSize: 12 }, nameGap: upright ? 6 : 18, nameLocation: upright ? "start" : "end", axisLine: { lineStyle: { color: colour("dim") } }, axisTick: { show: false },
            areaSelectStyle: { width: 18, color: colour("accent"), opacity: 0.25, borderColor: colour("accent") },
          },
          axisExpandable: false,
        },
        parallelAxis: axes,
        visualMap: { show: false, dimension: dims.length + 1, min: 0, max: 1, inRange: { color: [colour("fast"), colour("middle"), colour("slow")] } },
        tooltip: { ...base().tooltip, formatter: ({ data }) => describe(view, data.at(-1)) },
        series: [{ type: "parallel", data: rows, lineStyle: { width: 1.2, opacity: Math.max(0.12, Math.min(0.7, 60 / Math.sqrt(kept.length) / 8)) }, inactiveOpacity: 0.02, activeOpacity: 0.8, progressive: 500, smooth: false, emphasis: { disabled: true } }],
      };
    };
    const node = chart("Parallel coordinates: a line for each timed config through its values, to its time", options, {
      axisareaselected: (_, drawn) => {
        const series = drawn.getModel().getSeries()[0];
        const active = series.getRawIndicesByActiveState("active");
        const any = drawn.getModel().getComponent("parallel") && drawn.getOption().parallelAxis.some((_, i) => (drawn.getModel().getComponent("parallelAxis", i)?.activeIntervals ?? []).length);
        brushed = any ? new Set(active.map((i) => kept[kept.length - 1 - i])) : null;
        applyFilter();
      },
    }, narrow() ? 60 * chosen.length + 120 : 380);
    const clear = el("button", { type: "button", onclick: () => { brushed = null; redrawOne(node); applyFilter(); } }, "clear the brushes");
    const hidden = varied.length > chosen.length ? ` Of ${varied.length} parameters the ${chosen.length} most important are drawn.` : "";
    const left = places.length > kept.length ? ` The ${count(kept.length, "fastest config")} of ${places.length.toLocaleString("en")} are drawn.` : "";
    return el("section", { id: "parallel" }, el("h2", {}, "Parallel coordinates"),
      el("p", { class: "dim" }, `A line is a config: the bluer, the faster. Drag along an axis to keep the lines that pass there; the table of configs follows.${left}${hidden}`),
      el("div", { class: "controls" }, toggles("order of the axes", [["importance", "by importance"], ["space", "as in the space"]], order, (value) => { order = value; brushed = null; redrawOne(node); applyFilter(); }), clear), node);
  }

  function importance() {
    const { parameters, pairs, points, explained, doubt } = view.importances;
    if (!parameters.length) return el("section", { id: "importance" }, el("h2", {}, "What matters"), el("p", { class: "note" }, doubt || "Nothing was timed."));
    const listed = parameters.slice(0, 16);
    const names = listed.map(({ parameter }) => view.parameters[parameter].name);
    const bars = () => ({
      grid: { left: 10, right: 24, top: 8, bottom: 44, containLabel: true },
      xAxis: axis("share of the variance of log time", { type: "value", min: 0, axisLabel: { formatter: (value) => percent(value) } }),
      yAxis: axis("", { type: "category", inverse: true, data: names.map((name) => within(name, 22)), axisLabel: { color: colour("text"), hideOverlap: false }, splitLine: { show: false } }),
      tooltip: { ...base().tooltip, formatter: ({ dataIndex }) => { const { value, low, high } = listed[dataIndex].share; return `${cut(names[dataIndex], 40)}\nalone ${percent(value)} (${percent(low)} to ${percent(high)})`; } },
      series: [{ type: "custom", data: listed.map(({ share }, i) => [share.value, i, share.low, share.high]), encode: { x: [0, 2, 3], y: 1 },
        renderItem: (_, api) => {
          const [, y] = api.coord([0, api.value(1)]);
          const x = (value) => api.coord([value, api.value(1)])[0];
          const half = Math.min(9, api.size([0, 1])[1] * 0.32);
          const stroke = { stroke: colour("text"), lineWidth: 1.3 };
          return { type: "group", children: [
            { type: "rect", shape: { x: x(0), y: y - half, width: x(api.value(0)) - x(0), height: 2 * half }, style: { fill: colour("accent"), opacity: 0.75 } },
            { type: "line", shape: { x1: x(api.value(2)), y1: y, x2: x(api.value(3)), y2: y }, style: stroke },
            { type: "line", shape: { x1: x(api.value(2)), y1: y - half / 2, x2: x(api.value(2)), y2: y + half / 2 }, style: stroke },
            { type: "line", shape: { x1: x(api.value(3)), y1: y - half / 2, x2: x(api.value(3)), y2: y + half / 2 }, style: stroke }] };
        } }],
    });
    const paired = [...new Set(pairs.flatMap((pair) => pair.parameters))].sort((a, b) => a - b);
    const labels = paired.map((j) => view.parameters[j].name);
    const most = Math.max(1e-9, ...pairs.map(({ share }) => share.value));
    const cells = () => ({
      grid: { left: 10, right: 16, top: 8, bottom: 10, containLabel: true },
      xAxis: axis("", { type: "category", data: labels.map((name) => within(name, 12)), axisLabel: { rotate: 40, hideOverlap: false, interval: 0, color: colour("text") }, splitLine: { show: false } }),
      yAxis: axis("", { type: "category", inverse: true, data: labels.map((name) => within(name, 16)), axisLabel: { hideOverlap: false, interval: 0, color: colour("text") }, splitLine: { show: false } }),
      visualMap: { show: false, min: 0, max: most, dimension: 2, inRange: { color: [colour("panel"), colour("accent")] } },
      tooltip: { ...base().tooltip, formatter: ({ data }) => `${cut(labels[data[1]], 30)} and ${cut(labels[data[0]], 30)}\ntogether, beyond each alone: ${percent(data[2])} (${percent(data[3])} to ${percent(data[4])})` },
      series: [{ type: "heatmap", data: pairs.flatMap(({ parameters: [a, b], share }) => { const x = paired.indexOf(a), y = paired.indexOf(b); return [[x, y, share.value, share.low, share.high], [y, x, share.value, share.low, share.high]]; }),
        label: { show: paired.length <= 8, formatter: ({ data }) => (data[2] >= 0.005 ? `${Math.round(data[2] * 100)}%` : ""), color: colour("text"), fontSize: 11, textBorderColor: colour("back"), textBorderWidth: 2 }, itemStyle: { borderColor: colour("back"), borderWidth: 2 } }],
    });
    let chosen = 0;
    const effect = () => {
      const { parameter, effects } = listed[chosen];
      const { values } = view.parameters[parameter];
      const labelsOf = effects.map(({ first, last }) => cut(first === last ? text(values[first]) : `${text(values[first])} … ${text(values[last])}`, 18));
      return {
        grid: { left: 50, right: 16, top: 12, bottom: 44 },
        xAxis: axis(cut(names[chosen], 40), { type: "category", data: labelsOf, splitLine: { show: false } }),
        yAxis: axis("time, best value = 1", { type: "value", scale: true, nameGap: 36, axisLabel: { formatter: number } }),
        tooltip: { ...base().tooltip, formatter: ({ dataIndex }) => `${labelsOf[dataIndex]}: ${number(effects[dataIndex].ratio)} times as long as the best value\n(${number(effects[dataIndex].low)} to ${number(effects[dataIndex].high)}), on average over the other parameters` },
        series: [{ type: "custom", data: effects.map(({ ratio, low, high }, i) => [i, ratio, low, high]), encode: { x: 0, y: [1, 2, 3] },
          renderItem: (_, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1)]);
            const end = (k) => api.coord([api.value(0), api.value(k)])[1];
            return { type: "group", children: [
              { type: "line", shape: { x1: x, y1: end(2), x2: x, y2: end(3) }, style: { stroke: colour("dim"), lineWidth: 2 } },
              { type: "circle", shape: { cx: x, cy: y, r: 5 }, style: { fill: colour("accent") } }] };
          } }],
      };
    };
    const effectNode = chart("Time at each value of the chosen parameter, relative to its best value", effect, {}, 260);
    const choose = el("select", { "aria-label": "parameter", onchange: (event) => { chosen = Number(event.target.value); redrawOne(effectNode); } }, ...names.map((name, i) => el("option", { value: i }, name)));
    const barNode = chart("Importance of each parameter with its uncertainty", bars, { click: ({ dataIndex }) => { chosen = dataIndex; choose.value = String(dataIndex); redrawOne(effectNode); } }, Math.max(160, 32 * listed.length + 60));
    const total = parameters.reduce((sum, { share }) => sum + share.value, 0) + pairs.reduce((sum, { share }) => sum + share.value, 0);
    return el("section", { id: "importance" }, el("h2", {}, "What matters"),
      el("p", { class: "dim" }, `Functional ANOVA of a random forest over ${count(points, "timed config")}, which explains ${percent(Math.max(0, explained))} of the differences between configs that it has not seen. Parameters alone and in pairs make up ${percent(Math.min(1, total))}; lines reach from the 5 % to the 95 % quantile over the trees.`),
      doubt ? el("p", { class: "note" }, doubt[0].toUpperCase() + doubt.slice(1) + ".") : null,
      el("div", { class: "halves" }, el("figure", {}, el("figcaption", {}, "Each parameter alone"), barNode),
        pairs.length ? el("figure", {}, el("figcaption", {}, "What two parameters do together only"), chart("Importance of pairs of parameters", cells, {}, Math.max(240, 34 * paired.length + 90))) : null),
      el("figure", {}, el("figcaption", {}, "The effect of the values of ", choose), effectNode));
  }

  // The table of configs

  let table = null, counter = null, query = null, outcome = null, detail = null;
  function rowsOf(of) {
    const t = of.trials;
    return t.number.map((id, place) => {
      const row = { place, id, time: t.time_ms[place], first: t.first_ms[place], outcome: of.kinds[t.kind[place]], compile: t.compile_s[place], run: t.run_s[place], at: t.at_s[place], samples: t.samples[place], batch: t.batch[place], origin: of.origins[t.origin[place]] ?? "", message: t.message[place] < 0 ? "" : of.messages[t.message[place]] };
      of.parameters.forEach((parameter, j) => { row[`p${j}`] = t.codes[j][place]; });
      return row;
    });
  }
  const widthOf = (name, least = 76) => Math.min(240, Math.max(least, 9 * name.length + 46));
  const title = (words) => (cell) => { const node = el("span", { title: words }, words); return node; };
  function columnsOf(of) {
    const plain = (write) => (cell) => document.createTextNode(write(cell.getValue()));
    const numeric = (field, name, write, width) => ({ field, title: "", titleFormatter: title(name), formatter: plain(write), sorter: "number", hozAlign: "right", width, sorterParams: { alignEmptyValues: "bottom" } });
    const columns = [
      { ...numeric("id", "config", (id) => String(id), 96), frozen: !narrow() },
      { ...numeric("time", of.unit, number, 92), frozen: !narrow() },
      { field: "outcome", title: "", titleFormatter: title("outcome"), width: 110, formatter: (cell) => el("span", { class: cell.getValue() === "timed" ? (cell.getData().place === of.best ? "best" : "") : "failed" }, cell.getData().place === of.best ? "best" : cell.getValue()) },
    ];
    of.parameters.forEach(({ name, values }, j) => {
      const right = values.every((value) => typeof value === "number");
      columns.push({ field: `p${j}`, title: "", titleFormatter: title(name), sorter: "number", hozAlign: right ? "right" : "left", width: widthOf(name), formatter: plain((code) => cut(text(values[code]), 200)) });
    });
    if (of.trials.at_s.some((at) => at !== null)) columns.push(numeric("at", "at s", number, 92));
    if (of.trials.compile_s.some((s) => s > 0)) columns.push(numeric("compile", "compile s", number, 122));
    if (of.trials.run_s.some((s) => s > 0)) columns.push(numeric("run", "run s", number, 92));
    columns.push(numeric("samples", "samples", String, 108));
    if (of.batches.length) columns.push(numeric("batch", "batch", (batch) => (batch < 0 ? "" : String(batch)), 92));
    columns.push({ field: "origin", title: "", titleFormatter: title("origin"), width: 100, formatter: plain(String) });
    columns.push({ field: "message", title: "", titleFormatter: title("message"), width: 420, formatter: plain((words) => cut(words, 300)), headerSort: true });
    return columns;
  }
  const quoted = (words) => (/[\s<>=!]/.test(words) ? `"${words}"` : words);
  // A query is words and conditions, such as: BLOCK_M=128 ms<0.2 timeout
  function predicate(words, of) {
    const tests = (words.match(/(?:"[^"]*"|[^\s"])+|"/g) ?? []).map((part) => {
      const found = /^("[^"]*"|[^"<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(part);
      if (found) {
        const [, written, sign, given] = found;
        const name = written.replace(/^"|"$/g, "");
        const j = of.parameters.findIndex((parameter) => parameter.name.toLowerCase() === name.toLowerCase());
        const field = j >= 0 ? null : { ms: "time", time: "time", config: "id", at: "at", compile: "compile", run: "run", batch: "batch", outcome: "outcome", origin: "origin", samples: "samples" }[name.toLowerCase()];
        if (j >= 0 || field) {
          const wanted = given.replace(/^"|"$/g, "");
          const holds = (value) => {
            if (value === null) return false;
            const a = typeof value === "number" ? value : text(value).toLowerCase();
            const b = typeof value === "number" ? Number(wanted) : wanted.toLowerCase();
            return sign === "=" ? a === b : sign === "!=" ? a !== b : sign === "<" ? a < b : sign === ">" ? a > b : sign === "<=" ? a <= b : a >= b;
          };
          return j >= 0 ? (row) => holds(of.parameters[j].values[row[`p${j}`]]) : (row) => holds(row[field]);
        }
      }
      const needle = part.replace(/^"|"$/g, "").toLowerCase();
      return (row) => [row.outcome, row.origin, row.message, ...of.parameters.map(({ values }, j) => text(values[row[`p${j}`]]))].some((value) => value.toLowerCase().includes(needle));
    });
    return (row) => tests.every((test) => test(row));
  }
  function applyFilter() {
    if (!table) return;
    const test = predicate(query.value, view);
    const wanted = outcome.value;
    const keep = (row) => (wanted === "all" || (wanted === "timed") === (row.outcome === "timed")) && (brushed === null || brushed.has(row.place)) && test(row);
    table.setFilter(keep);
    counter.textContent = `${table.getDataCount("active").toLocaleString("en")} of ${count(view.trials.number.length, "config")}${brushed === null ? "" : ", brushed"}`;
  }
  function select(place) {
    const t = view.trials, config = JSON.stringify(configOf(view, place));
    const batch = t.batch[place] >= 0 ? view.batches[t.batch[place]] : null;
    const lines = [`config ${trial(view, place)}: ${t.time_ms[place] === null ? view.kinds[t.kind[place]] : time(t.time_ms[place])}`];
    if (t.first_ms[place] !== null && t.first_ms[place] !== t.time_ms[place]) lines[0] += `, first timing ${time(t.first_ms[place])}`;
    if (batch) lines.push(`batch ${batch.number}: ${batch.why}`);
    detail.replaceChildren(el("div", { class: "detail" }, ...lines.map((line) => el("div", {}, line)), el("pre", {}, config),
      t.message[place] >= 0 ? el("pre", { class: "failed" }, view.messages[t.message[place]]) : null,
      el("button", { type: "button", onclick: (event) => navigator.clipboard?.writeText(config).then(() => { event.target.textContent = "copied"; }) }, "copy the config")));
  }
  function configs() {
    query = el("input", { type: "search", placeholder: `a word, or a condition: ${view.parameters[0] ? `${quoted(view.parameters[0].name)}=${quoted(text(view.parameters[0].values[0]))} ` : ""}ms<0.5`, "aria-label": "filter the configs", oninput: applyFilter });
    outcome = el("select", { "aria-label": "outcome", onchange: applyFilter }, ...[["all", "all outcomes"], ["timed", "timed"], ["failed", "failed"]].map(([value, words]) => el("option", { value }, words)));
    counter = el("span", { class: "dim", role: "status", id: "counter" });
    detail = el("div", { "aria-live": "polite" });
    const node = el("div", { id: "table", tabindex: 0, "aria-label": "table of all configs" });
    const save = el("button", { type: "button", onclick: () => {
      const quote = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
      const rows = table.getData("active").map((row) => [row.id, row.time ?? "", row.outcome, ...view.parameters.map(({ values }, j) => text(values[row[`p${j}`]])), row.message].map((value) => quote(String(value))).join(","));
      const head = ["config", view.unit, "outcome", ...view.parameters.map(({ name }) => name), "message"].map(quote).join(",");
      const link = el("a", { href: URL.createObjectURL(new Blob([[head, ...rows].join("\n") + "\n"], { type: "text/csv" })), download: `${view.title}.csv` });
      link.click();
      URL.revokeObjectURL(link.href);
    } }, "save as CSV");
    queueMicrotask(() => {
      table = new Tabulator(node, {
        data: rowsOf(view), index: "place", columns: columnsOf(view), height: narrow() ? 420 : 460, rowHeight: 28, layout: "fitDataFill", selectableRows: 1,
        initialSort: [{ column: "time", dir: "asc" }], placeholder: "no config is like that", columnDefaults: { resizable: true },
      });
      table.on("tableBuilt", () => { applyFilter(); performance.mark("ready"); document.documentElement.dataset.ready = "true"; });
      table.on("rowClick", (_, row) => select(row.getData().place));
      node.addEventListener("keydown", (event) => { // the arrows go from row to row, as a click does
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const rows = table.getRows("active");
        const at = rows.findIndex((row) => row.isSelected());
        const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
        if (!next) return;
        table.deselectRow();
        next.select();
        table.scrollToRow(next, "nearest", false).catch(() => {});
        select(next.getData().place);
      });
    });
    return el("section", { id: "configs" }, el("h2", {}, "Every config"), el("div", { class: "controls" }, query, outcome, save, counter), node, detail);
  }

  function finalists() {
    if (!view.finalists.length) return null;
    const all = view.finalists;
    const shownOnes = all.slice(0, 12);
    const names = shownOnes.map((one) => `${one.trial}${one.pick ? " (pick)" : one.default ? " (default)" : ""}`);
    const samples = shownOnes.flatMap((one) => one.samples_ms);
    const { min, max } = bounds(samples);
    const scale = max > 4 * min ? { type: "log", min, max } : { type: "value", scale: true };
    const options = () => ({
      grid: { left: 10, right: 20, top: 8, bottom: 44, containLabel: true },
      xAxis: axis(view.unit, { ...scale, axisLabel: { formatter: number } }),
      yAxis: axis("", { type: "category", inverse: true, data: names, axisLabel: { color: colour("text"), hideOverlap: false }, splitLine: { show: true } }),
      tooltip: { ...base().tooltip, formatter: ({ data, seriesType }) => (seriesType === "scatter" ? `round ${data[2] + 1}: ${time(data[0])}` : `${names[data[0]]}: ${time(data[1])} (${time(data[2])} to ${time(data[3])})`) },
      series: [
        { type: "scatter", symbolSize: 6, data: shownOnes.flatMap((one, i) => one.samples_ms.map((sample, round) => [sample, i, round])), itemStyle: { color: colour("point"), opacity: 0.6 } },
        { type: "custom", z: 5, data: shownOnes.map((one, i) => [i, one.time_ms, one.low_ms, one.high_ms]), encode: { x: [1, 2, 3], y: 0 },
          renderItem: (_, api) => {
            const at = (k) => api.coord([api.value(k), api.value(0)]);
            const [x, y] = at(1), tone = shownOnes[api.value(0)].pick ? colour("good") : colour("accent");
            return { type: "group", children: [
              { type: "rect", shape: { x: at(2)[0], y: y - 4, width: Math.max(1, at(3)[0] - at(2)[0]), height: 8 }, style: { fill: tone, opacity: 0.45 } },
              { type: "rect", shape: { x: x - 1.5, y: y - 9, width: 3, height: 18 }, style: { fill: tone } }] };
          } }],
    });
    const rows = all.map((one) => el("tr", one.pick ? { class: "changed" } : {}, el("td", {}, String(one.trial)), el("td", { class: "number" }, time(one.time_ms)), el("td", { class: "number" }, `${number(one.low_ms)} to ${number(one.high_ms)}`), el("td", {}, cut(one.label, 160)), el("td", {}, one.pick ? "the pick" : one.default ? "the default" : "")));
    return el("section", { id: "finalists" }, el("h2", {}, "Finalists"), el("p", { class: "dim" }, "Timed side by side in rounds. A dot is a sample, the bar the interval of the median, the stroke the median."),
      chart("Samples of the finalists", options, {}, 44 * shownOnes.length + 70),
      el("div", { class: "scroll" }, el("table", { class: "plain wide" }, el("thead", {}, el("tr", {}, ...["config", "median", "interval", "differs from the default by", ""].map((words, i) => el("th", i === 1 || i === 2 ? { class: "number" } : {}, words)))), el("tbody", {}, ...rows))));
  }

  function failures() {
    if (!view.failures.length) return null;
    const total = view.failures.reduce((sum, one) => sum + one.count, 0);
    return el("section", { id: "failures" }, el("h2", {}, "Failures"), el("p", { class: "dim" }, `${count(total, "config")} of ${view.trials.number.length.toLocaleString("en")} failed.`),
      ...view.failures.map((one, i) => el("details", { open: i === 0 }, el("summary", {}, `${one.kind}: ${one.count.toLocaleString("en")}`),
        el("button", { type: "button", onclick: () => { query.value = `"${one.kind}"`; outcome.value = "failed"; applyFilter(); document.getElementById("configs").scrollIntoView(); } }, "show them in the table"),
        ...one.messages.map((message) => el("div", { class: "message" }, el("span", { class: "count" }, `${message.count.toLocaleString("en")} ×`), el("pre", {}, message.text || "(no message)"))))));
  }

  function timeline() {
    if (!view.spans.length) return null;
    const lanes = [...new Set(view.spans.map(({ lane }) => lane))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const last = Math.max(...view.spans.map(({ end_s }) => end_s));
    const busy = lanes.map((lane) => view.spans.filter((span) => span.lane === lane).reduce((sum, span) => sum + span.end_s - span.start_s, 0));
    const tones = { compile: "second", run: "accent", compare: "good" };
    const options = () => ({
      grid: { left: 10, right: 20, top: 8, bottom: 78, containLabel: true },
      xAxis: axis("seconds", { type: "value", min: 0, max: last, axisLabel: { formatter: number } }),
      yAxis: axis("", { type: "category", inverse: true, data: lanes.map((lane, i) => `${cut(lane, 18)}  ${Math.round((100 * busy[i]) / last)}%`), axisLabel: { color: colour("text"), hideOverlap: false }, splitLine: { show: false } }),
      dataZoom: [{ type: "inside", xAxisIndex: 0, filterMode: "weakFilter", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false }, { type: "slider", xAxisIndex: 0, filterMode: "weakFilter", height: 18, bottom: 8, textStyle: { color: colour("dim") }, labelFormatter: (value) => seconds(value), showDataShadow: false }],
      tooltip: { ...base().tooltip, formatter: ({ data }) => { const span = view.spans[data[3]]; return `${span.what}${span.trial >= 0 ? ` of config ${span.trial}` : ""}: ${number(span.end_s - span.start_s)} s\nfrom ${number(span.start_s)} s to ${number(span.end_s)} s`; } },
      series: [{ type: "custom", encode: { x: [1, 2], y: 0 }, data: view.spans.map((span, i) => [lanes.indexOf(span.lane), span.start_s, span.end_s, i]), progressive: 1000,
        renderItem: (params, api) => {
          const [x, y] = api.coord([api.value(1), api.value(0)]);
          const [end] = api.coord([api.value(2), api.value(0)]);
          const height = Math.min(20, api.size([0, 1])[1] * 0.7);
          const box = params.coordSys, left = Math.max(x, box.x), right = Math.min(end, box.x + box.width);
          if (right < left) return null;
          return { type: "rect", shape: { x: left, y: y - height / 2, width: Math.max(right - left, 0.7), height }, style: { fill: colour(tones[view.spans[api.value(3)].what] ?? "dim"), opacity: 0.8 } };
        } }],
    });
    return el("section", { id: "timeline" }, el("h2", {}, "When which process worked"),
      el("p", { class: "dim" }, `Compiles in orange, runs in blue, comparisons in green; behind each lane the share of the time that it worked. Spans are ${view.spans_from}. Zoom with the slider, or with Ctrl and the wheel.`),
      chart("Timeline of compile workers and runs", options, { click: ({ data }) => { const place = data && view.spans[data[3]].trial >= 0 ? placeOf(view, view.spans[data[3]].trial) : undefined; if (place !== undefined) select(place); } }, Math.min(620, 28 * lanes.length + 110)));
  }

  function batches() {
    if (!view.batches.length) return null;
    const node = el("div", { tabindex: 0, "aria-label": "batches" });
    const plain = (write) => (cell) => document.createTextNode(write(cell.getValue()));
    queueMicrotask(() => new Tabulator(node, {
      data: view.batches.map((one) => ({ ...one })), index: "number", maxHeight: 380, layout: "fitColumns", rowHeight: 28, selectableRows: false,
      columns: [["number", "batch", 86, String], ["at_s", "asked at", 112, seconds], ["kind", "task", 100, String], ["trials", "configs", 104, String], ["failed", "failed", 92, String], ["best_ms", `best ${view.unit}`, 100, number]].map(([field, name, width, write]) => ({ field, title: "", titleFormatter: title(name), width, sorter: field === "kind" ? "string" : "number", hozAlign: field === "kind" ? "left" : "right", formatter: plain(write), sorterParams: { alignEmptyValues: "bottom" } }))
        .concat([{ field: "why", title: "", titleFormatter: title("why"), sorter: "string", minWidth: 360, formatter: plain(String), tooltip: (_, cell) => el("span", {}, cut(cell.getValue(), 600)) }]),
    }));
    return el("section", { id: "batches" }, el("h2", {}, "Why each batch was proposed"), node);
  }

  // The page

  const SECTIONS = [["summary", "Summary", summary], ["history", "Best so far", history], ["importance", "What matters", importance], ["parallel", "Parallel coordinates", parallel], ["configs", "Configs", configs], ["finalists", "Finalists", finalists], ["failures", "Failures", failures], ["timeline", "Timeline", timeline], ["batches", "Batches", batches]];
  function build() {
    for (const entry of charts) { near.unobserve(entry.node); entry.chart?.dispose(); }
    charts.length = 0;
    table = null;
    brushed = null;
    view = views[shown];
    const built = SECTIONS.map(([id, words, make]) => [id, words, make()]).filter(([, , node]) => node);
    const themes = ["auto", "light", "dark"];
    const theme = el("button", { type: "button", onclick: () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]) }, "theme");
    const which = views.length > 1 ? el("select", { "aria-label": "which search the sections show", onchange: (event) => { shown = Number(event.target.value); build(); } }, ...views.map((one, i) => el("option", { value: i, selected: i === shown }, `${i + 1}: ${one.title}`))) : null;
    const paused = sessionStorage.getItem("paused") === "yes";
    const renew = live ? el("button", { type: "button", "aria-pressed": String(paused), onclick: (event) => { const now = sessionStorage.getItem("paused") !== "yes"; sessionStorage.setItem("paused", now ? "yes" : "no"); event.target.setAttribute("aria-pressed", String(now)); } }, "pause") : null;
    page.replaceChildren(
      el("header", {}, el("h1", {}, views.map((one) => one.title).join(" and "), views.length === 1 ? el("span", { class: `badge ${view.state}` }, view.state === "unfinished" && live ? "running" : view.state) : null), el("p", { class: "dim" }, views.map((one) => one.path).join(" and "))),
      el("nav", { "aria-label": "sections" }, el("div", {}, ...built.map(([id, words]) => el("a", { href: `#${id}` }, words)), el("span", { class: "space" }), which, renew, theme)),
      el("main", {}, ...built.map(([, , node]) => node)));
  }
  function setTheme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    redraw();
  }
  let waiting = 0, width = window.innerWidth;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (width !== window.innerWidth) for (const { chart: drawn } of charts) drawn?.resize();
      width = window.innerWidth;
    }, 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // Paper shows pictures of the charts, in light colours; a canvas cannot follow the width of the paper.
  addEventListener("beforeprint", () => {
    const before = document.documentElement.dataset.theme ?? "auto";
    document.documentElement.dataset.theme = "light";
    for (const entry of charts) {
      draw(entry);
      if (!entry.chart) continue;
      entry.picture = el("img", { src: entry.chart.getDataURL({ pixelRatio: 2, backgroundColor: "#ffffff" }), alt: "" });
      entry.node.append(entry.picture);
    }
    addEventListener("afterprint", () => { for (const entry of charts) entry.picture?.remove(); setTheme(before); }, { once: true });
  });
  build();
  if (live) setInterval(() => { if (sessionStorage.getItem("paused") !== "yes" && document.visibilityState === "visible") location.reload(); }, live * 1000);
})();
