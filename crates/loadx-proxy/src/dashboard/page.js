"use strict";
// The dashboard of LoadX. The server sends "opening" (the last minutes) and then one "tick" a second.

const byId = (id) => document.getElementById(id);
const SECONDS = 300;
const SPARKS = 60;

/** Makes an element with properties, classes and children. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key in element && !key.includes("-")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Changes a text only when it differs, so that readers of screens and selections are left in peace. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function count(value) {
  if (value >= 1e6) return (value / 1e6).toFixed(value >= 1e7 ? 0 : 1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(value >= 1e5 ? 0 : 1) + " k";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}

function time(ms) {
  if (ms === null || ms === undefined || ms === 0) return "–";
  if (ms >= 1000) return (ms / 1000).toFixed(ms >= 1e4 ? 0 : 2) + " s";
  return ms >= 100 ? Math.round(ms) + " ms" : ms >= 1 ? ms.toFixed(1) + " ms" : Math.round(ms * 1000) + " µs";
}

function span(seconds) {
  if (seconds < 60) return Math.round(seconds) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  if (seconds < 172800) return Math.floor(seconds / 3600) + " h";
  return Math.floor(seconds / 86400) + " days";
}

const clock = (at) => new Date(at).toLocaleTimeString();

// What is known.
let moments = [];
let bounds = [];
let last = null;
let paused = false;
let token = "";
let colours = {};
const sparks = new Map();

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "accent", "bad", "card"]) {
    colours[name] = style.getPropertyValue("--" + name).trim();
  }
}

// Drawing.

/** Prepares a canvas for its size on the screen. Returns the context with width and height, or nothing if it is not shown. */
function canvas(element) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [element.clientWidth, element.clientHeight];
  if (!width || !height) return null;
  if (element.width !== Math.round(width * ratio) || element.height !== Math.round(height * ratio)) {
    element.width = Math.round(width * ratio);
    element.height = Math.round(height * ratio);
  }
  const context = element.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function spark(element, values, colour) {
  const area = canvas(element);
  if (!area || values.length < 2) return;
  const { context, width, height } = area;
  const top = Math.max(...values, 1e-9);
  context.beginPath();
  values.forEach((value, index) => {
    const x = (index + SPARKS - values.length) / (SPARKS - 1) * (width - 2) + 1;
    const y = height - 2 - value / top * (height - 5);
    if (index === 0) context.moveTo(x, y);
    else context.lineTo(x, y);
  });
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke();
}

function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.9999);
}

const LEFT = 52;
const BELOW = 20;

/** Where the moment of this place lies: each second has its place, also those without a measurement. */
function column(moment, width) {
  const newest = moments.length ? moments[moments.length - 1].at : 0;
  return width - 6 - (newest - moment.at) / 1000 / SECONDS * (width - LEFT - 6);
}

function axis({ context, width, height }, labels) {
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = colours.soft;
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  context.textAlign = "right";
  for (const [text, y] of labels) {
    context.fillText(text, LEFT - 6, y + 4);
    context.beginPath();
    context.moveTo(LEFT, y + 0.5);
    context.lineTo(width - 6, y + 0.5);
    context.stroke();
  }
  context.textAlign = "center";
  for (const minutes of [0, 1, 2, 3, 4, 5]) {
    const x = width - 6 - minutes * 60 / SECONDS * (width - LEFT - 6);
    const text = minutes ? `-${minutes} min` : "now";
    context.textAlign = minutes ? "center" : "right";
    if (width > 420 || minutes % 2 === 0) context.fillText(text, Math.max(x, LEFT + 8), height - 5);
  }
}

function drawRate() {
  const area = canvas(byId("rate"));
  if (!area) return;
  const { context, width, height } = area;
  const top = roundUp(Math.max(1, ...moments.map((moment) => moment.figures.rate)));
  const up = (value) => height - BELOW - value / top * (height - BELOW - 8);
  axis(area, [0, 0.25, 0.5, 0.75, 1].map((share) => [count(share * top), up(share * top)]));
  for (const [key, colour] of [["rate", colours.accent], ["errors", colours.bad]]) {
    context.beginPath();
    let former = null;
    for (const moment of moments) {
      const x = column(moment, width);
      if (x < LEFT) continue;
      // A gap stays a gap.
      if (former === null || moment.at - former > 5000) context.moveTo(x, up(moment.figures[key]));
      else context.lineTo(x, up(moment.figures[key]));
      former = moment.at;
    }
    context.strokeStyle = colour;
    context.lineWidth = 1.8;
    context.stroke();
  }
}

/** The rows of the heat map that have requests, with one empty row on either side. */
function rows() {
  const sums = moments.reduce((sums, { heat }) => sums.map((sum, row) => sum + heat[row]), Array(bounds.length + 1).fill(0));
  const first = sums.findIndex((sum) => sum > 0);
  if (first < 0) return [4, 10];
  let end = sums.length - 1;
  while (sums[end] === 0) end -= 1;
  return [Math.max(0, first - 1), Math.min(bounds.length, Math.max(end + 1, first + 4))];
}

function drawHeat() {
  const area = canvas(byId("heat"));
  if (!area || !bounds.length) return;
  const { context, width, height } = area;
  const [low, high] = rows();
  const size = (height - BELOW - 6) / (high - low + 1);
  const y = (row) => height - BELOW - (row - low + 1) * size;
  const labels = [];
  for (let row = low; row <= high; row += size < 14 ? 2 : 1) {
    if (row < bounds.length) labels.push([time(bounds[row]), y(row)]);
  }
  axis(area, labels);
  const most = Math.max(1, ...moments.map(({ heat }) => Math.max(...heat)));
  const step = Math.max(1.2, (width - LEFT - 6) / SECONDS + 0.4);
  context.fillStyle = colours.accent;
  for (const moment of moments) {
    const x = column(moment, width);
    if (x < LEFT) continue;
    moment.heat.forEach((value, row) => {
      if (!value || row < low || row > high) return;
      context.globalAlpha = 0.12 + 0.88 * Math.sqrt(value / most);
      context.fillRect(x - step, y(row) + 0.5, step, size - 1);
    });
  }
  context.globalAlpha = 1;
}

/** Tells in words what lies under the pointer. */
function reading(id, tell) {
  const element = byId(id);
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect();
    const x = event.clientX - box.left;
    const near = moments.reduce((best, moment) => {
      const far = Math.abs(column(moment, box.width) - x);
      return best === null || far < best.far ? { far, moment } : best;
    }, null);
    say(byId(id + "-reading"), near && near.far < 8 ? tell(near.moment, event.clientY - box.top, box.height) : "");
  });
  element.addEventListener("pointerleave", () => say(byId(id + "-reading"), ""));
}

// The summary.

const TILES = [
  ["rate", "Requests/s", (total) => total.rate, count],
  ["errors", "Errors/s", (total) => total.errors, count],
  ["p50", "Half within", (total) => total.p50, time],
  ["p99", "99 % within", (total) => total.p99, time],
];

function showTiles(state) {
  const tiles = byId("tiles");
  if (!tiles.children.length) {
    for (const [key, title] of [...TILES, ["backends", "In rotation"], ["connections", "Connections"]]) {
      tiles.append(make("div", { class: "tile", id: "tile-" + key },
        make("span", { class: "soft" }, title), make("b", {}, "–"),
        make("canvas", { "aria-hidden": "true" })));
    }
  }
  const figures = moments.length ? moments[moments.length - 1].figures : null;
  for (const [key, , value, text] of TILES) {
    const tile = byId("tile-" + key);
    const values = moments.slice(-SPARKS).map((moment) => value(moment.figures));
    if (figures) say(tile.children[1], text(value(figures)));
    spark(tile.children[2], values, key === "errors" ? colours.bad : colours.accent);
  }
  byId("tile-errors").classList.toggle("alarm", Boolean(figures && figures.errors > 0));
  const backends = byId("tile-backends");
  say(backends.children[1], `${state.admitted} / ${state.backends}`);
  backends.classList.toggle("alarm", state.admitted < state.backends);
  const known = remember("connections", state.connections);
  say(byId("tile-connections").children[1], count(state.connections));
  spark(byId("tile-connections").children[2], known, colours.accent);
}

function remember(key, value) {
  const values = sparks.get(key) || [];
  values.push(value);
  if (values.length > SPARKS) values.shift();
  sparks.set(key, values);
  return values;
}

// The way of requests.

let wayShape = "";

function node(name, detail, rate, leads) {
  return make("div", { class: "node" }, make("span", {}, name),
    make("span", { class: "soft" }, `${detail}${count(rate)}/s`),
    ...(leads ? [make("span", { class: "soft leads" }, "→ " + leads)] : []));
}

function showWay(state) {
  // Of many routes the busiest are shown.
  const routes = [...state.routes].sort((a, b) => b.rate - a.rate).slice(0, 30);
  const shown = state.routes.filter((route) => routes.includes(route));
  const clusters = state.clusters.slice(0, 30);
  const fill = (id, nodes, more) => {
    byId(id).replaceChildren(...nodes, ...(more > 0 ? [make("p", { class: "soft" }, `and ${more} more`)] : []));
  };
  fill("way-listeners", state.listeners.map((listener) =>
    node(listener.name, listener.tls ? "TLS " : "", listener.rate, "")), 0);
  fill("way-routes", shown.map((route) =>
    node(route.name, "", route.rate, route.clusters.join(", ") || "LoadX itself")), state.routes.length - shown.length);
  fill("way-clusters", clusters.map((cluster) =>
    node(cluster.name, `${cluster.admitted}/${cluster.count} `, cluster.figures.rate, "")), state.clusters.length - clusters.length);
  drawEdges(state, shown, clusters);
}

function drawEdges(state, routes, clusters) {
  const way = byId("way");
  const shape = JSON.stringify([way.clientWidth, way.clientHeight, state.listeners.map((listener) => [listener.name, listener.rate > 0]),
    routes.map((route) => [route.name, route.clusters, route.rate > 0]), clusters.map((cluster) => cluster.name)]);
  if (shape === wayShape) return;
  wayShape = shape;
  const edges = byId("edges");
  edges.replaceChildren();
  const box = way.getBoundingClientRect();
  const edge = (from, to, busy) => {
    if (!from || !to) return;
    const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
    const [x1, y1] = [a.right - box.left, a.top + a.height / 2 - box.top];
    const [x2, y2] = [b.left - box.left, b.top + b.height / 2 - box.top];
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const middle = (x1 + x2) / 2;
    path.setAttribute("d", `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`);
    if (busy) path.setAttribute("class", "busy");
    edges.append(path);
  };
  routes.forEach((route, place) => {
    const to = byId("way-routes").children[place];
    state.listeners.forEach((listener, at) =>
      edge(byId("way-listeners").children[at], to, route.rate > 0 && listener.rate > 0 && state.listeners.length === 1));
    for (const name of route.clusters) {
      edge(to, byId("way-clusters").children[clusters.findIndex((cluster) => cluster.name === name)], route.rate > 0);
    }
  });
}

// The clusters and their backends.

const COLUMNS = ["Backend", "State", "Share", "Requests/s", "Errors/s", "Average", "In flight", "Last minute", "Why"];
const LOOKS = { up: "good", down: "bad", ejected: "bad", drained: "away", unproven: "warn", "not probed": "away" };
const shownClusters = new Map();

function makeCluster(cluster) {
  const parts = {
    title: make("h3", {}, cluster.name),
    word: make("p", { class: "pill" }),
    facts: make("p", { class: "soft" }),
    body: make("tbody"),
    more: make("p", { class: "soft" }),
    rows: new Map(),
  };
  const head = make("thead", {}, make("tr", {}, ...COLUMNS.map((title) => make("th", { scope: "col" }, title))));
  const caption = make("caption", { class: "skip" }, `Backends of the cluster ${cluster.name}`);
  parts.section = make("section", { class: "cluster" },
    make("header", {}, parts.title, parts.word, parts.facts),
    make("div", { class: "scroll" }, make("table", {}, caption, head, parts.body)), parts.more);
  return parts;
}

function makeRow(cluster, backend) {
  const cell = (label, properties, ...children) =>
    make("td", { ...properties, ...(label ? { "data-label": label } : {}) }, ...children);
  const row = {
    word: make("span", { class: "pill" }), share: make("span"), bar: make("i"), rate: make("span"), errors: make("span"),
    average: make("span"), flight: make("span"), spark: make("canvas", { "aria-hidden": "true" }), why: make("span"),
    drain: make("button", { type: "button" }), weight: make("input", { type: "number", min: 1, max: 1000 }),
  };
  const weigh = make("button", { type: "button" }, "Set weight");
  row.weight.setAttribute("aria-label", `Weight of ${backend.name}`);
  weigh.addEventListener("click", () => act(cluster, backend.name, { weight: row.weight.value }));
  row.drain.addEventListener("click", () => act(cluster, backend.name, { drain: String(row.drain.dataset.drain === "true") }));
  row.tools = make("div", { class: "tools" }, row.drain, row.weight, weigh);
  row.tr = make("tr", {},
    cell("", { class: "name", title: backend.address }, backend.name),
    cell("", { class: "state" }, row.word),
    cell("Share", {}, make("span", {}, row.share, make("span", { class: "bar", "aria-hidden": "true" }, row.bar))),
    cell("Requests/s", {}, row.rate), cell("Errors/s", {}, row.errors), cell("Average", {}, row.average),
    cell("In flight", {}, row.flight), cell("Last minute", {}, row.spark),
    cell("", { class: "why" }, row.why, row.tools));
  return row;
}

function showRow(row, cluster, backend) {
  const { figures } = backend;
  say(row.word, backend.state);
  row.word.className = "pill " + (LOOKS[backend.state] || "away");
  const share = cluster.figures.rate > 0 ? figures.rate / cluster.figures.rate : 0;
  say(row.share, cluster.figures.rate > 0 ? Math.round(share * 100) + " %" : "–");
  row.bar.style.width = Math.min(100, share * 100) + "%";
  say(row.rate, count(figures.rate));
  say(row.errors, count(figures.errors));
  say(row.average, time(figures.average));
  say(row.flight, backend.limit === null ? String(backend.in_flight) : `${backend.in_flight} of ${backend.limit}`);
  spark(row.spark, remember(cluster.name + "\n" + backend.name, figures.rate), figures.errors > 0 ? colours.bad : colours.accent);
  const weight = backend.weight === 1 ? "" : `, weight ${backend.weight}`;
  const drained = backend.drained ? "gets no new requests; " : "";
  say(row.why, `${drained}${backend.reason} (since ${span(backend.since)}${weight})`);
  row.tools.hidden = !token;
  say(row.drain, backend.drained ? "Serve again" : "Drain");
  row.drain.dataset.drain = String(!backend.drained);
  if (document.activeElement !== row.weight) row.weight.value = backend.weight;
}

function showClusters(state) {
  const place = byId("clusters");
  const names = new Set(state.clusters.map((cluster) => cluster.name));
  for (const [name, parts] of shownClusters) {
    if (!names.has(name)) {
      parts.section.remove();
      shownClusters.delete(name);
    }
  }
  for (const cluster of state.clusters) {
    let parts = shownClusters.get(cluster.name);
    if (!parts) {
      parts = makeCluster(cluster);
      shownClusters.set(cluster.name, parts);
      place.append(parts.section);
    }
    const { figures } = cluster;
    const word = cluster.admitted === cluster.count ? "healthy" : cluster.admitted ? "degraded" : "down";
    say(parts.word, `${cluster.admitted} of ${cluster.count} in rotation`);
    parts.word.className = "pill " + { healthy: "good", degraded: "warn", down: "bad" }[word];
    const facts = [cluster.algorithm, `${count(figures.rate)} requests/s`, `${count(figures.errors)} errors/s`,
      `p50 ${time(figures.p50)}`, `p90 ${time(figures.p90)}`, `p99 ${time(figures.p99)}`];
    if (cluster.waiting) facts.push(`${cluster.waiting} requests wait`);
    if (cluster.breaker && cluster.breaker !== "closed") facts.push(`circuit breaker ${cluster.breaker}`);
    say(parts.facts, facts.join(" · "));
    const known = new Set(cluster.backends.map((backend) => backend.name));
    for (const [name, row] of parts.rows) {
      if (!known.has(name)) {
        row.tr.remove();
        parts.rows.delete(name);
      }
    }
    for (const backend of cluster.backends) {
      let row = parts.rows.get(backend.name);
      if (!row) {
        row = makeRow(cluster.name, backend);
        parts.rows.set(backend.name, row);
        parts.body.append(row.tr);
      }
      showRow(row, cluster, backend);
    }
    const hidden = cluster.count - cluster.backends.length;
    say(parts.more, hidden > 0 ? `and ${hidden} more; loadx ctl backends shows all` : "");
  }
}

// Events, header, actions.

let newestEvent = "";

function showEvents(events) {
  const newest = events.length ? JSON.stringify(events[events.length - 1]) + events.length : "";
  if (!events.length || newest === newestEvent) return;
  newestEvent = newest;
  byId("events").replaceChildren(...[...events].reverse().map((event) =>
    make("li", { class: event.warning ? "warning" : "" },
      make("time", { dateTime: new Date(event.at).toISOString() }, clock(event.at)), event.text)));
}

function showHeader(state) {
  const word = byId("word");
  say(word, paused ? "paused" : state.word);
  word.className = "pill " + (paused ? "warn" : { healthy: "good", degraded: "warn" }[state.word] || "bad");
  say(byId("facts"), `version ${state.version} · up ${span(state.uptime)} · plan ${state.generation}`);
  document.title = `${state.word === "healthy" ? "" : "(!) "}LoadX: ${state.word}`;
  const failure = byId("failure");
  failure.hidden = !state.failure;
  say(failure, state.failure ? "The last config could not be applied: " + state.failure : "");
}

function show() {
  if (!last) return;
  showHeader(last.state);
  showTiles(last.state);
  drawRate();
  drawHeat();
  showWay(last.state);
  showClusters(last.state);
  showEvents(last.events);
}

let toastTimer = 0;

function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}

async function act(cluster, backend, change) {
  const query = new URLSearchParams({ cluster, backend, ...change });
  try {
    const response = await fetch("/__dashboard__/backend?" + query.toString().replaceAll("+", "%20"), {
      method: "POST", headers: { Authorization: "Bearer " + token },
    });
    const text = await response.text();
    toast(response.ok ? text : `Not done: ${text}`);
    if (response.status === 401) setToken("");
  } catch (error) {
    toast("Not done: LoadX does not answer");
  }
}

function setToken(value) {
  token = value;
  byId("token").value = "";
  say(byId("operate"), token ? "Operating" : "Operate…");
  show();
}

function start() {
  readColours();
  byId("pause").addEventListener("click", (event) => {
    paused = !paused;
    event.currentTarget.setAttribute("aria-pressed", String(paused));
    say(event.currentTarget, paused ? "Go on" : "Pause");
    show();
  });
  const dialog = byId("dialog");
  byId("operate").addEventListener("click", () => dialog.showModal());
  byId("dialog-close").addEventListener("click", () => dialog.close());
  byId("token-forget").addEventListener("click", () => { setToken(""); dialog.close(); });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token").value.trim());
    dialog.close();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); show(); });
  new ResizeObserver(() => { wayShape = ""; show(); }).observe(document.body);
  reading("rate", ({ at, figures }) =>
    `${clock(at)}: ${count(figures.rate)} requests/s, ${count(figures.errors)} errors/s, p99 ${time(figures.p99)}`);
  reading("heat", ({ at, heat }, y, height) => {
    const [low, high] = rows();
    const row = low + Math.floor((height - BELOW - y) / ((height - BELOW - 6) / (high - low + 1)));
    if (row < low || row > high) return "";
    const from = row === 0 ? "0" : time(bounds[row - 1]);
    return `${clock(at)}: ${heat[row]} requests took ${from} to ${row < bounds.length ? time(bounds[row]) : "longer"}`;
  });
  listen();
}

/** Follows the stream. A browser reconnects by itself unless it was refused; then the page tries again later. */
function listen() {
  const source = new EventSource("/__dashboard__/stream");
  source.addEventListener("opening", (event) => {
    document.body.classList.remove("stale");
    const opening = JSON.parse(event.data);
    moments = opening.moments || [];
    bounds = opening.bounds || bounds;
  });
  source.addEventListener("tick", (event) => {
    document.body.classList.remove("stale");
    const tick = JSON.parse(event.data);
    moments.push(tick.total);
    bounds = tick.bounds;
    const oldest = tick.total.at - SECONDS * 1000;
    moments = moments.filter((moment) => moment.at >= oldest);
    if (paused) return;
    last = tick;
    show();
  });
  source.addEventListener("error", () => {
    document.body.classList.add("stale");
    const isClosed = source.readyState === EventSource.CLOSED;
    say(byId("word"), isClosed ? "not available" : "reconnecting");
    byId("word").className = "pill bad";
    if (isClosed) setTimeout(listen, 5000);
  });
}

start();
