// Queues with the keys of BullMQ: jobs wait in a list, are worked on in another, and a paused queue keeps them in a third.
const redis = require("./redis");

const names = ["ai-analysis", "document-processing"];
const key = (name, list) => `bull:${name}:${list}`;
const paused = async (name) => (await redis("HGET", key(name, "meta"), "paused")) === "1";

// From one list to another, in one piece, and not if there is nothing to move.
async function turn(name, from, to, flag) {
  const script =
    "redis.call('HSET', KEYS[3], 'paused', ARGV[1]) " +
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end return 1";
  await redis("EVAL", script, 3, key(name, from), key(name, to), key(name, "meta"), flag);
}

// Where a job waits is decided in one piece with its adding, or a queue that is turned meanwhile would lose it.
async function add(name, job) {
  const script =
    "local list = redis.call('HGET', KEYS[3], 'paused') == '1' and KEYS[2] or KEYS[1] " +
    "return redis.call('LPUSH', list, ARGV[1])";
  await redis("EVAL", script, 3, key(name, "wait"), key(name, "paused"), key(name, "meta"), job);
}

async function stats() {
  const all = {};
  for (const name of names) {
    all[name] = { stopped: await paused(name), failed: await redis("ZCARD", key(name, "failed")) };
    for (const list of ["wait", "active", "paused"]) all[name][list] = await redis("LLEN", key(name, list));
  }
  return all;
}

module.exports = {
  names,
  key,
  paused,
  add,
  stats,
  pause: (name) => turn(name, "wait", "paused", "1"),
  resume: async (name) => ((await paused(name)) ? turn(name, "paused", "wait", "0") : undefined),
  clean: (name) => redis("DEL", key(name, "failed")),
};
