// Forms are sent without leaving the page; without scripts they work as forms do.

export function enhanceForms({ afterwards }) {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-enhance]")) return;
    event.preventDefault();
    const button = event.submitter;
    const label = button?.textContent.trim();
    if (form.dataset.confirm && !(await confirmed(form.dataset.confirm, label))) return;
    // Taken before the button is disabled: a disabled one says nothing.
    const fields = new FormData(form, button);
    await busy(button, async () => {
      if ("asks" in form.dataset) {
        // The server says how many it would be about.
        const answer = await post(form, fields);
        if (!answer || !(await confirmed(answer.question, label))) return;
        fields.set("confirmed", answer.count);
      }
      await send(form, fields, afterwards);
    });
  });
}

async function busy(button, work) {
  if (button) button.disabled = true;
  try {
    await work();
  } finally {
    if (button) button.disabled = false;
  }
}

async function send(form, fields, afterwards) {
  const body = await post(form, fields);
  if (!body) return;
  if ("follow" in form.dataset) return location.assign(body.location);
  toast(body.notice, body.refused ?? [], (body.refused ?? []).length > 0);
  afterwards(form);
}

/** The answer; null where there is none or it is a refusal, which has been told. */
async function post(form, fields) {
  try {
    const answer = await fetch(form.getAttribute("action"), {
      method: "POST", body: new URLSearchParams(fields), headers: { Accept: "application/json" },
    });
    const body = await answer.json();
    if (answer.ok) return body;
    toast(body.title, [body.detail, ...body.violations.map(said)], true);
  } catch {
    toast("The dashboard does not answer", ["Nothing was changed, as far as this page knows."], true);
  }
  return null;
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
