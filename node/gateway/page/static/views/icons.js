// The few pictures of the page, drawn with the text's colour; never the only name of what they stand for.

import { html } from "../vendor/htm-preact.js";

const draw = (paths, className = "icon") => html`
  <svg class=${className} viewBox="0 0 24 24" aria-hidden="true" focusable="false">${paths.map((d) => html`<path d=${d} />`)}</svg>
`;

export const menuIcon = () => draw(["M4 7h16", "M4 12h16", "M4 17h16"]);
export const plusIcon = () => draw(["M12 5v14", "M5 12h14"]);
export const sendIcon = () => draw(["M12 19V5", "M5.5 11.5 12 5l6.5 6.5"]);
export const stopIcon = () => draw(["M7 7h10v10H7z"], "icon solid");
export const trashIcon = () => draw(["M5 7h14", "M10 4h4", "M7 7l1 13h8l1-13"]);
export const keyIcon = () => draw(["M15.5 12.5a4 4 0 1 0-3.5-3.5L4 17v3h3l1-2h2v-2h2z"]);
export const downIcon = () => draw(["M12 5v14", "M5.5 12.5 12 19l6.5-6.5"]);
