// What Prometheus reads: its own requests, and the figures of queues, Redis and PostgreSQL that exporters would tell.
const redis = require("./redis");
const database = require("./database");

const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 5];
const codes = { 200: 0 };
const buckets = bounds.map(() => 0);
let count = 0;
let sum = 0;
let statements = "";

function observe(code, seconds) {
  codes[code] = (codes[code] || 0) + 1;
  bounds.forEach((bound, index) => (buckets[index] += seconds <= bound ? 1 : 0));
  count += 1;
  sum += seconds;
}

// Asked now and then: starting psql at every scrape would cost more than it tells.
async function look() {
  const sql = "SELECT sum(calls), sum(total_exec_time) / 1000 FROM pg_stat_statements";
  try {
    const [calls, seconds] = (await database(sql)).split("|");
    statements = `pg_stat_statements_calls_total ${calls}\npg_stat_statements_total_time_seconds ${seconds}\n`;
  } catch (error) {
    statements = "";
  }
  setTimeout(look, 2000).unref();
}

async function text() {
  const info = await redis("INFO", "stats");
  const of = (name) => new RegExp(`${name}:(\\d+)`).exec(info)[1];
  const jobs = async (what) => (await redis("GET", `shop:jobs:${what}`)) || 0;
  return [
    ...Object.keys(codes).map((code) => `http_requests_total{code="${code}"} ${codes[code]}`),
    ...bounds.map((bound, index) => `http_request_duration_seconds_bucket{le="${bound}"} ${buckets[index]}`),
    `http_request_duration_seconds_bucket{le="+Inf"} ${count}`,
    `http_request_duration_seconds_sum ${sum}`,
    `http_request_duration_seconds_count ${count}`,
    `redis_keyspace_hits_total ${of("keyspace_hits")}`,
    `redis_keyspace_misses_total ${of("keyspace_misses")}`,
    `queue_jobs_total ${await jobs("done")}`,
    `queue_jobs_failed_total ${await jobs("failed")}`,
    statements,
  ].join("\n");
}

module.exports = { observe, look, text };
