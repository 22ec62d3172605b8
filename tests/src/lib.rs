//! Real servers, real services and real load for the tests, as child processes on this computer.
//!
//! Whatever is started here listens on a free loopback port, keeps its files in a temporary directory of its own, and
//! is killed when its handle is dropped, also when the test panics. Nothing that a machine already runs is used:
//! a Prometheus that happens to listen on 9090 belongs to somebody else.
//!
//! | to have | use |
//! | --- | --- |
//! | a Prometheus server | [`prometheus::PrometheusServer`] |
//! | an Alertmanager, or several that gossip | [`alertmanager::Alertmanager`] |
//! | a past or native histograms in it | [`remote_write::send`] |
//! | the deployed service | [`victim::Victim`], the program `victim` |
//! | several pods of two versions of it | [`arms::Arms`] |
//! | an Envoy that splits users among them | [`envoy::Envoy`] |
//! | its users | [`load::Load`] aimed at a [`load::Target`] |
//! | a witness of what an agent did | the program `effect`, read back with [`journal::read`] |
//! | a Git repository that others push to | [`git::GitServer`] |
//! | a PostgreSQL server, and a network that fails at its `COMMIT` | [`postgres::PostgresServer`], [`cutter::Cutter`] |
//! | a Redis server | [`redis::RedisServer`] |
//! | an Apache Kafka broker, a NATS server with JetStream | [`kafka::Kafka`], [`nats::Nats`] |
//! | Node processes that are kept running | [`pm2::Pm2`] |
//! | jobs of RQ and their worker | [`rq::Worker`] |
//! | an effect held back, or its answer lost | [`gate::Gate`] before any of them |
//! | one step, run as the executor does | [`steps::Rig`] |
//! | pages that change, and an nginx that keeps them | [`site::Site`] behind an [`edge::Edge`] |
//! | a Kubernetes cluster | [`kubernetes::Cluster::shared`] |
//! | any server behind a network that turns bad | [`bad_network::BadNetwork`] before it |
//! | an HTTP server whose answers get lost | [`fault_proxy::FaultProxy`] before it |
//! | Slack, GitHub and other vendors, recorded | [`vendors::Vendors`] |
//! | thousands of messages with duplicates, shuffles and poison | [`traffic`] |
//! | any other program | [`process::Process`] |
//!
//! The tests themselves are one binary, `tests/it/main.rs`, because each further one costs a link of ten seconds.

pub mod alertmanager;
pub mod arms;
pub mod bad_network;
pub mod binaries;
pub mod cutter;
pub mod daemon;
pub mod edge;
pub mod envoy;
pub mod fault_proxy;
pub mod gate;
pub mod git;
pub mod http;
pub mod journal;
pub mod kafka;
pub mod kubernetes;
pub mod load;
pub mod nats;
pub mod pm2;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod redis;
pub mod remote_write;
pub mod rq;
pub mod site;
pub mod steps;
pub mod tools;
pub mod traffic;
pub mod vendors;
pub mod victim;
pub mod wait;
