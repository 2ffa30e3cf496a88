// The audit page: sort, search, open, play. Without it the page can still be read.
"use strict";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // Tables: an item is a row, or where rows belong together (an audit and its details) their tbody.
  const itemsOf = (table) =>
    table.dataset.items === "bodies" ? [...table.tBodies] : [...table.tBodies[0].rows];

  const cellOf = (item, column) => (item.rows ? item.rows[0] : item).cells[column];

  const valueOf = (item, column, isNumber) => {
    const cell = cellOf(item, column);
    if (cell.classList.contains("none")) return null;
    if (isNumber) return Number(cell.dataset.value);
    return cell.dataset.value ?? cell.textContent;
  };

  function sortTable(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const isNumber = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const first = isNumber ? "descending" : "ascending";
    const other = isNumber ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const keyed = itemsOf(table).map((item) => [valueOf(item, column, isNumber), item]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (isNumber ? a - b : collator.compare(a, b));
    });
    for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const parent = table.dataset.items === "bodies" ? table : table.tBodies[0];
    parent.append(...keyed.map(([, item]) => item));
  }

  function filterTable(box) {
    const table = box.querySelector("table");
    const words = box.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chip = box.querySelector(".chips [aria-pressed=true]");
    const state = chip ? chip.dataset.state : "";
    const items = itemsOf(table);
    let shown = 0;
    for (const item of items) {
      const text = item.textContent.toLowerCase();
      const fits = (!state || item.dataset.state === state) && words.every((word) => text.includes(word));
      item.hidden = !fits;
      shown += fits;
    }
    const output = box.querySelector("output");
    output.textContent = shown === items.length ? output.dataset.all : `${shown} of ${output.dataset.all}`;
  }

  for (const box of all(".box")) {
    const table = box.querySelector("table");
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = head.querySelector("button");
      if (button) button.addEventListener("click", () => sortTable(table, column));
    });
    box.querySelector("input").addEventListener("input", () => {
      filterTable(box);
    });
    const chips = all(":scope > .tools .chips button", box);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        const pressed = chip.getAttribute("aria-pressed") === "true";
        for (const each of chips) each.setAttribute("aria-pressed", "false");
        chip.setAttribute("aria-pressed", String(!pressed));
        filterTable(box);
      });
    }
  }

  // Audits
  const setOpen = (toggle, open) => {
    toggle.setAttribute("aria-expanded", String(open));
    document.getElementById(toggle.getAttribute("aria-controls")).hidden = !open;
  };
  for (const row of all("tr.summary")) {
    const toggle = row.querySelector(".toggle");
    row.addEventListener("click", (event) => {
      const chosen = String(window.getSelection());
      if (chosen && !event.target.closest("button")) return;
      setOpen(toggle, toggle.getAttribute("aria-expanded") !== "true");
    });
  }
  for (const button of all("[data-open-all]")) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Close all" : "Open all";
      for (const toggle of all(".toggle")) setOpen(toggle, open);
    });
  }
  const copy = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  for (const button of all("[data-copy]")) {
    button.addEventListener("click", async () => {
      try {
        await copy(button.parentElement.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select it and copy";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // Clips
  const clips = JSON.parse(document.getElementById("clips").textContent);
  const player = document.querySelector(".player");
  const audio = player.querySelector("audio");
  let current = null;
  const mark = () => {
    for (const button of all(".play")) {
      const playing = button.dataset.clip === current && !audio.paused && !audio.ended;
      button.classList.toggle("playing", playing);
      button.textContent = playing ? "❚❚" : "▶";
    }
  };
  for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, mark);
  const describe = (clip) => {
    const [title, text] = player.querySelectorAll("bdi");
    title.textContent = clip.id;
    text.textContent = clip.text ?? "";
    const cut = clip.seconds < clip.whole - 0.01 ? `the first ${clip.seconds.toFixed(1)} s of ` : "";
    const note = clip.note ? `, ${clip.note}` : "";
    player.querySelector("span").textContent = `${clip.language}, ${cut}${clip.whole.toFixed(1)} s${note}`;
  };
  for (const button of all(".play")) {
    button.addEventListener("click", async () => {
      if (button.dataset.clip === current && !audio.paused) return audio.pause();
      if (button.dataset.clip !== current) {
        current = button.dataset.clip;
        audio.src = clips[current].address;
        describe(clips[current]);
        player.hidden = false;
      }
      try {
        await audio.play();
      } catch (error) {
        if (error.name !== "AbortError") {
          player.querySelector("span").textContent = `This browser does not play it: ${error.message}`;
        }
      }
    });
  }
  const closePlayer = () => {
    audio.pause();
    player.hidden = true;
  };
  player.querySelector("[data-close]").addEventListener("click", closePlayer);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !player.hidden) closePlayer();
  });

  // Plots
  for (const key of all(".key")) {
    key.addEventListener("click", () => {
      const shown = key.getAttribute("aria-pressed") !== "true";
      for (const same of all(`.key[data-series="${key.dataset.series}"]`)) same.setAttribute("aria-pressed", String(shown));
      for (const line of all(`svg [data-series="${key.dataset.series}"], figure[data-series="${key.dataset.series}"]`)) {
        line.style.display = shown ? "" : "none";
      }
    });
  }
  for (const button of all("[data-apart]")) {
    button.addEventListener("click", () => {
      const apart = button.closest("section").classList.toggle("apart");
      button.setAttribute("aria-pressed", String(apart));
    });
  }

  // Side
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const sections = all("main section[id]");
  const follow = () => {
    const atEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2;
    const begun = sections.filter((each) => each.getBoundingClientRect().top < 120);
    const top = (atEnd && window.scrollY > 0 ? sections : begun).at(-1) ?? sections[0];
    for (const [id, link] of links) {
      link.classList.toggle("here", id === top.id);
      if (id === top.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let asked = false;
  document.addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; follow(); });
  }, { passive: true });
  follow();
})();
