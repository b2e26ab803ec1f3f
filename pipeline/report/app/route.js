// The address says what is shown: #/view, #/image/<data set>/<shard>/<key>?a=...&k=3.

const VIEWS = ["overview", "images", "image", "mistakes", "failures", "provenance"];
const shown = new Map();

export function parsed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/").map(decodeURIComponent);
  return { view: VIEWS.includes(view) ? view : "overview", id: rest.join("/"), query: new URLSearchParams(query) };
}

export function address(view, id = "", query = {}) {
  const path = [view, ...(id ? id.split("/") : [])].map(encodeURIComponent).join("/");
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null)).toString();
  return `#/${path}${asked ? `?${asked}` : ""}`;
}

// Change the address without a step in the history, and without showing anything anew.
export const replaced = (view, id, query) => history.replaceState(null, "", address(view, id, query));

// `show` is called with what the address says whenever it names the view.
export const onView = (view, show) => shown.set(view, show);

export function start() {
  document.documentElement.classList.add("js");
  const go = (moved) => {
    const asked = parsed();
    for (const view of VIEWS) document.getElementById(view).classList.toggle("shown", view === asked.view);
    for (const link of document.querySelectorAll("nav a")) {
      const mine = link.getAttribute("href") === `#/${asked.view === "image" ? "images" : asked.view}`;
      if (mine) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    shown.get(asked.view)?.(asked);
    if (moved) {
      scrollTo(0, 0);
      document.getElementById("main").focus({ preventScroll: true });
    }
  };
  addEventListener("hashchange", () => go(true));
  go(false);
}
