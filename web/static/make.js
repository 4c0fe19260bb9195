// Makes an element: `make("p", { className: "note", ariaLabel: "…" }, "text", child)`.

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Writing what is there already would still cost a style pass.
export function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}
