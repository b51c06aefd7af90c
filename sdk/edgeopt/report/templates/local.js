"use strict";
(() => {
  const live = document.getElementById("live");
  const alive = document.getElementById("alive");
  const address = location.pathname + "?part=1";
  const pause = () => (live.querySelector(".state.running") ? 1000 : 4000);
  let last = null;

  async function ask() {
    const answer = await fetch(address, { cache: "no-store", credentials: "same-origin" });
    if (answer.status === 403) throw new Error("edgeopt ui was begun again: open the address that it printed");
    return answer.text();
  }

  function say(text) {
    alive.textContent = text;
    alive.classList.toggle("gone", text !== "");
  }

  // Only what differs is put in, so that nothing moves under a hand that reads, selects or scrolls.
  function put(text) {
    const fresh = document.createElement("main");
    fresh.innerHTML = text;
    const parts = [...fresh.children];
    const same = parts.length === live.children.length && parts.every((part, at) => part.id === live.children[at].id);
    if (!same) return live.replaceChildren(...parts);
    parts.forEach((part, at) => {
      const shown = live.children[at];
      if (part.isEqualNode(shown)) return;
      const scrolled = shown.querySelector(".log")?.scrollTop ?? 0;
      shown.replaceWith(part);
      const log = part.querySelector(".log");
      if (log) log.scrollTop = scrolled;
    });
  }

  async function follow() {
    if (!document.hidden) {
      try {
        const text = await ask();
        if (text !== last) put((last = text));
        say("");
      } catch (error) {
        say(error instanceof TypeError ? "edgeopt ui has ended; this is what it said last" : error.message);
      }
    }
    setTimeout(follow, pause());
  }

  if ("still" in live.dataset) return;
  document.addEventListener("visibilitychange", () => document.hidden || ask().then(put, () => {}));
  follow();
})();
