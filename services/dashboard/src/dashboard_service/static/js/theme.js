// Runs before the page is drawn, so that it is never drawn in the wrong theme.
"use strict";
{
  const stored = localStorage.getItem("waybill-theme");
  if (stored === "dark" || stored === "light") document.documentElement.dataset.theme = stored;
}
