//! How all watched services are doing at once: a storm is written down, and told once.

use super::perform::fleet_record;
use super::{DispatchError, Dispatcher};
use crate::notify::Message as Telling;
use jiff::Timestamp;
use rules::ids::{EnvironmentName, ServiceName};
use rules::storm::turn;
use rules::watch::{Notice, Watch};

impl Dispatcher {
    /// Takes in how a service is doing, after a watch over it has heard something: by its newest watch, if there is one.
    pub(super) async fn see_weather(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        now: Timestamp,
    ) -> Result<(), DispatchError> {
        let over = |watch: &&Watch| {
            watch.deployment.service == *service && watch.deployment.environment == *environment
        };
        let newest = self.watches.values().filter(over).max_by_key(|watch| watch.deployment.at);
        self.weather.note(environment, service, newest.map(Watch::health), now);
        self.turn_of_weather(environment, now).await
    }

    /// Takes in how all services are doing, and draws nothing from it yet.
    pub(super) fn see_all_weather(&mut self, now: Timestamp) {
        let mut watches: Vec<&Watch> = self.watches.values().filter(|watch| !watch.is_closed()).collect();
        // The newest watch of a service is the last to be heard.
        watches.sort_by_key(|watch| watch.deployment.at);
        for watch in watches {
            let (environment, service) = (&watch.deployment.environment, &watch.deployment.service);
            self.weather.note(environment, service, Some(watch.health()), now);
        }
    }

    async fn turn_of_weather(
        &mut self,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Result<(), DispatchError> {
        let lasting = self.fleet.storm(environment);
        let found = self.weather.storm(environment, lasting.is_some(), now);
        let Some((fact, notice)) = turn(environment, lasting, found, now) else { return Ok(()) };
        self.parts.ledger.append(vec![fleet_record(&fact, now)?]).await?;
        self.fleet.apply(&fact);
        self.publish();
        if let Some(notice) = notice {
            self.tell_of_weather(environment, notice, now);
        }
        Ok(())
    }

    fn tell_of_weather(&self, environment: &EnvironmentName, notice: Notice, now: Timestamp) {
        tracing::warn!(title = %notice.title, text = %notice.text, "weather");
        self.parts.notifiers.send(Telling {
            dedup_key: format!("storm/{environment}"),
            kind: notice.kind.word(),
            severity: None,
            title: notice.title,
            text: notice.text,
            service: None,
            watch: None,
            incident: true,
            page: notice.kind.pages(),
            at: now,
            link: None,
        });
    }
}
