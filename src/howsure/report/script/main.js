// Every section of a format gets its controls and pictures; what the filters exclude goes from all.

function legend(data, state) {
  const items = data.methods.map((method, k) => {
    if (!state.methods.has(k)) return null;
    const swatch = make("span", { class: "swatch" });
    swatch.style.backgroundColor = method.colour;
    return make("li", {}, swatch, make("span", { text: method.label }));
  });
  return make("ul", { class: "legend", "aria-label": "Colours of the methods" }, ...items);
}

function key(data, state, quantity) {
  const better = quantity.better === "lower" ? "lower is better" : "higher is better";
  const parts = [`${quantity.label} ${quantity.note}; ${better}.`];
  if (state.view !== "values") return `${tally(data, state)} Blue: A is better; brown: B is; no colour: can't tell.`;
  parts.push(quantity.metric === "auroc" ? "Dark blue: good; brown: below chance (0.5)." : "Dark blue: good.");
  if (quantity.floor) parts.push("Dot: not distinguishable from perfect at this n.");
  return parts.join(" ");
}

function section(page, data, place) {
  let state = newState(data);
  const parts = Object.fromEntries(
    ["controls", "filters", "key", "heatmap", "bars", "reliability", "risk"].map((name) => [name, make("div")]),
  );
  parts.key.setAttribute("role", "status");
  const redraw = (changes) => {
    state = { ...state, ...changes };
    const opened = parts.filters.querySelector("details")?.open;
    const focus = focused(place);
    const quantity = quantityOf(data, state);
    hideTooltip();
    put(parts.controls, controls(data, state, redraw));
    put(parts.filters, filters(data, state, redraw));
    if (opened) parts.filters.querySelector("details").open = true;
    const said = make("p", { class: "note", text: key(data, state, quantity) });
    put(parts.key, said, state.view === "values" ? scale(page, quantity) : null);
    put(parts.heatmap, heatmap(page, data, state, redraw));
    put(parts.bars, titled(`Means over subjects: ${quantity.label}`, legend(data, state), bars(data, state)));
    put(parts.reliability, data.reliability.length ? reliabilityPart(data, state, redraw) : null);
    put(parts.risk, data.risk.length ? riskPart(data, state) : null);
    if (focus != null) [...place.querySelectorAll(FOCUSABLE)][focus]?.focus();
  };
  redraw({});
  place.append(...Object.values(parts));
}

const FOCUSABLE = ".controls select, .controls button, .controls input, .filters input, thead button";

// The index of the control in focus: it is made anew and must not lose the reader's place.
function focused(place) {
  const index = [...place.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  return index < 0 ? null : index;
}

function put(place, ...children) {
  place.replaceChildren(...children.filter(Boolean));
}

function titled(text, ...children) {
  return make("div", {}, make("h3", { text }), ...children);
}

function reliabilityPart(data, state, redraw) {
  const both = data.reliability.some((d) => d.both);
  return titled(
    "Reliability",
    make("p", { class: "note", text: data.reliabilityNote }),
    both ? tick("before calibration", state.before, (before) => redraw({ before })) : null,
    reliability(data, state),
  );
}

function riskPart(data, state) {
  return titled(
    "Wrong answers among the surest",
    make("p", { class: "note", text: data.riskNote }),
    legend(data, state),
    risk(data, state),
  );
}

function start() {
  const page = JSON.parse(document.getElementById("data").textContent);
  document.documentElement.classList.add("live");
  document.body.append(tooltip);
  page.formats.forEach((data, i) => section(page, data, document.getElementById(`explore-${i}`)));
}

start();
