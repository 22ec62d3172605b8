// Milliseconds that a job takes: long enough to be cut off by whoever does not wait for it.
module.exports = 1200;
