// The front end: serves the page that was published when it was started.
const http = require("node:http");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const settings = require("./settings");

const page = readFileSync(join(settings.STATIC, "index.html"));
http.createServer((request, response) => response.end(page)).listen(Number(settings.FRONT_PORT), "127.0.0.1");
