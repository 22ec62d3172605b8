// The service: work for its users, and the switches that an operator's procedure turns.
const http = require("node:http");
const { createWriteStream } = require("node:fs");
const settings = require("./settings");
const redis = require("./redis");
const database = require("./database");
const queues = require("./queues");
const metrics = require("./metrics");
const work = require("./work");

const log = createWriteStream(settings.LOG_FILE, { flags: "a" });
let requests = 0;

async function clear(pattern) {
  const keys = await redis("KEYS", pattern);
  if (keys.length > 0) await redis("DEL", ...keys);
  return [200, { cleared: keys.length }];
}

async function warm() {
  for (let project = 1; project <= 3; project++) await redis("SET", `gemini:project:${project}`, settings.release);
  return [200, { warmed: 3 }];
}

async function every(turn) {
  for (const name of queues.names) await turn(name);
  return [200, await queues.stats()];
}

// The switches: what is told of them in the journal is how the tests see their order.
async function switched(method, path) {
  const queue = /^\/api\/queue\/([a-z-]+)\/(pause|resume)$/.exec(path);
  const entry = /^\/api\/cache\/(project|analysis)\/([A-Za-z0-9_-]+)$/.exec(path);
  if (method === "DELETE" && entry) return clear(`gemini:${entry[1]}:${entry[2]}`);
  if (method !== "POST") return [404, {}];
  if (path === "/api/queue/pause-all") return every(queues.pause);
  if (path === "/api/queue/resume-all") return every(queues.resume);
  if (path === "/api/queue/clean-all") return every(queues.clean);
  if (queue && queues.names.includes(queue[1])) {
    await queues[queue[2]](queue[1]);
    return [200, {}];
  }
  if (path === "/api/cache/warm") return warm();
  if (path === "/api/maintenance/enable") return [200, await redis("SET", "shop:maintenance", "1")];
  if (path === "/api/maintenance/disable") return [200, await redis("DEL", "shop:maintenance")];
  if (path === "/api/projects") return (await redis("GET", "shop:maintenance")) ? [503, {}] : [201, {}];
  return [404, {}];
}

async function read(path) {
  if (path === "/work") {
    requests += 1;
    if (requests % 100 === 0) for (const name of queues.names) await queues.add(name, `job-${process.pid}-${requests}`);
    return [200, { work: await work() }];
  }
  if (path === "/health") return [200, { redis: await redis("PING") }];
  if (path === "/api/version") return [200, { version: settings.release }];
  if (path === "/api/projects") return [200, { projects: Number(await database("SELECT count(*) FROM projects")) }];
  if (path === "/api/analysis") return [200, { cached: (await redis("KEYS", "gemini:*")).length }];
  if (path === "/api/queue/stats") return [200, await queues.stats()];
  return undefined;
}

async function answer(request) {
  const path = new URL(request.url, "http://localhost").pathname;
  const found = request.method === "GET" ? await read(path) : undefined;
  if (found) return found;
  if (request.headers.authorization !== `Bearer ${settings.SERVICE_TOKEN}`) return [401, {}];
  const done = await switched(request.method, path);
  await redis.journal(`${request.method} ${path} ${done[0]}`);
  return done;
}

const server = http.createServer(async (request, response) => {
  if (request.url === "/metrics") return response.end(await metrics.text());
  const began = process.hrtime.bigint();
  let [status, body] = [500, {}];
  try {
    [status, body] = await answer(request);
    log.write(`INFO ${request.method} ${request.url} ${status}\n`);
  } catch (error) {
    log.write(`ERROR ${request.method} ${request.url}: ${error.message}\n`);
  }
  metrics.observe(status, Number(process.hrtime.bigint() - began) / 1e9);
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
});

process.on("SIGINT", () => redis.journal("server stopped").then(() => process.exit(0)));
server.listen(Number(settings.PORT), "127.0.0.1", () => redis.journal("server started"));
metrics.look();
