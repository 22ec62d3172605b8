//! A channel to nobody: it collects what people would have been told, so that it can be counted.

use crate::notify::{Message, Notifier, NotifyError};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};

/// What was told so far. Clones share it.
#[derive(Clone, Default)]
pub struct Notices {
    told: Arc<Mutex<Vec<Message>>>,
}

impl Notices {
    /// The messages about one watch, oldest first.
    pub fn about(&self, watch: &str) -> Vec<Message> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|message| message.watch.as_deref() == Some(watch)).cloned().collect()
    }
}

#[async_trait]
impl Notifier for Notices {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        Ok(())
    }

    fn name(&self) -> &str {
        "demo"
    }
}
