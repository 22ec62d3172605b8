// Redis over a socket: commands as arrays of words, answers in their order.
const net = require("node:net");
const settings = require("./settings");

const url = new URL(settings.REDIS_URL);
let waiting = [];
let unread = "";

// The answer at `at` of what was read, and where the next one begins; undefined if it is not whole yet.
function parse(at) {
  const end = unread.indexOf("\r\n", at);
  if (end < 0) return undefined;
  const [kind, rest, next] = [unread[at], unread.slice(at + 1, end), end + 2];
  if (kind === "+") return [rest, next];
  if (kind === "-") return [new Error(rest), next];
  if (kind === ":") return [Number(rest), next];
  const length = Number(rest);
  if (length < 0) return [null, next];
  if (kind === "$") {
    return unread.length < next + length + 2 ? undefined : [unread.slice(next, next + length), next + length + 2];
  }
  const list = [];
  let place = next;
  for (let index = 0; index < length; index++) {
    const found = parse(place);
    if (!found) return undefined;
    list.push(found[0]);
    place = found[1];
  }
  return [list, place];
}

const socket = net.connect(Number(url.port), url.hostname);
socket.setEncoding("latin1");
socket.on("data", (data) => {
  unread += data;
  for (let found = parse(0); found; found = parse(0)) {
    unread = unread.slice(found[1]);
    const { resolve, reject } = waiting.shift();
    found[0] instanceof Error ? reject(found[0]) : resolve(found[0]);
  }
});
// pm2 starts it again.
socket.on("close", () => process.exit(1));
socket.on("error", (error) => console.error("Redis:", error.message));

function redis(...words) {
  const text = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join("");
  return new Promise((resolve, reject) => {
    waiting.push({ resolve, reject });
    socket.write(`*${words.length}\r\n${text}`);
  });
}

redis("AUTH", decodeURIComponent(url.password)).catch((error) => {
  console.error("Redis:", error.message);
  process.exit(1);
});
redis.journal = (what) => redis("RPUSH", "shop:journal", `${settings.release} ${what}`);
redis.end = () => socket.destroy();
module.exports = redis;
