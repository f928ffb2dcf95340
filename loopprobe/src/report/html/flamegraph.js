"use strict";
window.addEventListener("message", (event) => {
  // While something is marked, this takes the marks away and asks nothing.
  if (searching) search_prompt();
  if (event.data) search(String(event.data));
});
