// What pm2 keeps running.
module.exports = {
  apps: [
    { name: "api", script: "dist/server.js", cwd: __dirname },
    { name: "queue-worker", script: "dist/worker.js", cwd: __dirname },
  ],
};
