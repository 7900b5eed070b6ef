// Sets the theme that was chosen last before anything is painted. Runs before the modules do.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("kontor.theme");
  } catch {
    // Storage may be refused: then the system's theme holds.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
