// Asks for the service's bearer token.

import { ServiceError } from "./service.js";

const FITS_A_HEADER = /^[\x21-\x7e]+$/; // as the service's own tokens do
let asked = null; // several requests may be refused together: one dialog is enough

/**
 * @param refused Whether another token was tried.
 * @param message What the service said.
 * @returns {Promise<string>} the token; rejects where the user gives none.
 */
export function askToken(refused, message) {
  asked ??= ask(refused, message).finally(() => {
    asked = null;
  });
  return asked;
}

async function ask(refused, message) {
  const [dialog, said, field] = ["token", "token-said", "token-text"].map((id) => document.getElementById(id));
  for (;;) {
    said.textContent = refused ? "The service did not take that token: try again" : "";
    field.value = dialog.returnValue = "";
    dialog.showModal();
    await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
    const token = field.value.trim();
    field.value = "";
    if (dialog.returnValue !== "use") throw new ServiceError(message, 401);
    if (FITS_A_HEADER.test(token)) return token;
    refused = true;
  }
}
