// The settings of the checkout: the file `.env`, a line each. Programs that npm starts see nothing of the server's environment.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const settings = {};
for (const line of readFileSync(join(__dirname, "..", ".env"), "utf8").split("\n")) {
  const at = line.indexOf("=");
  if (at > 0) settings[line.slice(0, at)] = line.slice(at + 1);
}
settings.release = JSON.parse(readFileSync(join(__dirname, "release.json"), "utf8")).version;
// The end of pm2 is the end of what it keeps running, however it ends.
process.on("disconnect", () => process.exit(0));
module.exports = settings;
