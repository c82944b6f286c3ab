// Elements are made by name and filled by textContent only: no text of the data is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// "0.123", "+0.012" where signed; null (unknown) is a dash.
function number(value, digits = 3, signed = false) {
  if (value == null) return "–";
  const text = Math.abs(value).toFixed(digits);
  if (value < 0) return `−${text}`;
  return signed ? `+${text}` : text;
}

// ".12", as in the pictures.
function short(value, signed = false) {
  return number(value, 2, signed).replace(/^([+−]?)0\./, "$1.");
}

function mean(values) {
  const known = values.filter((v) => v != null);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

function option(value, text, chosen) {
  return make("option", { value, text, selected: chosen });
}

function labelled(text, control) {
  return make("label", {}, make("span", { text }), control);
}

function choice(text, values, chosen, onchange) {
  const options = values.map(([value, label]) => option(value, label, value === chosen));
  return labelled(
    text,
    make("select", { onchange: (event) => onchange(event.target.value) }, ...options),
  );
}

function tick(text, checked, onchange) {
  const box = make("input", { type: "checkbox", onchange: (e) => onchange(e.target.checked) });
  box.checked = checked;
  return make("label", { class: "tick" }, box, make("span", { text }));
}
