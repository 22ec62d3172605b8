// What pm2 keeps running. The front end has a checkout of its own.
module.exports = {
  apps: [
    { name: "api", script: "dist/server.js", cwd: __dirname },
    { name: "queue-worker", script: "dist/worker.js", cwd: __dirname },
    { name: "frontend", script: "dist/front.js", cwd: __dirname + "/../front" },
  ],
};
