// The graph picture: cytoscape drawn into the component's element, positions from Python, colours from the theme.
//
// mount(component) is called on each render of the component. It keeps one cytoscape instance per element: the same
// `sig` leaves the picture, zoom and pan alone; a new one adds and removes the difference.
import cytoscape from "cytoscape";

const instances = new WeakMap();
const MIN_FONT = 6; // smaller labels are not drawn
const NAME = 12; // pixels of a name's letters where names keep their size on the screen
const NAME_WIDTH = 150; // longer names are broken into lines
const NARROW = 520; // a picture of fewer pixels has no room for labels beside every node
const SIDES = ["below", "right", "left", "above"]; // where a name may stand beside its node

export function mount({ data, setTriggerValue, parentElement, key }) {
  const root = parentElement.querySelector(".genatlas-graph");
  let view = instances.get(root);
  if (!view) {
    view = create(root, data.name);
    instances.set(root, view);
  }
  view.emit = setTriggerValue;
  draw(view, data);
  return () => {
    if (!root.isConnected) destroy(root);
  };
}

function destroy(root) {
  const view = instances.get(root);
  if (!view) return;
  view.watch.disconnect();
  view.cy.destroy();
  instances.delete(root);
}

function create(root, name) {
  const canvas = root.querySelector(".canvas");
  const cy = cytoscape({
    container: canvas,
    layout: { name: "preset" },
    minZoom: 0.15,
    maxZoom: 4,
    wheelSensitivity: 0.3,
    boxSelectionEnabled: false,
    autoungrabify: true,
  });
  const view = { cy, root, canvas, sig: "", focus: null, taken: null, small: false, naming: 0, emit: () => {} };
  // The first click of a double click redraws the picture, so the second may land on anything: it opens what the first
  // one took, and takes nothing itself. A touch has no click count and no dblclick; cytoscape counts its taps.
  cy.on("tap", (event) => {
    if (event.originalEvent.detail > 1) return;
    view.taken = event.target !== cy && event.target.isNode() ? event.target.id() : null;
    if (view.taken) pick(view, view.taken);
  });
  canvas.addEventListener("dblclick", () => view.taken && view.emit("opened", view.taken));
  cy.on("dbltap", "node", (event) => {
    if (event.originalEvent.type.startsWith("touch")) view.emit("opened", event.target.id());
  });
  cy.on("mouseover", "node", (event) => {
    const near = event.target.closedNeighborhood();
    cy.elements().not(near).addClass("dim");
    event.target.addClass("named");
    canvas.style.cursor = "pointer";
  });
  cy.on("mouseout", "node", () => {
    cy.elements().removeClass("dim named");
    canvas.style.cursor = "";
  });
  cy.on("viewport", () => scheduleNames(view));
  canvas.addEventListener("keydown", (event) => onKey(view, event));
  for (const button of root.querySelectorAll("[data-do]")) {
    button.onclick = () => toolbar(view, button.dataset.do);
  }
  const unfold = root.querySelector(".unfold");
  unfold.onclick = () => {
    const open = root.classList.toggle("open");
    unfold.setAttribute("aria-expanded", String(open));
  };
  view.watch = new ResizeObserver(() => {
    cy.resize();
    if (view.unfitted && canvas.clientWidth > 0) fit(view);
  });
  view.watch.observe(canvas);
  // For tests: where a node is on the page, and how many pictures are alive.
  window.__genatlas ??= {};
  window.__genatlas[name] = {
    rendered: (id) => {
      const at = cy.getElementById(id).renderedPosition();
      const box = canvas.getBoundingClientRect();
      return { x: box.left + at.x, y: box.top + at.y };
    },
    zoom: () => cy.zoom(),
    names: () => cy.nodes(".shown").map((node) => node.id()),
    overlaps: () => overlaps(cy),
    nodes: () => cy.nodes().map((node) => node.id()),
    created: (window.__genatlas[name]?.created ?? 0) + 1,
  };
  return view;
}

function draw(view, data) {
  const { cy, root, canvas } = view;
  canvas.style.height = `${data.height}px`;
  canvas.setAttribute("aria-label", data.aria);
  view.small = data.small || root.clientWidth < NARROW;
  view.css = getComputedStyle(root);
  cy.style(stylesheet(view.css, view.small));
  if (data.sig !== view.sig) {
    const wanted = new Map();
    for (const node of data.nodes) wanted.set(node.id, { group: "nodes", data: node, position: { x: node.x, y: node.y } });
    for (const edge of data.edges) {
      // Where many links leave the centre out, they step back behind those that it has.
      const far = !data.small && data.edges.length > 60 && edge.source !== data.centre && edge.target !== data.centre;
      wanted.set(edge.id, { group: "edges", data: { ...edge, far } });
    }
    cy.batch(() => {
      cy.elements().filter((element) => !wanted.has(element.id())).remove();
      for (const [id, element] of wanted) {
        const old = cy.getElementById(id);
        if (old.empty()) cy.add(element);
        else {
          old.data(element.data);
          if (element.position) old.position(element.position);
        }
      }
    });
    cy.elements().removeClass("dim keyed named");
    view.order = data.nodes.toSorted((one, other) => other.size - one.size).map((node) => node.id);
    view.sig = data.sig;
    view.focus = data.centre;
    fit(view);
  }
  scheduleNames(view);
  root.dataset.sig = data.sig;
  root.dataset.ready = "1";
}

function fit(view) {
  view.unfitted = view.canvas.clientWidth === 0;
  if (view.unfitted) return;
  const bare = () => {
    // Labels that are not shown at this size must not count for the fit.
    view.cy.nodes().addClass("bare");
    view.cy.fit(undefined, view.small ? 40 : 28);
    view.cy.nodes().removeClass("bare");
  };
  if (view.small) return bare();
  view.cy.fit(undefined, 28);
  const smallest = Math.min(...view.cy.nodes().map((node) => node.data("font")));
  if (view.cy.zoom() * smallest < MIN_FONT) bare();
}

function scheduleNames(view) {
  if (!view.small || view.naming) return;
  view.naming = requestAnimationFrame(() => {
    view.naming = 0;
    if (!view.cy.destroyed()) placeNames(view);
  });
}

// Give a name to every node whose name fits beside it: inside the picture, touching no other node and no other name.
// Large nodes, the higher topics, come first; zooming in brings out their parts.
function placeNames(view) {
  const { cy } = view;
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${NAME}px ${view.css.getPropertyValue("--st-font") || "sans-serif"}`;
  const nodes = view.order.map((id) => cy.getElementById(id));
  const taken = nodes.map((node) => {
    const { x, y } = node.renderedPosition();
    const r = node.renderedWidth() / 2 + 1;
    return { id: node.id(), left: x - r, right: x + r, top: y - r, bottom: y + r };
  });
  const [width, height] = [cy.width(), cy.height()];
  const free = (box, id) =>
    box.left >= 0 &&
    box.top >= 0 &&
    box.right <= width &&
    box.bottom <= height &&
    taken.every(
      (other) =>
        other.id === id || other.right < box.left || other.left > box.right || other.bottom < box.top || other.top > box.bottom,
    );
  cy.batch(() => {
    nodes.forEach((node, place) => {
      const id = node.id();
      const disc = taken[place];
      const [wide, high] = nameSize(pen, node.data("title"));
      const [x, y] = [(disc.left + disc.right) / 2, (disc.top + disc.bottom) / 2];
      const corner = {
        below: [x - wide / 2, disc.bottom + 2],
        above: [x - wide / 2, disc.top - 2 - high],
        right: [disc.right + 3, y - high / 2],
        left: [disc.left - 3 - wide, y - high / 2],
      };
      const box = (side) => {
        const [left, top] = corner[side];
        return { id: `${id} name`, left, top, right: left + wide, bottom: top + high };
      };
      const outward = { left: ["left", "below", "above", "right"], right: ["right", "below", "above", "left"] };
      const side = (outward[node.data("halign")] ?? SIDES).find((each) => free(box(each), id));
      node.removeClass(["shown", ...SIDES].join(" "));
      if (side) {
        taken.push(box(side));
        node.addClass(`shown ${side}`);
      }
    });
  });
  cy.style().update(); // names keep their size on the screen
}

// Names that lie on each other, as they are drawn (for tests).
function overlaps(cy) {
  const boxes = cy.nodes(".shown").map((node) => [
    node.id(),
    node.renderedBoundingBox({ includeNodes: false, includeEdges: false, includeOverlays: false }),
  ]);
  return boxes.flatMap(([id, one], place) =>
    boxes
      .slice(0, place)
      .filter(([, two]) => one.x1 + 4 < two.x2 && two.x1 + 4 < one.x2 && one.y1 + 4 < two.y2 && two.y1 + 4 < one.y2)
      .map(([other]) => [id, other]),
  );
}

function nameSize(pen, title) {
  let [lines, line, widest] = [1, 0, 0];
  for (const word of title.split(" ")) {
    const wide = pen.measureText(`${word} `).width;
    if (line > 0 && line + wide > NAME_WIDTH) [lines, line] = [lines + 1, 0];
    line += wide;
    widest = Math.max(widest, line);
  }
  return [widest + 4, lines * NAME * 1.25 + 2];
}

function pick(view, id) {
  view.focus = id;
  view.emit("picked", id);
  announce(view, id);
}

function announce(view, id) {
  const node = view.cy.getElementById(id);
  const links = node.connectedEdges().length;
  view.root.querySelector(".live").textContent = `${node.data("title")}, ${links} link${links === 1 ? "" : "s"}`;
}

function toolbar(view, action) {
  const { cy } = view;
  const middle = { x: cy.width() / 2, y: cy.height() / 2 };
  if (action === "in") cy.zoom({ level: cy.zoom() * 1.25, renderedPosition: middle });
  if (action === "out") cy.zoom({ level: cy.zoom() / 1.25, renderedPosition: middle });
  if (action === "fit") fit(view);
  if (action === "save") {
    const link = document.createElement("a");
    link.href = cy.png({ full: true, scale: 2, bg: getComputedStyle(view.root).getPropertyValue("--st-background-color") });
    link.download = "genatlas.png";
    link.click();
  }
}

function onKey(view, event) {
  const turns = { ArrowRight: 0, ArrowDown: Math.PI / 2, ArrowLeft: Math.PI, ArrowUp: -Math.PI / 2 };
  if (event.key in turns) step(view, turns[event.key]);
  else if (event.key === "Enter" && view.focus) {
    if (event.shiftKey) view.emit("opened", view.focus);
    else pick(view, view.focus);
  } else if (event.key === "+") toolbar(view, "in");
  else if (event.key === "-") toolbar(view, "out");
  else if (event.key === "0") toolbar(view, "fit");
  else return;
  event.preventDefault();
}

// Move the keyboard's focus to the nearest node in a direction (within 60 degrees of it).
function step(view, direction) {
  const from = view.cy.getElementById(view.focus ?? "");
  const start = from.empty() ? { x: 0, y: 0 } : from.position();
  let best = null;
  let cost = Infinity;
  view.cy.nodes().forEach((node) => {
    const [dx, dy] = [node.position("x") - start.x, node.position("y") - start.y];
    const length = Math.hypot(dx, dy);
    if (length < 1) return;
    const turn = Math.abs(((Math.atan2(dy, dx) - direction + 3 * Math.PI) % (2 * Math.PI)) - Math.PI);
    if (turn < Math.PI / 3 && length * (1 + turn) < cost) {
      cost = length * (1 + turn);
      best = node;
    }
  });
  if (!best) return;
  view.cy.nodes().removeClass("keyed");
  best.addClass("keyed");
  view.focus = best.id();
  announce(view, best.id());
}

function stylesheet(css, small) {
  const variable = (name) => css.getPropertyValue(name).trim();
  const text = variable("--st-text-color") || "#1b2030";
  const back = variable("--st-background-color") || "#ffffff";
  const colour = (kind) => variable(`--kind-${kind}`);
  const kinds = ["centre", "before", "after", "parent", "child", "compare", "concept", "other"];
  const named = {
    label: "data(title)",
    "font-size": (node) => NAME / node.cy().zoom(),
    "text-max-width": (node) => `${NAME_WIDTH / node.cy().zoom()}px`,
    "text-rotation": 0,
    "text-halign": "center",
    "text-valign": "bottom",
    "text-margin-x": 0,
    "text-margin-y": (node) => 3 / node.cy().zoom(),
    "text-background-opacity": 0.85,
    "z-index": 10,
  };
  const beside = (halign, valign, x, y) => ({
    "text-halign": halign,
    "text-valign": valign,
    "text-margin-x": (node) => x / node.cy().zoom(),
    "text-margin-y": (node) => y / node.cy().zoom(),
  });
  return [
    {
      selector: "node",
      style: {
        width: "data(size)",
        height: "data(size)",
        "background-color": colour("other"),
        label: small ? "" : "data(label)",
        color: text,
        "font-family": variable("--st-font") || "sans-serif",
        "font-size": "data(font)",
        "min-zoomed-font-size": MIN_FONT,
        "text-halign": "data(halign)",
        "text-valign": "center",
        "text-rotation": "data(tilt)",
        "text-margin-x": "data(mx)",
        "text-margin-y": "data(my)",
        "text-wrap": "wrap",
        "text-max-width": (node) => `${(node.data("kind") === "centre" ? 11 : 16) * node.data("font")}px`,
        "text-background-color": back,
        "text-background-opacity": 0.75,
        "text-background-padding": "1px",
      },
    },
    ...kinds.map((kind) => ({ selector: `node[kind = "${kind}"]`, style: { "background-color": colour(kind) } })),
    { selector: 'node[kind = "centre"]', style: { "font-weight": 700, "text-valign": "bottom", "text-halign": "center" } },
    { selector: "node[?starred]", style: { "border-width": 2.5, "border-color": colour("star") } },
    { selector: "node.keyed", style: { "border-width": 4, "border-color": text } },
    ...(small
      ? [
          { selector: "node.shown, node.named, node.keyed", style: named },
          { selector: "node.above", style: beside("center", "top", 0, -3) },
          { selector: "node.right", style: beside("right", "center", 4, 0) },
          { selector: "node.left", style: beside("left", "center", -4, 0) },
        ]
      : []),
    { selector: "node.bare", style: { label: "" } },
    {
      selector: "edge",
      style: { width: 1, "line-color": colour("parent"), opacity: 0.55, "curve-style": "straight" },
    },
    {
      selector: 'edge[kind = "prerequisite"]',
      style: {
        width: 1.8,
        opacity: 0.85,
        "line-color": colour("before"),
        "target-arrow-color": colour("before"),
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.9,
      },
    },
    {
      selector: 'edge[kind = "comparison"]',
      style: { width: 1.6, opacity: 0.9, "line-color": colour("compare"), "line-style": "dashed" },
    },
    {
      selector: 'edge[kind = "concept"]',
      style: { width: 1.6, opacity: 0.9, "line-color": colour("concept"), "line-style": "dotted" },
    },
    { selector: "edge[?far]", style: { opacity: 0.3 } },
    { selector: ".dim", style: { opacity: 0.14 } },
  ];
}
