/** A request of the page as code: curl or Python. */

const TOKEN = "perceptd token";

/** A curl command. It runs `perceptd token`, so the token is not in the code. */
export async function curl(request) {
  const { method, path, type, headers, secured } = request;
  const lines = [`curl -s${method === "GET" ? "" : ` -X ${method}`} ${quoted(absolute(path))}`];
  if (secured) lines.push(`-H "Authorization: Bearer $(${TOKEN})"`);
  if (type) lines.push(`-H ${quoted(`Content-Type: ${type}`)}`);
  for (const [name, value] of Object.entries(headers))
    lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (request.body instanceof Blob) {
    lines.push("--data-binary @-");
    return `base64 -d <<'END' | ${lines.join(" \\\n  ")}\n${await base64(request.body)}\nEND`;
  }
  if (request.body !== undefined) lines.push(`-d ${quoted(request.body)}`);
  return lines.join(" \\\n  ");
}

/** A Python script with httpx. */
export async function python(request) {
  const { method, path, type, headers, secured } = request;
  const before = ["import httpx"];
  const headerItems = Object.entries(headers).map(
    ([name, value]) => `${literal(name)}: ${literal(value)}`,
  );
  if (secured) {
    before.unshift("import subprocess", "");
    before.push(
      "",
      `token = subprocess.check_output(${literal(TOKEN.split(" "))}, text=True).strip()`,
    );
    headerItems.push('"Authorization": f"Bearer {token}"');
  }
  const parameters = [literal(method), literal(absolute(path))];
  if (request.body instanceof Blob) {
    before.unshift("import base64");
    before.push("", `picture = base64.b64decode("""\n${await base64(request.body)}\n""")`);
    parameters.push("content=picture");
    headerItems.push(`"Content-Type": ${literal(type)}`);
  } else if (request.body !== undefined) {
    parameters.push(`json=${literal(JSON.parse(request.body))}`);
  }
  if (headerItems.length) parameters.push(`headers={${headerItems.join(", ")}}`);
  const call = `response = httpx.request(\n    ${parameters.join(",\n    ")},\n)`;
  return `${before.join("\n")}\n\n${call}\nprint(response.text)`;
}

const absolute = (path) => new URL(path, document.baseURI).href.replace(/#.*/, "");
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A JSON value as a Python literal. */
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([key, one]) => `${literal(key)}: ${literal(one)}`);
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value);
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replace(/.{76}/g, "$&\n");
}
