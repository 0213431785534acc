"""The whole outline as a map of nested rectangles: real buttons, so that keyboard and screen reader work."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from ui.layout import Rectangle

_CSS = """
.map { position: relative; width: 100%; border-radius: var(--st-base-radius, 0.6rem); overflow: hidden; }
.map button {
  position: absolute; box-sizing: border-box; border: 1px solid rgba(255, 255, 255, 0.55); border-radius: 0.3rem;
  padding: 0.2rem 0.35rem; overflow: hidden; text-align: left; vertical-align: top; cursor: pointer; color: #fff;
  font: 500 0.72rem/1.2 var(--st-font); display: flex; align-items: flex-start;
}
.map span { max-width: 100%; max-height: 100%; overflow: hidden; text-overflow: ellipsis; }
.map button.top { font-weight: 700; font-size: 0.8rem; }
.map button:not(.head, .tall) span { display: -webkit-box; -webkit-box-orient: vertical; }
.map button.head span { white-space: nowrap; }
.map button.tall span { writing-mode: vertical-rl; }
.map button:hover, .map button:focus-visible {
  filter: brightness(1.18); outline: 2px solid var(--st-text-color); outline-offset: -2px;
}
.map button[aria-pressed="true"] { outline: 3px solid #fff; outline-offset: -4px; }
"""

_JS = """
const LINE = 13.9, ACROSS = 12, ALONG = 7;  // pixels: a line of text, and a box's padding and border on each axis

// A narrow box whose longest word would be cut has its title written downwards, if there is more room that way. No line
// is shown in part: what does not fit ends in an ellipsis, or is cut between lines where it is written downwards.
function fitNames(map) {
  const boxes = [...map.querySelectorAll("button:not(.head)")];
  for (const box of boxes) {
    box.classList.remove("tall");
    box.firstChild.style.cssText = "";
  }
  const seen = boxes.map((box) => [box, box.clientWidth, box.clientHeight, box.firstChild.scrollWidth]);
  for (const [box, wide, high, needed] of seen) {
    const tall = needed > wide - ACROSS + 2 && high > wide;
    box.classList.toggle("tall", tall);
    const style = box.firstChild.style;
    if (tall) style.maxWidth = `${Math.max(1, Math.floor((wide - ACROSS + 4) / LINE)) * LINE}px`;
    else style.webkitLineClamp = String(Math.max(1, Math.floor((high - ALONG) / LINE)));
  }
}

export default function ({ data, setTriggerValue, parentElement }) {
  let map = parentElement.querySelector(".map");
  if (!map) {
    map = document.createElement("div");
    map.className = "map";
    parentElement.appendChild(map);
    new ResizeObserver(() => fitNames(map)).observe(map);
  }
  map.style.height = data.height + "px";
  if (map.dataset.sig !== data.sig) {
    map.replaceChildren(...data.boxes.map((box, place) => {
      const button = document.createElement("button");
      button.className = box.level === 0 ? "top" : "";
      if (box.level === 0 && data.boxes[place + 1]?.level === 1) button.classList.add("head");
      const name = document.createElement("span");
      name.textContent = box.title;
      button.appendChild(name);
      button.title = box.title;
      button.setAttribute("aria-label", box.aria);
      button.dataset.id = box.id;
      button.style.cssText = `left:${box.x}%;top:${box.y}%;width:${box.w}%;height:${box.h}%;background:${box.colour}`;
      return button;
    }));
    map.dataset.sig = data.sig;
    fitNames(map);
  }
  for (const button of map.children) {
    button.setAttribute("aria-pressed", String(button.dataset.id === data.selected));
    button.onclick = () => setTriggerValue("picked", button.dataset.id);
  }
  map.dataset.ready = "1";
}
"""

_component = component("genatlas_map", css=_CSS, js=_JS)

_COLOURS = (
    "#4f46e5", "#0f766e", "#b45309", "#9f1239", "#075985", "#4d7c0f",
    "#7c3aed", "#a16207", "#155e75", "#c2410c", "#86198f", "#15803d",
)  # fmt: skip
"""One for each section, dark enough for white text (contrast at least 4.5 : 1)."""


def section_colour(place: int) -> str:
    """The colour of the section at this place of the outline."""
    return _COLOURS[place % len(_COLOURS)]


def topic_map(
    boxes: Sequence[Rectangle],
    colour_of: Callable[[Rectangle], str],
    key: str,
    height: int,
    selected: str,
    on_picked: Callable[[str], None],
) -> None:
    """Draw the map; a click calls `on_picked(topic id)`."""

    def picked() -> None:
        state: Any = st.session_state.get(key)
        topic_id = state.get("picked") if state else None
        if topic_id:
            on_picked(str(topic_id))

    drawn = [
        {
            "id": box.topic.id,
            "title": box.topic.title,
            "aria": f"{box.topic.title}, in {box.topic.title_path[-2]}" if box.topic.parent else box.topic.title,
            "level": box.level,
            "x": round(100 * box.x, 3),
            "y": round(100 * box.y, 3),
            "w": round(100 * box.width, 3),
            "h": round(100 * box.height, 3),
            "colour": colour_of(box),
        }
        for box in boxes
    ]
    sig = f"{boxes[0].topic.id}:{len(boxes)}" if boxes else "empty"
    _component(
        key=key, data={"boxes": drawn, "sig": sig, "height": height, "selected": selected}, on_picked_change=picked
    )
