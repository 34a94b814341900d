// Forms are sent without leaving the page; without scripts they work as forms do.

export function enhanceForms({ afterwards }) {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-enhance]")) return;
    event.preventDefault();
    if (form.dataset.confirm && !(await confirmed(form.dataset.confirm, event.submitter?.textContent.trim()))) return;
    await send(form, event.submitter, afterwards);
  });
}

async function send(form, button, afterwards) {
  if (button) button.disabled = true;
  try {
    const answer = await fetch(form.action, {
      method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" },
    });
    const body = await answer.json();
    if (!answer.ok) return toast(body.title, [body.detail, ...body.violations.map(said)], true);
    if ("follow" in form.dataset) location.assign(body.location);
    else {
      toast(body.notice, []);
      afterwards();
    }
  } catch {
    toast("The dashboard does not answer", ["Nothing was changed, as far as this page knows."], true);
  } finally {
    if (button) button.disabled = false;
  }
}

function said({ field, description }) {
  return field ? `${field}: ${description}` : description;
}

function confirmed(question, action) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("[value=yes]").textContent = action || "Yes";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function toast(title, lines, bad = false) {
  const note = document.createElement("div");
  note.className = bad ? "toast bad" : "toast";
  note.setAttribute("role", bad ? "alert" : "status");
  const heading = note.appendChild(document.createElement("strong"));
  heading.textContent = title;
  for (const line of lines.filter(Boolean)) note.appendChild(document.createElement("p")).textContent = line;
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 12_000 : 4_000);
}
