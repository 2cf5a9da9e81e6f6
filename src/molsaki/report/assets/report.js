"use strict";
(() => {
  const PAGE = 50;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data-json").textContent);
  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };

  // ---- colours ----
  const root = document.documentElement;
  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  byId("theme").hidden = false;
  byId("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.activeElement.classList.contains("term")) document.activeElement.blur();
  });

  // ---- sections ----
  const openPart = () => {
    const part = location.hash ? byId(location.hash.slice(1)) : null;
    if (part && part.querySelector("details.part")) part.querySelector("details.part").open = true;
  };
  addEventListener("hashchange", openPart);
  document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", () => setTimeout(openPart)));
  addEventListener("beforeprint", () => document.querySelectorAll("details.part").forEach((part) => { part.open = true; }));
  openPart();

  const problems = data.problems.map((row) => ({
    set: row[0], id: row[1], question: row[2], answer: row[3], label: row[4], given: row[5], look: row[6],
    haystack: [row[1], row[2], row[3], row[4]].concat(row[5].map((one) => (one ? one[0] : ""))).join("\n").toLowerCase(),
  }));
  if (!problems.length) return;
  byId("browser").hidden = false;

  // ---- filters ----
  const option = (select, value, text) => {
    const element = make("option", text);
    element.value = value;
    select.append(element);
  };
  const choose = (id, first, names) => {
    option(byId(id), "", first);
    names.forEach((name, i) => option(byId(id), String(i), name));
  };
  choose("set", "all", data.sets);
  choose("right", "any", data.methods);
  choose("wrong", "any", data.methods);
  const seeds = [...new Set(data.students.map(([, seed]) => seed))];
  option(byId("seed"), "", "majority");
  seeds.forEach((seed) => option(byId("seed"), String(seed), String(seed)));
  if (!data.students.length) byId("filters").hidden = true;

  // Whether a method is right: by one seed, or by more than half of the seeds. Null where it did not answer.
  const isRight = (problem, method, seed) => {
    let right = 0, n = 0;
    data.students.forEach(([label, own], i) => {
      const one = problem.given[i];
      if (label !== data.methods[method] || !one || (seed !== "" && String(own) !== seed)) return;
      right += one[1];
      n += 1;
    });
    return n ? right * 2 > n : null;
  };

  let found = problems, page = 0, current = null, step = 0;
  const filter = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [set, right, wrong, seed, look] = ["set", "right", "wrong", "seed", "withlook"].map((id) => byId(id).value);
    found = problems.filter((one) =>
      (set === "" || one.set === Number(set)) &&
      (look === "" || one.look >= 0) &&
      words.every((word) => one.haystack.includes(word)) &&
      (right === "" || isRight(one, Number(right), seed) === true) &&
      (wrong === "" || isRight(one, Number(wrong), seed) === false));
    page = 0;
    showList();
    const pressed = (button) => button.dataset.right === right && button.dataset.wrong === wrong;
    byId("pairs").querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(pressed(b))));
  };
  const pairButton = (right, wrong) => {
    const button = make("button", `${data.methods[wrong]} wrong, ${data.methods[right]} right`);
    button.type = "button";
    button.dataset.right = String(right);
    button.dataset.wrong = String(wrong);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "true";
      byId("right").value = on ? "" : String(right);
      byId("wrong").value = on ? "" : String(wrong);
      filter();
    });
    byId("pairs").append(button);
  };
  const base = data.methods.indexOf(data.baseline);
  if (base >= 0) data.methods.forEach((_, i) => { if (i !== base) { pairButton(i, base); pairButton(base, i); } });
  byId("search").addEventListener("input", filter);
  ["set", "right", "wrong", "seed", "withlook"].forEach((id) => byId(id).addEventListener("change", filter));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => { byId("filters").reset(); filter(); });

  // ---- the list ----
  const showList = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const rows = found.slice(page * PAGE, (page + 1) * PAGE).map((problem) => {
      const item = make("li"), button = make("button", problem.question.slice(0, 160));
      button.type = "button";
      button.dir = "auto";
      button.setAttribute("aria-current", String(problem === current));
      button.addEventListener("click", () => { show(problem); byId("problem-title").focus(); });
      item.append(button);
      return item;
    });
    byId("list").replaceChildren(...rows);
    byId("list").scrollTop = 0;
    byId("count").textContent = `${found.length} of ${problems.length} problem${problems.length === 1 ? "" : "s"}`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page >= pages - 1;
  };
  byId("previous").addEventListener("click", () => { page -= 1; showList(); });
  byId("next").addEventListener("click", () => { page += 1; showList(); });

  // ---- one problem ----
  const trained = data.models.map((_, i) => i).filter((i) => !data.before.includes(i) && !data.teacher.includes(i));
  trained.forEach((i) => option(byId("after"), String(i), data.models[i]));
  if (trained.length) byId("after").value = String(trained[trained.length - 1]);
  byId("after-row").hidden = trained.length === 0;
  byId("after").addEventListener("change", () => drawViews());

  const show = (problem) => {
    current = problem;
    byId("list").querySelectorAll("button").forEach((button, i) =>
      button.setAttribute("aria-current", String(found[page * PAGE + i] === problem)));
    byId("problem-title").textContent = problem.id;
    byId("problem-set").textContent = data.sets[problem.set];
    byId("problem-set").hidden = data.sets[problem.set] === problem.id;
    byId("question").textContent = problem.question;
    byId("gold").replaceChildren();
    if (problem.answer) {
      const label = problem.label && problem.label !== problem.answer ? ` = ${problem.label}` : "";
      byId("gold").append(`${data.answer_name}: `, make("bdi", problem.answer + label));
    }
    const body = byId("answers").tBodies[0];
    body.replaceChildren(...data.students.map(([label, seed], i) => {
      const one = problem.given[i], row = make("tr"), head = make("th");
      head.scope = "row";
      head.append(make("bdi", `${label}, seed ${seed}`));
      const answer = make("td"), resultCell = make("td");
      answer.append(make("bdi", one ? one[0] : "–"));
      if (one) {
        const why = one[1] ? "right" : one[2] ? `wrong (${one[2].replace("_", " ")})` : "wrong";
        resultCell.append(make("span", (one[1] ? "✓ " : "✗ ") + why, one[1] ? "right" : "wrong"));
      } else resultCell.textContent = "not tested";
      row.append(head, answer, resultCell);
      return row;
    }));
    byId("answers-box").hidden = data.students.length === 0;
    const look = data.looks[problem.look];
    byId("looks").hidden = !look;
    byId("plain").hidden = Boolean(look);
    byId("nolook").hidden = Boolean(look);
    if (look) {
      byId("step").max = String(look.steps.length - 1);
      step = Math.min(1, look.steps.length - 1);
      drawViews();
    }
  };

  const moveTo = (to) => {
    const look = data.looks[current.look];
    const next = Math.max(0, Math.min(look.steps.length - 1, to));
    if (next !== step) { step = next; paint(); }
  };
  byId("step").addEventListener("input", (event) => moveTo(Number(event.target.value)));
  byId("step-back").addEventListener("click", () => moveTo(step - 1));
  byId("step-on").addEventListener("click", () => moveTo(step + 1));

  // The text of one view: sentences and keys as elements; what is drawn on them is `paint`'s.
  const textView = (look, model) => {
    const view = make("div");
    view.dataset.model = String(model);
    view.append(make("h4", data.models[model]), make("p", "", "soft"));
    [current.question, look.rationale].forEach((text, which) => {
      // Positions count code points; JavaScript's strings count UTF-16 units.
      const points = Array.from(text), box = make("div", undefined, "text");
      box.dir = "auto";
      const steps = look.steps.map((s, i) => [...s, i]).filter((s) => s[0] === which);
      const keys = look.keys.map((k, i) => [...k, i]).filter((k) => k[0] === which);
      let at = 0;
      const plain = (into, end) => { if (end > at) into.append(points.slice(at, end).join("")); at = Math.max(at, end); };
      steps.forEach(([, start, end, number]) => {
        plain(box, start);
        const sentence = make("span", undefined, "step");
        sentence.dataset.step = String(number);
        sentence.addEventListener("mouseenter", () => moveTo(number));
        sentence.addEventListener("click", () => moveTo(number));
        keys.filter((k) => k[1] >= start && k[2] <= end).forEach(([, from, to, key]) => {
          plain(sentence, from);
          const mark = make("span", points.slice(from, to).join(""), "key");
          mark.dataset.key = String(key);
          mark.append(make("sub"));
          sentence.append(mark);
          at = to;
        });
        plain(sentence, end);
        box.append(sentence);
      });
      plain(box, points.length);
      view.append(box);
    });
    return view;
  };

  const drawViews = () => {
    const look = data.looks[current.look];
    const shown = [...data.teacher, ...data.before];
    if (trained.length) shown.push(Number(byId("after").value));
    byId("views").replaceChildren(...shown.filter((i) => look.rows[i]).map((i) => textView(look, i)));
    paint();
  };

  const paint = () => {
    const look = data.looks[current.look];
    byId("step").value = String(step);
    byId("step-back").disabled = step === 0;
    byId("step-on").disabled = step === look.steps.length - 1;
    byId("step-name").textContent =
      step === 0 ? "the question" : `sentence ${step} of ${look.steps.length - 1}`;
    byId("step").setAttribute("aria-valuetext", byId("step-name").textContent);
    byId("views").childNodes.forEach((view) => {
      const model = Number(view.dataset.model), row = look.rows[model][step], facts = look.facts[model][step];
      const most = Math.max(1, ...row);
      const sum = row.reduce((total, value) => total + Math.max(0, value), 0);
      view.querySelector("p").textContent = facts
        ? `${(sum / 100).toFixed(1)} % of its attention on keys, entropy ${facts[1].toFixed(2)} bits`
        : "sees no key yet";
      view.querySelectorAll(".step").forEach((one) => one.classList.toggle("now", Number(one.dataset.step) === step));
      view.querySelectorAll(".key").forEach((mark) => {
        const value = row[Number(mark.dataset.key)];
        const strength = value > 0 ? 0.08 + 0.62 * (value / most) : 0;
        mark.style.backgroundColor = strength ? `rgba(var(--heat), ${strength.toFixed(3)})` : "transparent";
        mark.style.color = strength > 0.5 && dark() ? "#101010" : "";
        mark.querySelector("sub").textContent = value >= 0 ? (value / 100).toFixed(1) : "";
        mark.classList.toggle("top", Boolean(facts) && facts[0] === Number(mark.dataset.key));
      });
    });
  };
  byId("theme").addEventListener("click", () => { if (current && current.look >= 0) paint(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    if (current && current.look >= 0) paint();
  });

  // A page of one text has nothing to choose.
  if (!data.students.length && problems.length === 1) {
    ["filters", "pairs", "count", "list-box"].forEach((id) => { byId(id).hidden = true; });
    byId("browser").querySelector(".browser").style.gridTemplateColumns = "minmax(0, 1fr)";
  }
  filter();
  // A problem that some methods get right and others wrong, with attention if there is one.
  const parts = (one) => new Set(data.methods.map((_, i) => isRight(one, i, "")).filter((is) => is !== null)).size > 1;
  const tellsApart = problems.filter(parts);
  show(tellsApart.find((one) => one.look >= 0) || tellsApart[0] || problems.find((one) => one.look >= 0) || problems[0]);
  root.dataset.ready = "yes";
})();
