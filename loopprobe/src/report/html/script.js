"use strict";
(() => {
  const data = JSON.parse(document.getElementById("polls").textContent);
  const detail = document.getElementById("detail");

  // Everything that is shown is set as text: no name can become markup.
  const add = (parent, tag, text, className) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (className) element.className = className;
    parent.append(element);
    return element;
  };

  const onChoice = (element, action) => {
    element.addEventListener("click", action);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        action();
      }
    });
  };

  for (const row of document.querySelectorAll("#ranked .row")) {
    onChoice(row, () => {
      const more = row.nextElementSibling;
      more.hidden = !more.hidden;
      row.classList.toggle("open", !more.hidden);
    });
  }

  const show = (poll) => {
    detail.replaceChildren();
    detail.hidden = false;
    const head = add(detail, "p");
    add(head, "b", poll.duration + "  ");
    add(head, "code", data.names[poll.task]);
    add(head, "span", `  on ${poll.worker}, ${poll.at} into the session: ${poll.cause}`);
    if (poll.call !== null) {
      add(head, "span", " in ");
      add(head, "code", data.names[poll.call]);
    }
    if (!poll.ended) add(head, "span", ", still running at the end");
    if (poll.advice !== null) add(detail, "p", "Fix: " + data.names[poll.advice], "fix");
    for (const [name, value] of poll.facts) {
      const fact = add(detail, "span", data.names[name] + " ", "fact");
      add(fact, "code", data.names[value]);
    }
    for (const stack of poll.stacks) {
      add(detail, "p", `${data.names[stack.what]} ${stack.time}`, "note");
      const list = add(detail, "ol", "", "stack");
      for (const [name, place, runtime] of stack.frames) {
        const row = add(list, "li", "", runtime ? "runtime" : "own");
        add(row, "code", data.names[name]);
        if (place !== null) add(row, "small", data.names[place]);
      }
    }
    if (poll.stacks.length === 0) add(detail, "p", "No stack was taken.", "note");
  };

  // The flamegraph measures itself when it loads, so it must not load before the page has its layout.
  const flamegraph = document.getElementById("flamegraph");
  if (flamegraph) {
    window.addEventListener("load", () => requestAnimationFrame(() => {
      flamegraph.src = flamegraph.dataset.src;
    }));
    // The picture takes a regular expression; names are full of characters that mean something in one.
    document.getElementById("search").addEventListener("input", (event) => {
      const text = event.target.value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      flamegraph.contentWindow.postMessage(text, "*");
    });
  }

  for (const bar of document.querySelectorAll("[data-poll]")) {
    onChoice(bar, () => {
      for (const other of document.querySelectorAll(".chosen")) other.classList.remove("chosen");
      bar.classList.add("chosen");
      show(data.polls[Number(bar.dataset.poll)]);
    });
  }
})();
