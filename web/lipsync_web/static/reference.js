// Shows the OpenAPI document of this service as a page.

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

const api = await (await fetch("openapi.json")).json();
const find = (item) => item.$ref ? item.$ref.slice(2).split("/").reduce((at, key) => at[key], api) : item;

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const range = "minimum" in schema ? `, ${schema.minimum} to ${schema.maximum}` : "";
  if (schema.enum) return schema.enum.map((value) => value ?? "null").join(" | ");
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return [schema.type].flat().join(" or ") + range;
}

function table(rows) {
  const body = element("tbody");
  for (const cells of rows) body.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  return element("div", { className: "wide" }, element("table", {}, body));
}

const code = (text) => element("code", { textContent: text });

function operation(method, path, about) {
  const section = element("section", { id: about.operationId });
  section.append(element("h2", {}, element("b", {}, method.toUpperCase()), " ", code(path)));
  section.append(element("p", {}, about.description ? `${about.summary}. ${about.description}` : `${about.summary}.`));
  const parameters = about.parameters.map(find);
  if (parameters.length) {
    section.append(element("h3", {}, "Parameters"), table(parameters.map((parameter) => [
      code(parameter.name), parameter.in, kind(parameter.schema), parameter.description ?? "",
    ])));
  }
  const bodies = Object.entries(about.requestBody?.content ?? {});
  if (bodies.length) {
    section.append(element("h3", {}, "Body"), table(bodies.map(([type, content]) => {
      const schema = find(content.schema);
      return [code(type), schema.properties ? Object.keys(schema.properties).join(", ") : "the audio file"];
    })));
  }
  section.append(element("h3", {}, "Responses"), table(Object.entries(about.responses).map(([status, response]) => [
    code(status), response.description, Object.keys(response.content ?? {}).join(", "),
  ])));
  return section;
}

const page = document.getElementById("operations");
page.replaceChildren(element("p", {}, api.info.description));
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, about] of Object.entries(methods)) page.append(operation(method, path, about));
}
for (const name of ["Job", "Avatar", "Problem"]) {
  page.append(element("section", {}, element("h2", {}, name), table(
    Object.entries(api.components.schemas[name].properties).map(([property, schema]) => [
      code(property), kind(schema), schema.description ?? "",
    ]))));
}
