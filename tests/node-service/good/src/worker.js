// Works on the queues' jobs, one at a time, and finishes what it has begun when it is told to stop.
const redis = require("./redis");
const queues = require("./queues");
const pace = require("./pace");

let stopping = false;
process.on("SIGINT", () => (stopping = true));

async function next(name) {
  if (await queues.paused(name)) return false;
  const job = await redis("RPOPLPUSH", queues.key(name, "wait"), queues.key(name, "active"));
  if (job === null) return false;
  await new Promise((done) => setTimeout(done, pace));
  await redis("LREM", queues.key(name, "active"), 1, job);
  await redis("INCR", "shop:jobs:done");
  return true;
}

async function run() {
  await redis.journal("worker started");
  while (!stopping) {
    let worked = false;
    for (const name of queues.names) worked = (await next(name)) || worked;
    if (!worked) await new Promise((done) => setTimeout(done, 100));
  }
  await redis.journal("worker stopped");
  process.exit(0);
}

run();
