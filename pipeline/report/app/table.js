// Tables sort by the column whose head is pressed: numbers as numbers, what is empty last.

function value(cell) {
  const said = cell.textContent.trim();
  const found = said.replaceAll(",", "").match(/^[-−+]?\d*\.?\d+(e[-+]?\d+)?/i);
  if (found) return Number(found[0].replace("−", "-"));
  return said === "-" || said === "–" || said === "" ? null : said;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other));
}

export function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
      const [known, empty] = [rows.filter(([v]) => v !== null), rows.filter(([v]) => v === null)];
      known.sort(([one], [other]) => (down ? -1 : 1) * compare(one, other));
      body.append(...[...known, ...empty].map(([, row]) => row));
    });
  });
}
