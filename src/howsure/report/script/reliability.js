// Stated probability (right) against the share correct (up); grey bars count the answers.

const MANY = 20;

function reliability(data, state) {
  const shown = data.reliability.filter((d) => {
    const [model, method] = data.columns[d.column];
    return d.before === (state.before && d.both) && state.models.has(model) && state.methods.has(method);
  });
  return make("div", { class: "panels dense" }, ...shown.map((d) => reliabilityPanel(data, d)));
}

function reliabilityPanel(data, diagram) {
  const [m, k] = data.columns[diagram.column];
  const [model, method] = [data.models[m], data.methods[k]];
  const [side, left, foot] = [150, 24, 18];
  const x = (v) => left + v * (side - left - 6);
  const y = (v) => 6 + (1 - v) * (side - foot - 6);
  const most = Math.max(...diagram.bins.map((b) => b[1]));
  const parts = [0, 0.5, 1].flatMap((v) => [
    line(x(0), y(v), x(1), y(v), "rule"),
    draw("text", { x: left - 4, y: y(v) + 3, class: "tick end", text: short(v) }),
    draw("text", { x: x(v), y: side - 5, class: "tick middle", text: short(v) }),
  ]);
  for (const [bin, count] of diagram.bins) {
    const height = 0.25 * (side - foot) * (count / most);
    const where = { x: x(bin / 10) + 0.5, y: y(0) - height, width: x(0.1) - x(0) - 1, height };
    parts.push(draw("rect", { ...where, class: "count" }));
  }
  parts.push(line(x(0), y(0), x(1), y(1), "diagonal"));
  for (const [, count, p, accuracy, low, high] of diagram.bins) {
    const [at, pale] = [x(p / UNIT), count < MANY ? " few" : ""];
    parts.push(draw("line", { x1: at, x2: at, y1: y(low / UNIT), y2: y(high / UNIT), class: `band${pale}` }));
    const said = `${count} answers stated ${number(p / UNIT)} on average; ${number(accuracy / UNIT)} correct`;
    const dot = { cx: at, cy: y(accuracy / UNIT), r: 3, fill: method.colour, class: `dot${pale}` };
    parts.push(draw("circle", dot, draw("title", { text: said })));
  }
  const label = `${model.label}, ${method.label}: ECE ${number(diagram.ece / UNIT)}, ${diagram.n} answers`;
  const picture = draw("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label }, ...parts);
  const caption = make(
    "figcaption",
    {},
    make("span", { text: data.methods.length === 1 ? model.label : `${model.label} · ${method.label}` }),
    make("span", { class: "note", text: ` ECE ${short(diagram.ece / UNIT)}, n ${diagram.n}` }),
  );
  return make("figure", {}, caption, picture);
}
