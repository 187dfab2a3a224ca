// Requests to the service. Every failure is a ServiceError with the one line of the service.

import { encodeRequest } from "./binary.js";
import { events, tensors } from "./events.js";

const TOKEN = "fusioncam-token";
const HEAD_ROOM = 4096; // bytes of a request besides the picture, at most
const UNSAID = {
  401: "the service wants a token",
  413: "the photo is larger than the service takes: shrink it, or save it as JPEG",
  502: "the service does not answer: it may be starting; try again",
  503: "the service is busy: try again in a moment",
  504: "the service took too long: try again, or choose a smaller budget",
};

export class ServiceError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export class Service {
  /** @param askToken (refused, message) => Promise<string>: asks the user; rejects where there is to be none. */
  constructor(askToken) {
    this.askToken = askToken;
  }

  settings = () => this.#json("page/settings");
  samples = () => this.#json("samples");
  models = () => this.#json("v2/repository/index", { method: "POST", body: "{}" });

  /** What a page needs to know of a model; `defaults` holds the parameters of requests that name none. */
  async config(model) {
    const { fusioncam, parameters } = await this.#json(`v2/models/${encodeURIComponent(model)}/config`);
    const defaults = Object.entries(parameters).map(([name, { string_value: value }]) => [name, value]);
    return { ...fusioncam, defaults: Object.fromEntries(defaults) };
  }

  /** A file from one of the service's own addresses. */
  async file(url, signal) {
    return (await this.#ask(url, { signal })).blob();
  }

  /** Throws the service's error before many bytes are sent: browsers may lose its answer with the connection. */
  refuseLarge(files, limits) {
    const most = limits.max_body - HEAD_ROOM;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    if (size > most) {
      const [has, takes] = [size, most].map((n) => n.toLocaleString("en"));
      throw new ServiceError(`${files.length > 1 ? "both photos have" : "the photo has"} ${has} bytes, the service takes ${takes}: shrink it`, 413);
    }
  }

  /** Lists the targets of a picture: figures by name, without a map. @param target What they are listed by. */
  async targets(model, files, choice, target, outputs, signal) {
    const url = `v2/models/${encodeURIComponent(model)}/infer`;
    const asked = { ...choice, target, methods: [], verify: false };
    const { headers, body } = encodeRequest(files, asked, outputs, false);
    const said = await this.#json(url, { method: "POST", headers: { ...headers, Accept: "application/json" }, body, signal });
    return Object.fromEntries(said.outputs.map((output) => [output.name, output]));
  }

  /** Explains a picture: tensors by name, and parameters. @param watch ({ tensors, parameters }): gets preliminary maps. */
  async explain(model, files, choice, figures, signal, watch) {
    const outputs = [...choice.methods, ...figures];
    const url = `v2/models/${encodeURIComponent(model)}/infer_stream`;
    const answer = await this.#ask(url, { method: "POST", ...encodeRequest(files, choice, outputs), signal });
    const found = {}; // events leave out what did not change
    let last = null;
    try {
      for await (const { kind, data } of events(answer.body)) {
        if (kind === "error") throw new ServiceError(data.error, data.status);
        Object.assign(found, tensors(data));
        const said = { tensors: { ...found }, parameters: data.parameters };
        if (kind === "answer") last = said;
        else watch(said);
      }
    } catch (error) {
      if (error instanceof TypeError) throw new ServiceError("the connection to the service was lost: try again");
      throw error;
    }
    if (!last) throw new ServiceError("the service ended before the answer: try again");
    return last;
  }

  async #json(url, options) {
    return (await this.#ask(url, options)).json();
  }

  async #ask(url, options = {}) {
    let message = "";
    for (;;) {
      const token = sessionStorage.getItem(TOKEN);
      const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
      const answer = await reached(fetch(url, { ...options, headers }));
      if (answer.ok) return answer;
      message = await refusal(answer);
      if (answer.status !== 401) throw new ServiceError(message, answer.status);
      // Another request may have asked for the token meanwhile.
      if (sessionStorage.getItem(TOKEN) === token) sessionStorage.setItem(TOKEN, await this.askToken(token !== null, message));
    }
  }
}

async function reached(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("the service cannot be reached: see whether it still runs, then try again");
  }
}

async function refusal(answer) {
  const said = await answer.json().catch(() => null);
  return String(said?.error ?? said?.detail ?? UNSAID[answer.status] ?? `the service answers ${answer.status}`);
}
