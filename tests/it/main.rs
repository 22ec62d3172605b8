//! All integration tests in one binary, for each further binary costs a link of ten seconds; only what is measured by the
//! clock has its own, in `tests/quiet`.

mod alertmanager;
mod analyze;
mod arms;
mod browser;
mod canary;
mod contract;
mod crash;
mod deploy;
mod edge;
mod fuzz;
mod git;
mod hooks;
mod hostile;
mod injection;
mod intake;
mod kubernetes;
mod native;
mod practice;
mod redis;
mod road;
mod runbooks;
mod servers;
mod sql;
mod tidy;
