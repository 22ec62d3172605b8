//! All integration tests in one binary: each further binary would cost a link of ten seconds.

mod analyze;
mod arms;
mod browser;
mod canary;
mod contract;
mod crash;
mod deploy;
mod edge;
mod git;
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
