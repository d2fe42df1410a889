// The colour theme: the system's unless the reader chose one. A classic script in the head, so that a page
// never flashes in the other theme before its modules have loaded.
(() => {
  const KEY = "ragstack.theme";
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;

  function chosen() {
    const saved = localStorage.getItem(KEY);
    return CHOICES.includes(saved) ? saved : "system";
  }

  function apply(choice) {
    if (choice === "system") delete root.dataset.theme;
    else root.dataset.theme = choice;
  }

  apply(chosen());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-button");
    const label = (choice) => {
      const wide = document.createElement("span");
      wide.className = "wide-only";
      wide.textContent = `Theme: ${choice}`;
      const narrow = document.createElement("span");
      narrow.className = "narrow-only";
      narrow.textContent = "◐";
      button.replaceChildren(wide, narrow);
      button.setAttribute("aria-label", `Theme: ${choice}`);
    };
    label(chosen());
    button.addEventListener("click", () => {
      const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length];
      localStorage.setItem(KEY, next);
      apply(next);
      label(next);
    });
  });
})();
