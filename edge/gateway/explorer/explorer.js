// The explorer's live part: rows of requests as they happen, and the figures every two seconds. All text is set as
// text; nothing that comes from an edge is ever read as HTML.
"use strict";
(() => {
  const body = document.getElementById("requests");
  if (!body) return;
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const SHOWN = 40;
  let paused = false;

  const cell = (row, text, kind) => {
    const made = document.createElement("td");
    if (kind) made.className = kind;
    made.append(text);
    row.append(made);
    return made;
  };
  const number = (value) => (value === null || value === undefined ? "" : value.toLocaleString("en"));
  const rowOf = (request) => {
    const row = document.createElement("tr");
    cell(row, new Date(request.time * 1000).toISOString().slice(11, 23), "mono");
    const method = document.createElement("b");
    method.textContent = request.method;
    const query = Object.entries(request.query || {}).map(([name, value]) => `${name}=${value}`).join("&");
    const path = cell(row, method, "path");
    path.append(` ${request.path || request.route}${query ? `?${query}` : ""}`);
    cell(row, request.status, "number");
    const pill = document.createElement("span");
    pill.className = `pill ${request.cache}`;
    pill.textContent = request.cache;
    cell(row, pill);
    cell(row, request.reason || (request.collapsed ? "collapsed" : ""));
    cell(row, number(request.ttl), "number");
    cell(row, number(request.age), "number");
    cell(row, request.ms.toFixed(2), "number");
    cell(row, request.origin_ms === null ? "" : request.origin_ms.toFixed(1), "number");
    cell(row, request.worker.slice(0, 9), "mono");
    return row;
  };

  // Several workers tell of what they did, each a moment later than the other: put in order here.
  let held = [];
  let hidden = 0;
  const draw = () => body.replaceChildren(...held.map(rowOf));
  const add = (requests) => {
    held = [...requests, ...held].sort((one, other) => other.time - one.time).slice(0, SHOWN);
    if (!paused) draw();
  };
  const take = (message) => {
    live.classList.add("on");
    hidden += message.skipped;
    live.textContent = hidden ? `live; ${number(hidden)} more than can be shown` : "live";
    if (message.requests.length) add(message.requests);
  };
  fetch("/requests?limit=40")
    .then((answer) => (answer.ok ? answer.json() : { requests: [] }))
    .then((told) => add(told.requests))
    .catch(() => {});
  const source = new EventSource("/requests/live");
  source.onmessage = (event) => take(JSON.parse(event.data));
  source.onerror = () => {
    live.classList.remove("on");
    live.textContent = "not connected; trying again";
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) draw();
  });

  // The figures are drawn by the server alone: the page's own part is taken from a fresh copy of it.
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/?part=overview", { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of [".overview", "#state", "#position"]) {
        const [old, made] = [document.querySelector(part), fresh.querySelector(part)];
        if (old && made) old.replaceWith(document.adoptNode(made));
      }
    } catch {
      // The next time may go well; the stream says meanwhile that nothing answers.
    }
  };
  setInterval(refresh, 2000);
})();
