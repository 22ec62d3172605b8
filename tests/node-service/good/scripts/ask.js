// Asks the service that runs here; anything but the expected status ends the program with 1.
const http = require("node:http");
const settings = require("../dist/settings");

module.exports = (path, status = 200) =>
  new Promise((resolve) => {
    const failed = (words) => {
      console.error(`GET ${path}: ${words}`);
      process.exit(1);
    };
    const request = http.get({ host: "127.0.0.1", port: settings.PORT, path, timeout: 10000 }, (answer) => {
      let body = "";
      answer.on("data", (data) => (body += data));
      answer.on("end", () => (answer.statusCode === status ? resolve(JSON.parse(body)) : failed(answer.statusCode)));
    });
    request.on("error", (error) => failed(error.message));
    request.on("timeout", () => failed("no answer within 10 s"));
  });
