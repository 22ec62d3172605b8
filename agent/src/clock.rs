//! The clock: the one place where the agent asks what time it is, so that everything else can be told.

/// What time it is.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
