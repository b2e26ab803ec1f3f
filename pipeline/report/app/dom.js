// Elements in a line. Text is always text, never markup.

export function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// A labelled choice; `options` are [value, text] pairs.
export function choice(label, options, value, changed) {
  const select = element("select", { "aria-label": label, onchange: () => changed(select.value) },
    ...options.map(([key, said]) => element("option", { value: key }, said)));
  select.value = value;
  return element("label", {}, label, select);
}

export const distinct = (values) => [...new Set(values)];
export const number = (value, digits = 3) => (value === undefined || value === null ? "–" : value.toFixed(digits));
