//! All integration tests in one binary: each further binary would cost a link of ten seconds.

mod servers;
mod tidy;
