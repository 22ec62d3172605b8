// What the service is for. Each request is answered from the cache if it can be.
const redis = require("./redis");

module.exports = async () => ((await redis("GET", "gemini:project:1")) === null ? "computed" : "from the cache");
