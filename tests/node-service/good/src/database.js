// PostgreSQL by psql: this service has no dependencies, not even a driver.
const { execFile } = require("node:child_process");
const settings = require("./settings");

module.exports = (sql) =>
  new Promise((resolve, reject) => {
    const words = ["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, settings.DATABASE_URL];
    execFile(settings.PSQL, words, { timeout: 10000 }, (error, output) => (error ? reject(error) : resolve(output.trim())));
  });
