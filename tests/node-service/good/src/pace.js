// Milliseconds that a job takes.
module.exports = 30;
