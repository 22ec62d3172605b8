// Milliseconds that a job takes: longer than pm2 waits before it kills, so a worker that is not drained is cut off.
module.exports = 2500;
