// Smoke tests: every part answers, and work succeeds twenty times in a row.
const ask = require("./ask");

(async () => {
  for (const path of ["/health", "/api/version", "/api/projects", "/api/queue/stats"]) await ask(path);
  for (let turn = 0; turn < 20; turn++) await ask("/work");
  console.log("smoke tests passed:", process.argv.slice(2).join(" "));
})();
