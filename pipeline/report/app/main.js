// The page comes alive: theme, tables, curves, views.
import { curves } from "./curves.js";
import { images, mistakes } from "./gallery.js";
import { image } from "./replay.js";
import { onView, start } from "./route.js";
import { sortable } from "./table.js";
import { theme } from "./theme.js";

theme();
document.querySelectorAll("table.sortable").forEach(sortable);
onView("images", images);
onView("image", image);
onView("mistakes", mistakes);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
start();
document.querySelectorAll("[data-chart]").forEach(curves);
