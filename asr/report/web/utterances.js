// References and hypotheses, the list of utterances, and drawings that follow the sound. Whatever comes from data is put
// into the page as text alone. Of data: decodings and examples, with rows as asr/report/decodings.py makes them.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25;
  const GONE = "—";

  function element(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  // An utterance: pairs of its alignment as [reference, hypothesis, mark], and counts.
  function utterance([id, reference, marks, wrong, confidence], place) {
    const said = reference ? reference.split(" ") : [], heard = wrong ? wrong.split(" ") : [];
    let s = 0, h = 0;
    const pairs = [...marks].map(mark => {
      const ref = mark === "I" ? "" : said[s++];
      return [ref, mark === "=" ? ref : mark === "D" ? "" : heard[h++], mark];
    });
    const errors = pairs.filter(pair => pair[2] !== "=").length;
    return {id, place, pairs, errors, words: said.length, confidence, rate: errors / Math.max(said.length, 1)};
  }

  const text = (pairs, side, unit) => pairs.map(pair => pair[side]).filter(Boolean).join(unit === "char" ? "" : " ");

  function aligned(one, unit) {
    const box = element("div", unit);
    const line = element("p", "pairs");
    line.setAttribute("aria-hidden", "true");
    for (const [ref, hyp, mark] of one.pairs) {
      line.append(element("span", mark === "=" ? "pair" : `pair ${mark}`, element("b", "", ref || GONE), element("i", "", hyp || GONE)), " ");
    }
    const told = {S: (r, h) => `${r} recognised as ${h}`, D: r => `${r} left out`, I: (r, h) => `${h} added`};
    const wrong = one.pairs.filter(pair => pair[2] !== "=").map(([ref, hyp, mark]) => told[mark](ref, hyp));
    const spoken = `Reference: ${text(one.pairs, 0, unit) || "nothing"}. ` +
      (wrong.length ? `Recognised: ${text(one.pairs, 1, unit) || "nothing"}. Errors: ${wrong.join("; ")}.` : "Recognised without an error.");
    box.append(line, element("p", "unseen", spoken));
    return box;
  }

  const percent = one => `${(100 * one.rate).toFixed(1)} %`;
  const counted = one => `${one.errors} ${one.errors === 1 ? "error" : "errors"} in ${one.words} (${percent(one)})`;

  for (const place of document.querySelectorAll("[data-example]")) {
    for (const {label, unit, row} of data.examples[place.dataset.example]) {
      const one = utterance(row, 0);
      place.append(element("p", "whose", label ? `${label}: ${counted(one)}` : counted(one)), aligned(one, unit));
    }
  }

  // Drawings: a line where the sound is, and a click that goes there.
  for (const article of document.querySelectorAll(".example")) {
    const sound = article.querySelector("audio"), drawing = article.querySelector("svg.drawing");
    if (!sound || !drawing) continue;
    const left = Number(drawing.dataset.left), scale = Number(drawing.dataset.scale);
    const cursor = drawing.querySelector(".cursor"), height = drawing.viewBox.baseVal.height;
    const show = () => cursor.setAttribute("d", `M${left + sound.currentTime * scale} 0V${height}`);
    const follow = () => { show(); if (!sound.paused && !sound.ended) requestAnimationFrame(follow); };
    sound.addEventListener("play", follow);
    sound.addEventListener("seeked", show);
    drawing.addEventListener("click", event => {
      const box = drawing.getBoundingClientRect();
      sound.currentTime = Math.max(((event.clientX - box.left) * drawing.viewBox.baseVal.width / box.width - left) / scale, 0);
    });
  }

  // The list.
  const chosen = document.getElementById("decoding");
  if (!chosen) return;
  const beside = document.getElementById("beside"), form = document.getElementById("list-controls");
  const list = document.getElementById("list"), found = document.getElementById("found");
  const turns = [...document.querySelectorAll("[data-turn]")];
  const controls = form.elements;
  const parsed = new Map();
  const heard = data.heard.map(places => new Map(Object.entries(places)));  // of each set
  let page = 0, pair = null, matches = [];

  function utterances(index) {
    if (!parsed.has(index)) parsed.set(index, data.decodings[index].rows.map(utterance));
    return parsed.get(index);
  }

  const ORDERS = {
    errors: (a, b) => b.errors - a.errors || b.rate - a.rate, rate: (a, b) => b.rate - a.rate || b.errors - a.errors,
    file: (a, b) => a.place - b.place, id: (a, b) => a.id < b.id ? -1 : 1, words: (a, b) => b.words - a.words,
    confidence: (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2),
  };

  function other() {
    if (!beside || beside.value === "") return null;
    return new Map(utterances(Number(beside.value)).map(one => [one.id, one]));
  }

  const same = (a, b, unit) => text(a.pairs, 1, unit) === text(b.pairs, 1, unit);

  function select() {
    const index = Number(chosen.value), unit = data.decodings[index].unit, others = other();
    const wanted = controls.find.value.trim().toLowerCase();
    matches = utterances(index).filter(one =>
      (!controls.wrong.checked || one.errors) &&
      (!pair || one.pairs.some(([ref, hyp, mark]) => mark !== "=" && ref === pair[0] && hyp === pair[1])) &&
      (!others || !controls.differing.checked || !others.has(one.id) || !same(one, others.get(one.id), unit)) &&
      (!wanted || one.id.toLowerCase().includes(wanted) || text(one.pairs, 0, unit).toLowerCase().includes(wanted) ||
        text(one.pairs, 1, unit).toLowerCase().includes(wanted)));
    matches.sort((a, b) => ORDERS[controls.order.value](a, b) || a.place - b.place);
    page = 0;
    show();
  }

  function item(one, unit, others) {
    const head = element("div", "head", element("bdi", "id", one.id), element("span", "", counted(one)));
    if (one.confidence != null) head.append(element("span", "", `confidence ${one.confidence.toFixed(2)}`));
    const example = heard[data.decodings[Number(chosen.value)].set]?.get(one.id);
    if (example != null) {
      const link = element("a", "", "see and hear", element("span", "unseen", ` ${one.id}`));
      link.href = `#example-${example}`;
      head.append(link);
    }
    const made = element("li", "", head, aligned(one, unit));
    const second = others?.get(one.id);
    if (second) made.append(element("p", "whose", `${beside.selectedOptions[0].textContent}: ${counted(second)}`), aligned(second, unit));
    return made;
  }

  function show() {
    const decoding = data.decodings[Number(chosen.value)], others = other();
    const pages = Math.max(Math.ceil(matches.length / PAGE), 1);
    list.start = page * PAGE + 1;
    list.replaceChildren(...matches.slice(page * PAGE, (page + 1) * PAGE).map(one => item(one, decoding.unit, others)));
    const listed = decoding.rows.length < decoding.total
      ? `${decoding.rows.length} listed of ${decoding.total}: the half with most errors, and others at random` : `${decoding.total}`;
    found.textContent = `${matches.length} of ${listed} ${decoding.total === 1 ? "utterance" : "utterances"}`;
    document.getElementById("page").textContent = `page ${page + 1} of ${pages}`;
    turns.forEach(button => { button.disabled = button.dataset.turn < 0 ? page === 0 : page + 1 >= pages; });
  }

  function choose() {
    const index = Number(chosen.value);
    for (const one of document.querySelectorAll(".confusions")) one.hidden = Number(one.dataset.decoding) !== index;
    if (beside) {
      const others = data.decodings.map((one, n) => [one, n]).filter(([one, n]) => n !== index && one.set === data.decodings[index].set);
      const none = element("option", "", others.length ? "none" : "none of the same utterances");
      none.value = "";
      beside.replaceChildren(none, ...others.map(([one, n]) => {
        const choice = element("option", "", one.label);
        choice.value = n;
        return choice;
      }));
      form.querySelector(".beside").hidden = true;
      controls.differing.checked = false;
    }
    only(null);
  }

  function only(wanted) {
    pair = wanted;
    controls.pair.hidden = !pair;
    if (pair) {
      const what = pair[0] && pair[1] ? `${pair[0]} → ${pair[1]}` : pair[0] ? `${pair[0]} deleted` : `${pair[1]} inserted`;
      controls.pair.textContent = `only with ${what} ✕`;
      controls.pair.setAttribute("aria-label", `only with ${what}: remove`);
    }
    select();
  }

  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", select);
  controls.pair.addEventListener("click", () => { only(null); controls.find.focus(); });
  chosen.addEventListener("change", choose);
  beside?.addEventListener("change", () => {
    form.querySelector(".beside").hidden = beside.value === "";
    if (beside.value === "") controls.differing.checked = false;
    select();
  });
  for (const button of document.querySelectorAll(".counts button")) {
    button.addEventListener("click", () => {
      only([button.dataset.ref, button.dataset.hyp]);
      document.getElementById("utterances").scrollIntoView();
      controls.pair.focus({preventScroll: true});
    });
  }
  for (const button of turns) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.turn);
      show();
      document.getElementById("utterances").scrollIntoView();
    });
  }
  choose();
})();
