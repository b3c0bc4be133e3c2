// Sets light or dark before the first paint, so it is a plain script in the head. Without a choice the system decides.
(() => {
  const KEY = "myelin.theme";
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  let chosen = "system";
  try {
    chosen = localStorage.getItem(KEY) ?? "system";
  } catch {
    // Storage is off: the system decides.
  }
  apply(chosen);
  window.myelinTheme = {
    read: () => chosen,
    choose(theme) {
      chosen = theme;
      apply(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It holds until the page is left.
      }
    },
  };
})();
