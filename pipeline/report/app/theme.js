// Light and dark: what the system prefers until somebody chooses.

const KEY = "pixel-quorum-theme";
const root = document.documentElement;

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // pages from disk may have no storage
  }
}

export function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = (name) => {
    root.dataset.theme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", name === "dark" ? "Light colours" : "Dark colours");
    document.dispatchEvent(new CustomEvent("theme"));
  };
  const preferred = () => remembered() ?? (system.matches ? "dark" : "light");
  show(preferred());
  system.addEventListener("change", () => show(preferred()));
  button.addEventListener("click", () => {
    const name = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // it holds until the page is closed
    }
    show(name);
  });
}

export const isDark = () => root.dataset.theme === "dark";
export const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
