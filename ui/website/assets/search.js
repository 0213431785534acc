// The search page: MiniSearch over titles, aliases, questions and summaries, loaded when somebody searches.
"use strict";

const SHOWN = 30;
const GREEK = {
  α: "alpha", β: "beta", γ: "gamma", δ: "delta", ε: "epsilon", ϵ: "epsilon", ζ: "zeta", η: "eta", θ: "theta", ι: "iota",
  κ: "kappa", λ: "lambda", μ: "mu", ν: "nu", ξ: "xi", π: "pi", ρ: "rho", σ: "sigma", ς: "sigma", τ: "tau", υ: "upsilon",
  φ: "phi", ϕ: "phi", χ: "chi", ψ: "psi", ω: "omega", "√": " sqrt ", "∇": " nabla ",
};
const STOP_WORDS = new Set((
  "a about above after again all also am an and any are as at be because been before being below between both but by can " +
  "could did do does doing done down during each else ever every few for from further get gets give given go had has have " +
  "having he her here hers him his how however i if in into is it its itself just let me might more most much must my no " +
  "nor not of off on once only or other our out over own please same shall she should so some such than that the their " +
  "them then there these they thing things this those through to too under until up upon us use used uses using very via " +
  "was we were what whats when where whether which while who whom whose why will with within without would you your " +
  "compare compared define describe difference differences different differ differs discuss exactly explain explanation " +
  "meaning provide purpose regarding significance tell understand work working works"
).split(" "));

/** Symbols as words: √dₖ → sqrt dk, βₜ → betat, é → e. */
function spell(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[α-ωϕϵ√∇]/g, (sign) => GREEK[sign] ?? sign);
}

/** The words of a text; a compound gives its parts and its whole: d_k → dk, self-attention → self, attention, selfattention. */
function wordsOf(text) {
  return (spell(text).match(/[\p{L}\p{N}]+(?:[-_'.+][\p{L}\p{N}]+)*/gu) ?? []).flatMap((word) => {
    const parts = word.replace(/'s$/, "").split(/[-_'.+]/);
    return parts.length === 1 ? parts : [...parts.filter((part) => part.length > 1), parts.join("")];
  });
}

/** A word without its ending; null for one that says nothing. */
function stem(word) {
  if (STOP_WORDS.has(word)) return null;
  if (word.length < 4) return word;
  return word.replace(/ies$/, "y").replace(/(?<=[^s])s$/, "").replace(/(?<=\w{4})(?:ing|ed|es|e)$/, "");
}

/** A name as the words that it is found by. */
const keyOf = (name) => wordsOf(name).map(stem).filter(Boolean).join(" ");

/** Load a script of this folder; pages opened from a disk may load nothing else. */
function load(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `assets/${name}`;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`assets/${name} could not be loaded`));
    document.head.append(script);
  });
}

/** Everything that a search needs: the index, the topics by id, and the ids that bear a name. */
async function open() {
  await Promise.all([load("minisearch.js"), load("search-data.js")]);
  const topics = new Map();
  const named = new Map();
  for (const [id, title, aliases, questions, summary] of genatlasTopics) {
    const parent = topics.get(id.slice(0, id.lastIndexOf("/")));
    const above = parent ? [...parent.above, parent.title] : [];
    topics.set(id, { id, title, aliases, questions, summary, above });
    for (const name of [title, title.replace(/\(.*?\)/g, ""), ...aliases.split(" | ")]) {
      const key = keyOf(name);
      named.set(key, (named.get(key) ?? new Set()).add(id));
    }
  }
  const index = new MiniSearch({
    fields: ["title", "above", "aliases", "questions", "summary"],
    extractField: (topic, field) => (field === "above" ? topic.above.join(" ") : topic[field]),
    tokenize: wordsOf,
    processTerm: stem,
  });
  await index.addAllAsync([...topics.values()], { chunkSize: 100 });
  return { index, topics, named };
}

/** The topics for a query, best first: one that bears this very name leads, and of equals the higher one. */
function find({ index, topics, named }, query) {
  const bearers = named.get(keyOf(query)) ?? new Set();
  const hits = index.search(query, {
    boost: { above: 0.5 },
    fuzzy: (term) => (term.length > 4 ? 0.2 : false),
    boostDocument: (id) => (1 + 0.1 / (1 + topics.get(id).above.length)) * (bearers.has(id) ? 1.5 : 1),
  });
  return hits.map((hit) => topics.get(hit.id));
}

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

function entry(topic) {
  const href = `topics/${topic.id.split("/").map(encodeURIComponent).join("/")}.html`;
  const parts = [element("a", { href }, topic.title), " ", element("span", { className: "place" }, topic.above.join(" › "))];
  if (topic.summary) parts.push(element("p", {}, topic.summary.split(/(?<=[.?!])\s/)[0]));
  return element("li", {}, ...parts);
}

const form = document.getElementById("search");
const field = document.getElementById("query");
const status = document.getElementById("status");
const results = document.getElementById("results");
let opening = null;

async function show() {
  const query = field.value.trim();
  if (!query) {
    results.replaceChildren();
    status.textContent = "Ask in words, or by a name or a symbol: mode collapse, √dₖ, beta_t.";
    return;
  }
  if (!opening) status.textContent = "Reading the topics …";
  try {
    const found = find(await (opening ??= open()), query);
    if (query !== field.value.trim()) return; // somebody typed on; the later call shows its own
    results.replaceChildren(...found.slice(0, SHOWN).map(entry));
    const more = found.length > SHOWN ? `The best ${SHOWN} of ${found.length} topics` : found.length === 1 ? "One topic" : `${found.length} topics`;
    status.textContent = found.length ? `${more} for “${query}”` : `No topic for “${query}”`;
  } catch (error) {
    opening = null;
    status.textContent = `The search cannot run: ${error.message}.`;
  }
}

/** Keep the query in the address, so that the page can be sent to others; on a disk a browser may refuse. */
function remember() {
  try {
    history.replaceState(null, "", field.value ? `?q=${encodeURIComponent(field.value)}` : location.pathname);
  } catch {
    // the search works all the same
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  remember();
  show();
});
let waiting = 0;
field.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { remember(); show(); }, 150);
});
field.value = new URLSearchParams(location.search).get("q") ?? "";
show();
