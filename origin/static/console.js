// Asks for the progress of a change until there is nothing more to come. Without this script the page reloads itself.
"use strict";

const shown = document.getElementById("progress");
const said = document.getElementById("said");
const WAIT_S = 0.3; // held by the origin: long enough to be quiet, short enough to show workers one by one
const LATER_MS = 2000; // after a failure

async function look() {
  while (shown.dataset.more === "yes") {
    try {
      const answer = await fetch(`${location.pathname}?part=progress&wait_s=${WAIT_S}`, { redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      shown.innerHTML = await answer.text();
      const banner = shown.querySelector("[data-verdict]");
      shown.dataset.more = banner.dataset.more;
      if (said.textContent !== banner.dataset.verdict) said.textContent = banner.dataset.verdict;
      document.title = `${banner.dataset.verdict} · nearshelf console`;
    } catch {
      // The origin restarts, the network is away, the session ended: what is shown stays, and asking goes on.
      await new Promise((resolve) => setTimeout(resolve, LATER_MS));
    }
  }
}

if (shown) look();
