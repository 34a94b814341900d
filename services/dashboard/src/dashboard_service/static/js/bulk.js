// Choosing operations: row by row, all that are shown, or all that match the filter.

export class Chooser {
  constructor(form) {
    this.form = form;
    this.matching = form.querySelector("[data-choose-matching]");
    this.shown = form.querySelector("[data-choose-shown]");
    this.label = form.querySelector("[data-chosen]");
    this.actions = [...form.querySelectorAll("[data-bulk-action]")];
    document.addEventListener("change", ({ target }) => {
      if (target === this.shown) this.#each((box) => (box.checked = this.shown.checked && !box.closest("tr").hidden));
      if (target === this.shown || target === this.matching || target.name === "operation") this.tell();
    });
    this.tell();
  }

  get chosen() {
    return [...document.querySelectorAll('input[name="operation"]:checked')];
  }

  toggle(row) {
    const box = row?.querySelector('input[name="operation"]');
    if (!box) return;
    box.checked = !box.checked;
    this.tell();
  }

  chooseShown() {
    this.shown.checked = !this.shown.checked;
    this.shown.dispatchEvent(new Event("change", { bubbles: true }));
  }

  clear() {
    this.#each((box) => (box.checked = false));
    this.shown.checked = this.matching.checked = false;
    this.tell();
  }

  act(name) {
    const button = this.actions.find((each) => each.value === name);
    if (button && !button.disabled) button.click();
  }

  /** What the form says of itself. */
  tell() {
    const chosen = this.chosen;
    const count = chosen.length;
    const rows = new Set(chosen.map((box) => box.closest("tr")));
    for (const row of document.querySelectorAll(".operation.is-chosen")) row.classList.toggle("is-chosen", rows.has(row));
    for (const row of rows) row.classList.add("is-chosen");
    const all = this.matching.checked;
    const text = all ? "All that match" : count ? `${count} chosen` : "Choose all shown";
    if (this.label.textContent !== text) this.label.textContent = text;
    for (const button of this.actions) button.disabled = !all && !count;
    this.shown.indeterminate = count > 0 && !this.shown.checked;
    this.form.classList.toggle("is-active", all || count > 0);
  }

  #each(action) {
    for (const box of document.querySelectorAll('input[name="operation"]')) action(box);
  }
}
