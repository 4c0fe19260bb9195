// Orders the rows of a list by dragging them at their handles, with mouse, pen or finger.
//
// Nothing but the order in the document changes; who listens saves it. Escape puts all back.

const EDGE_PX = 70; // this near to the window's edge the page scrolls along
const SCROLL_PX = 14;

// `began()`, then `ended(row, moved)` or `cancelled(row)`.
export function dragToOrder(list, { began, ended, cancelled }) {
  let drag = null; // {row, handle, pointer, restY, before}

  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest(".camera-handle");
    if (!handle || event.button !== 0 || drag) return;
    const row = handle.closest("li");
    handle.setPointerCapture(event.pointerId);
    drag = { row, handle, pointer: event.pointerId, restY: event.pageY, before: order() };
    row.classList.add("dragged");
    began();
  });

  list.addEventListener("pointermove", (event) => {
    if (drag?.pointer !== event.pointerId) return;
    const { row } = drag;
    const { previousElementSibling: above, nextElementSibling: below } = row;
    if (below && event.pageY > middle(below)) swap(() => row.before(below));
    else if (above && event.pageY < middle(above)) swap(() => row.after(above));
    row.style.translate = `0 ${event.pageY - drag.restY}px`;
    if (event.clientY < EDGE_PX) scrollBy(0, -SCROLL_PX);
    else if (event.clientY > innerHeight - EDGE_PX) scrollBy(0, SCROLL_PX);
  });

  list.addEventListener("pointerup", (event) => {
    if (drag?.pointer !== event.pointerId) return;
    const { row, before } = finish();
    ended(
      row,
      order().some((each, index) => each !== before[index]),
    );
  });

  list.addEventListener("pointercancel", putBack);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !drag) return;
    event.preventDefault();
    putBack();
  });

  function putBack() {
    if (!drag) return;
    const { row, before } = finish();
    list.append(...before);
    cancelled(row);
  }

  // The row rests elsewhere now: the pointer is as far from there as from where it was.
  function swap(change) {
    const from = drag.row.offsetTop;
    change();
    drag.restY += drag.row.offsetTop - from;
  }

  function finish() {
    const finished = drag;
    drag = null;
    finished.row.classList.remove("dragged");
    finished.row.style.translate = "";
    if (finished.handle.hasPointerCapture(finished.pointer)) {
      finished.handle.releasePointerCapture(finished.pointer);
    }
    return finished;
  }

  function order() {
    return [...list.children];
  }
}

function middle(row) {
  const { top, height } = row.getBoundingClientRect();
  return top + scrollY + height / 2;
}
