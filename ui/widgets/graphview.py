"""The graph picture as a Streamlit component: Python gives positions, the browser draws and reports clicks."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from graph import Link
from ui.layout import Node

_BUNDLE = Path(__file__).parent.parent / "static" / "genatlas-graph.js"
_VERSION = hashlib.sha256(_BUNDLE.read_bytes()).hexdigest()[:12]

_HTML = """
<div class="genatlas-graph">
  <button class="unfold" aria-expanded="false">Picture of the links</button>
  <div class="canvas" tabindex="0" role="application"></div>
  <div class="tools" role="toolbar" aria-label="Picture">
    <button data-do="in" aria-label="Zoom in" title="Zoom in"><svg viewBox="0 0 16 16">
      <path d="M8 3v10M3 8h10"/></svg></button>
    <button data-do="out" aria-label="Zoom out" title="Zoom out"><svg viewBox="0 0 16 16">
      <path d="M3 8h10"/></svg></button>
    <button data-do="fit" aria-label="Show all" title="Show all"><svg viewBox="0 0 16 16">
      <path d="M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3"/></svg></button>
    <button data-do="save" aria-label="Save as PNG" title="Save as PNG"><svg viewBox="0 0 16 16">
      <path d="M8 2v8M4.5 7 8 10.5 11.5 7M3 13.5h10"/></svg></button>
  </div>
  <div class="live" aria-live="polite"></div>
</div>
"""

_CSS = """
.genatlas-graph {
  position: relative; border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius, 0.6rem);
  --kind-centre: var(--st-primary-color);
  --kind-before: #b45309; --kind-after: #0f766e; --kind-parent: #64748b; --kind-child: #6366f1;
  --kind-compare: #be185d; --kind-concept: #0369a1; --kind-other: #94a3b8; --kind-star: #f59e0b;
  background: radial-gradient(closest-side, color-mix(in srgb, var(--st-primary-color) 7%, transparent), transparent);
}
.genatlas-graph.dark {
  --kind-before: #f0a04b; --kind-after: #2dd4bf; --kind-parent: #94a3b8; --kind-child: #818cf8;
  --kind-compare: #f472b6; --kind-concept: #38bdf8; --kind-other: #64748b;
}
.unfold {
  display: none; width: 100%; padding: 0.7rem 1rem; border: 0; background: none; color: var(--st-text-color);
  font: inherit; text-align: left; cursor: pointer;
}
.unfold::before { content: "›"; display: inline-block; width: 1rem; font-weight: 700; }
.open .unfold::before { transform: rotate(90deg) translateX(0.1rem); }
@media (max-width: 640px) {
  .unfold { display: block; }
  .genatlas-graph:not(.open) :is(.canvas, .tools) { display: none; }
  .tools { top: 3.4rem; }
}
.canvas { width: 100%; outline-offset: -3px; border-radius: inherit; }
.canvas:focus-visible { outline: 2px solid var(--st-primary-color); }
.tools { position: absolute; top: 0.8rem; right: 0.8rem; display: flex; gap: 0.3rem; }
.tools button {
  width: 2rem; height: 2rem; border: 1px solid var(--st-border-color); border-radius: 0.5rem; cursor: pointer;
  background: var(--st-background-color); color: var(--st-text-color); padding: 0.4rem;
}
.tools svg { display: block; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round; }
.tools button:hover { border-color: var(--st-primary-color); }
.live { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""

# The bundle is fetched once and kept by the browser; an inline bundle would travel with every changed picture.
_JS = f"""
let loaded;
export default function (component) {{
  const root = component.parentElement.querySelector(".genatlas-graph");
  const back = getComputedStyle(root).getPropertyValue("--st-background-color").trim();
  const number = parseInt(back.slice(1, 7), 16);
  const light = ((number >> 16) + ((number >> 8) & 255) + (number & 255)) > 384;
  root.classList.toggle("dark", !light);
  loaded ??= import(new URL("app/static/{_BUNDLE.name}?v={_VERSION}", document.baseURI).href);
  let end;
  let ended = false;
  loaded.then((bundle) => {{ if (!ended) end = bundle.mount(component); }});
  return () => {{ ended = true; end?.(); }};
}}
"""

_component = component("genatlas_graph", html=_HTML, css=_CSS, js=_JS)

_GAP = 6
"""From the edge of a node to its label."""


def graph(
    nodes: Sequence[Node],
    links: Sequence[Link],
    key: str,
    height: int,
    aria: str,
    on_picked: Callable[[str], None],
    on_opened: Callable[[str], None],
    labels: bool = True,
) -> None:
    """Draw a picture. A click or Enter calls `on_picked(topic id)`; a double click or Shift+Enter `on_opened`.

    The same nodes and links leave the drawing with its zoom and pan alone.
    With `labels` each node has its own, where its position says; without, those are named whose names fit.
    On a narrow screen the picture is folded until it is asked for.
    """
    drawn = [_node(node) for node in nodes]
    edges = [
        {
            "id": f"{link.kind}:{link.source}>{link.target}",
            "source": link.source,
            "target": link.target,
            "kind": link.kind,
        }
        for link in links
    ]
    data: dict[str, Any] = {"nodes": drawn, "edges": edges, "centre": drawn[0]["id"] if drawn else None}
    sig = hashlib.sha256(repr((drawn, edges)).encode()).hexdigest()[:16]

    def picked() -> None:
        _report(key, "picked", on_picked)

    def opened() -> None:
        _report(key, "opened", on_opened)

    _component(
        key=key,
        data=data | {"sig": sig, "name": key, "height": height, "aria": aria, "small": not labels},
        on_picked_change=picked,
        on_opened_change=opened,
    )


def _report(key: str, event: str, tell: Callable[[str], None]) -> None:
    state: Any = st.session_state.get(key)
    topic_id = state.get(event) if state else None
    if topic_id:
        tell(str(topic_id))


def _node(node: Node) -> dict[str, Any]:
    title = node.topic.title
    label = title if node.role == "centre" or len(title) <= 28 else f"{title[:27].rstrip()}…"
    # The drawing puts a label beside its node and turns it there: shifted, it begins where its own direction points.
    radius, reach = node.size / 2, node.size / 2 + _GAP
    sign = {"left": -1, "right": 1, "center": 0}[node.side]
    mx = sign * (reach * math.cos(node.tilt) - radius)
    my = 4 if sign == 0 else sign * reach * math.sin(node.tilt)
    return {
        "id": node.topic.id,
        "title": title,
        "label": label,
        "kind": node.role,
        "starred": node.topic.starred,
        "x": round(node.x, 1),
        "y": round(node.y, 1),
        "size": node.size,
        "font": node.font,
        "tilt": round(node.tilt, 3),
        "halign": node.side,
        "mx": round(mx, 1),
        "my": round(my, 1),
    }
