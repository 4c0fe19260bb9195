// Sets the theme before anything is painted. A classic script: modules run too late for that.
(() => {
  const chosen = localStorage.getItem("moodline-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
