// The build: what runs is `dist`, and what is published is `.next/static`, so that a checkout alone changes nothing.
const { cpSync, mkdirSync, rmSync, writeFileSync } = require("node:fs");
const { version } = require("../release.json");

rmSync("dist", { recursive: true, force: true });
cpSync("src", "dist", { recursive: true });
cpSync("release.json", "dist/release.json");
mkdirSync(".next/static", { recursive: true });
writeFileSync(".next/static/index.html", `<title>shop ${version}</title>\n`);
console.log("built", version);
