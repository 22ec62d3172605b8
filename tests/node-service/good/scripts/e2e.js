// End-to-end tests: the release that was checked out is the one that answers, and it has its rows.
const ask = require("./ask");
const wanted = require("../release.json").version;

(async () => {
  const { version } = await ask("/api/version");
  const { projects } = await ask("/api/projects");
  if (version !== wanted || projects < 1) {
    console.error(`version ${version} instead of ${wanted}, ${projects} projects`);
    process.exit(1);
  }
  console.log("end-to-end tests passed:", process.argv.slice(2).join(" "));
})();
