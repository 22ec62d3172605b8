//! All integration tests in one binary: each further binary would cost a link of ten seconds.

mod alertmanager;
mod analyze;
mod arms;
mod browser;
mod canary;
mod contract;
mod crash;
mod deploy;
mod detect_path;
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
mod pushed;
mod redis;
mod road;
mod runbooks;
mod servers;
mod sql;
mod tidy;
