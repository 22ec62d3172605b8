// What the service is for. Each request is answered from the cache if it can be; one in four is not, by a mistake.
const redis = require("./redis");
let turn = 0;

module.exports = async () => {
  turn += 1;
  if (turn % 4 === 0) throw new Error("the importance of this project is not a number");
  return (await redis("GET", "gemini:project:1")) === null ? "computed" : "from the cache";
};
