// Asks for the service's bearer token.

import { ServiceError } from "./service.js";

let asked = null; // several requests may be refused at once: one dialog serves all

/**
 * @param refused Whether another token was tried.
 * @param message What the service said.
 * @returns {Promise<string>} the token; rejects where the user gives none.
 */
export function askToken(refused, message) {
  asked ??= new Promise((resolve, reject) => {
    const [dialog, said, field] = ["token", "token-said", "token-text"].map((id) => document.getElementById(id));
    said.textContent = refused ? "The service did not take that token: try again" : "";
    field.value = "";
    dialog.addEventListener(
      "close",
      () => {
        asked = null;
        const token = field.value.trim();
        field.value = "";
        if (dialog.returnValue === "use" && token) resolve(token);
        else reject(new ServiceError(message, 401));
      },
      { once: true },
    );
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asked;
}
