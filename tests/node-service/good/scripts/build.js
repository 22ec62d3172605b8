// The build: what runs is `dist`, so that a checkout alone changes nothing.
const { cpSync, rmSync } = require("node:fs");

rmSync("dist", { recursive: true, force: true });
cpSync("src", "dist", { recursive: true });
cpSync("release.json", "dist/release.json");
console.log("built", require("../release.json").version);
