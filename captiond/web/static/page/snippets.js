// The request that was made, for other programs. A key is never part of it.

import { BASE, TASKS } from "./api_client.js";
import { at, copy, element } from "./dom.js";

const NAMED = 3; // files that a snippet names

const service = () => BASE.href.replace(/\/$/, "");
const shell = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
const json = (value) => JSON.stringify(value);
const more = ({ names }) => names.length > NAMED ? names.length - NAMED : 0;

// curl reads a name up to a comma or semicolon unless it is in quotation marks.
function curlFile(name) {
  const quoted = /[,;"\\]/.test(name) ? `"${name.replace(/(["\\])/g, "\\$1")}"` : name;
  return `  -F ${shell(`images=@${quoted}`)} \\`;
}

function curl(request) {
  return [
    "curl \\",
    ...(request.hasKey ? ['  -H "X-API-Key: $CAPTIOND_KEY" \\'] : []),
    ...request.names.slice(0, NAMED).map(curlFile),
    ...Object.entries(request.options).map(([name, value]) => `  --form-string ${shell(`${name}=${value}`)} \\`),
    `  ${shell(`${service()}/${TASKS}`)}`,
    ...(more(request) ? [`# ${more(request)} more files: -F images=@FILE for each`] : []),
    "# It prints the id of the task. This prints the results once there are all:",
    `# curl "${service()}/${TASKS}/status/TASK_ID?wait=60"`,
  ].join("\n");
}

const listed = (request) => `[${request.names.slice(0, NAMED).map(json).join(", ")}]`;

function python(request) {
  const key = request.hasKey;
  return `${key ? "import os\n\n" : ""}import httpx

service = ${json(service())}
names = ${listed(request)}${more(request) ? `  # and ${more(request)} more` : ""}
options = ${json(request.options)}
${key ? 'headers = {"X-API-Key": os.environ["CAPTIOND_KEY"]}\n' : ""}
with httpx.Client(timeout=300${key ? ", headers=headers" : ""}) as client:
    files = [("images", open(name, "rb")) for name in names]
    accepted = client.post(f"{service}/${TASKS}", files=files, data=options)
    task_id = accepted.raise_for_status().json()["task_id"]
    status = "PENDING"
    while status in ("PENDING", "PROCESSING"):
        task = client.get(f"{service}/${TASKS}/status/{task_id}", params={"wait": 60})
        status = task.raise_for_status().json()["status"]
for result in task.json()["result"]:
    print(result["image_path"], result["caption"] or result["error"], sep=": ")`;
}

function javascript(request) {
  const headers = request.hasKey ? ", headers" : "";
  return `import { openAsBlob } from "node:fs"; // in a browser, take the files of an input field

const service = ${json(service())};
const names = ${listed(request)};${more(request) ? ` // and ${more(request)} more` : ""}
const options = ${json(request.options)};
${request.hasKey ? 'const headers = { "X-API-Key": process.env.CAPTIOND_KEY };\n' : ""}
const form = new FormData();
for (const name of names) form.append("images", await openAsBlob(name), name);
for (const [name, value] of Object.entries(options)) form.append(name, value);

async function call(path, request) {
  const response = await fetch(service + path, request);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const { task_id } = await call("/${TASKS}", { method: "POST", body: form${headers} });
let task;
do {
  task = await call(\`/${TASKS}/status/\${task_id}?wait=60\`${request.hasKey ? ", { headers }" : ""});
} while (["PENDING", "PROCESSING"].includes(task.status));
for (const each of task.result) console.log(\`\${each.image_path}: \${each.caption ?? each.error}\`);`;
}

const LANGUAGES = { curl, Python: python, JavaScript: javascript };

// Shows the request of a batch as long as the section is open.
export class Snippets {
  #request;
  #language = "curl";

  constructor() {
    const tabs = Object.keys(LANGUAGES).map((language) => {
      const tab = element("button", { type: "button", id: `tab-${language}`, onclick: () => this.#choose(language) }, language);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "snippet");
      return tab;
    });
    at("snippet-tabs").append(...tabs);
    at("snippet-tabs").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
      this.#choose(next.textContent);
      next.focus();
    });
    at("snippets").addEventListener("toggle", () => this.#draw());
    at("snippet-copy").addEventListener("click", () => copy(at("snippet").textContent, this.#language));
    this.#choose("curl");
  }

  show(request) {
    this.#request = request;
    this.#draw();
  }

  #choose(language) {
    this.#language = language;
    for (const tab of at("snippet-tabs").children) {
      const chosen = tab.textContent === language;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    at("snippet").setAttribute("aria-labelledby", `tab-${language}`);
    this.#draw();
  }

  #draw() {
    if (this.#request && at("snippets").open) at("snippet").textContent = LANGUAGES[this.#language](this.#request);
  }
}
