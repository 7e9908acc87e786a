// The shop needs no script. This one looks after browsers that keep a left page alive and show it again on "back":
// the prices of a page that is left are hidden, and a page that comes back that way is asked for anew.
addEventListener("pagehide", () => document.documentElement.classList.add("left"));
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
  else document.documentElement.classList.remove("left");
});
