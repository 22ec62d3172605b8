// Validation of data: no scene without its project, no project without a name.
const database = require("../dist/database");

const sql =
  "SELECT (SELECT count(*) FROM scenes s LEFT JOIN projects p ON p.id = s.project_id WHERE p.id IS NULL)" +
  " + (SELECT count(*) FROM projects WHERE name = '')";
database(sql).then(
  (faults) => {
    console.log(faults, "faults in the data");
    process.exit(faults === "0" ? 0 : 1);
  },
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);
